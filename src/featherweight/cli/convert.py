"""``featherweight convert``: one kind of file into another, bit for bit, or into an ONNX graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from featherweight.cli.arguments import UsageError, check_output
from featherweight.cli.console import progress, say
from featherweight.cli.convert_onnx import add_onnx_arguments, convert_to_onnx, refuse_onnx_options
from featherweight.cli.training_options import add_quiet
from featherweight.coding import CODER_CHOICES

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "source",
        type=Path,
        metavar="IN",
        help=".fwt, .net, .safetensors (or the index of its shards) or PyTorch file",
    )
    parser.add_argument(
        "target", type=Path, metavar="OUT", help="*.fwt, *.net, *.onnx, *.safetensors, *.pt, *.pth"
    )
    parser.add_argument(
        "--layers",
        metavar="F",
        help="layers of a .net file: squeezenet, alexnet, or a YAML file with name, shape and bits of each",
    )
    parser.add_argument(
        "--coder", choices=CODER_CHOICES, help="how to code the shared weights of a .fwt file"
    )
    parser.add_argument("--force", action="store_true", help="overwrite OUT if it exists")
    add_quiet(parser)
    add_onnx_arguments(parser)


def run(args: Namespace) -> None:
    """Read, write, and tell both sizes."""
    from featherweight.coding import DEFAULT_CODER
    from featherweight.interop.checkpoints import checkpoint_bytes
    from featherweight.interop.conversion import TARGET_SUFFIXES, convert, read_layers

    known = (*TARGET_SUFFIXES, ".onnx")
    if args.target.suffix not in known:
        raise UsageError(f"{args.target}: name the output {', '.join('*' + s for s in known)}")
    check_output(args.target, force=args.force)
    before = checkpoint_bytes(args.source)
    if args.target.suffix == ".onnx":
        convert_to_onnx(args, before)
        return
    refuse_onnx_options(args)
    layers = None if args.layers is None else read_layers(args.layers)
    size = convert(
        args.source,
        args.target,
        layers=layers,
        coder=args.coder or DEFAULT_CODER,
        overwrite=args.force,
        progress=lambda total: progress("converting", total, quiet=args.quiet),
    )
    say(f"{args.target}: {size:,} bytes ({args.source}: {before:,} bytes)")
