"""What ``featherweight convert`` does where the target is an ONNX file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featherweight.cli.arguments import UsageError
from featherweight.cli.console import say
from featherweight.errors import RecipeError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from featherweight.interop.onnx import InputSpec

#: Options that say nothing about other targets, by the name that argparse gives them.
_OPTIONS = {"config": "--config", "weights": "--weights", "input": "--input", "batch": "--batch"}


def add_onnx_arguments(parser: ArgumentParser) -> None:
    """Declare the options of ONNX files."""
    group = parser.add_argument_group("ONNX files")
    group.add_argument(
        "--config",
        "-c",
        metavar="F",
        help="a run file, or a configuration for fit: names the model, and the data whose images it takes",
    )
    group.add_argument(
        "--weights",
        choices=("floats", "indices"),
        help="floats, unless given; indices and codebooks take a quarter of the bytes",
    )
    group.add_argument(
        "--input",
        action="append",
        metavar="SHAPE",
        help="of one input without the batch, such as 3,32,32 or 16:int64; once for each input; that of the "
        "data's images unless given",
    )
    group.add_argument("--batch", type=int, metavar="N", help="size of every batch; any unless given")


def refuse_onnx_options(args: Namespace) -> None:
    """Options of ONNX files with another target are a mistake.

    Raises:
        UsageError: naming the first.
    """
    for name, option in _OPTIONS.items():
        if getattr(args, name) is not None:
            raise UsageError(f"{option} goes with an output named *.onnx, not {args.target}")


def convert_to_onnx(args: Namespace, source_bytes: int) -> None:
    """Make the network, load the file into it, write and check the graph, and tell its size.

    Raises:
        UsageError: without ``--config``, or with options of other targets.
        RecipeError: where the configuration names no network, or not what it takes.
        FeatherweightError: where the file does not fit the network, or it cannot be exported.
    """
    if args.coder is not None:
        raise UsageError("--coder goes with an output named *.fwt")
    if args.config is None:
        raise UsageError("an ONNX file holds the network itself: name its class with --config F")
    if args.batch is not None and args.batch < 1:
        raise UsageError(f"--batch must be at least 1, got {args.batch}")
    import torch

    from featherweight.interop.conversion import load_network, read_layers
    from featherweight.interop.extras import require
    from featherweight.interop.onnx import PACKAGES, export_onnx
    from featherweight.training.spec import read_model

    require("onnx", PACKAGES, "writing ONNX")
    spec = read_model(args.config)
    network = spec.create()
    if not isinstance(network, torch.nn.Module):
        raise RecipeError(f"{args.config}: model: {spec.class_path} makes no torch.nn.Module")
    inputs = _inputs(args)
    layers = None if args.layers is None else read_layers(args.layers)
    load_network(network, args.source, layers)
    done = export_onnx(
        network,
        args.target,
        inputs,
        weights=args.weights or "floats",
        batch=args.batch,
        overwrite=args.force,
    )
    say(
        f"{args.target}: {done.bytes:,} bytes ({args.source}: {source_bytes:,} bytes), "
        f"outputs within {done.difference:.1g} of PyTorch's"
    )


def _inputs(args: Namespace) -> list[InputSpec]:
    """What the network takes, as ``--input`` says or as the data's images are."""
    from featherweight.interop.onnx import InputSpec
    from featherweight.training.spec import read_model_and_data

    if args.input is not None:
        return [InputSpec.parse(text) for text in args.input]
    try:
        _, data = read_model_and_data(args.config)
    except RecipeError as error:
        raise RecipeError(f"{error}; or tell what the network takes with --input, such as 3,32,32") from None
    shape = getattr(data.create(), "input_shape", None)
    if shape is None:
        raise RecipeError(
            f"{args.config}: data: {data.class_path} has no input_shape; tell what the network takes with "
            f"--input, such as 3,32,32"
        )
    return [InputSpec(tuple(shape))]
