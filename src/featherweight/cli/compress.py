"""``featherweight compress``: any checkpoint into a ``.fwt`` file, without training.

A transformers model's directory becomes another one, with ``model.fwt`` in the place of its weights.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import featherweight as fw
from featherweight.analysis.text import times
from featherweight.cli.arguments import UsageError, add_output, check_output
from featherweight.cli.console import messages, print_json, progress, say
from featherweight.cli.training_options import add_data_root, add_quiet, use_data_root
from featherweight.coding import CODER_CHOICES
from featherweight.default_recipe import CONVOLUTION_BITS, MATRIX_BITS, default_recipe

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator, Mapping

    import torch

    from featherweight.lazy import LazyTensors
    from featherweight.tensors import QuantizedTensor

#: Bits that are chosen for each tensor.
AUTO = "auto"

#: Training images that biases and batch normalisation are corrected on, unless given.
INPUTS = 1024


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="CKPT",
        help="a .safetensors file, the index of its shards or their directory, a PyTorch checkpoint, or the "
        "directory of a transformers model",
    )
    add_output(parser, "FILE.fwt|DIR", "the file to write; of a model's directory, a directory like it")
    parser.add_argument(
        "--recipe", type=Path, metavar="F", help="what to do with which tensor: YAML, JSON or a rule file"
    )
    parser.add_argument(
        "--sparsity", type=_fraction, metavar="S", help="fraction of each layer's weights to prune"
    )
    parser.add_argument(
        "--bits",
        type=_bits,
        metavar="B",
        help=f"bits of a shared weight, 1 to 8, or {AUTO}: chosen for each tensor under --target-bits or "
        f"--target-size; unless given {CONVOLUTION_BITS} in convolutions, {MATRIX_BITS} in matrices",
    )
    parser.add_argument(
        "--target-bits", type=float, metavar="T", help="with --bits auto: coded bits a weight, on average"
    )
    parser.add_argument(
        "--target-size", metavar="SIZE", help="with --bits auto: of the file, such as 100KB or 64KiB"
    )
    parser.add_argument(
        "--coder", choices=CODER_CHOICES, help="how to code the shared weights; the recipe's unless given"
    )
    parser.add_argument(
        "--config",
        "-c",
        type=Path,
        metavar="F",
        help="a run file, or a configuration for fit, that names the network and its data: biases and "
        "batch-norm statistics are corrected on training images, and --bits auto is judged on them",
    )
    parser.add_argument(
        "--inputs",
        type=_count,
        metavar="N",
        help=f"with --config: how many training images; {INPUTS:,} unless given",
    )
    add_data_root(parser)
    add_quiet(parser)
    parser.add_argument("--json", action="store_true", help="print sizes as JSON")


def run(args: Namespace) -> None:
    """Read, compress and write one tensor after another, and tell what came of it."""
    from featherweight.interop.checkpoints import checkpoint_bytes, open_checkpoint
    from featherweight.interop.model_directory import find_weights, is_model_directory

    if args.recipe is not None and (args.sparsity is not None or args.bits is not None):
        raise UsageError("--recipe says how to prune and quantize; leave out --sparsity and --bits")
    if args.config is None and (args.inputs is not None or args.data_root is not None):
        raise UsageError("--inputs and --data-root go with --config, which names the network and its data")
    budget = _budget(args)
    recipe = fw.Recipe.load(args.recipe) if args.recipe is not None else None
    checkpoint = find_weights(args.checkpoint) if is_model_directory(args.checkpoint) else args.checkpoint
    before = checkpoint_bytes(checkpoint)
    with open_checkpoint(checkpoint) as state, _destination(args) as (target, left_out):
        if recipe is None:
            recipe = default_recipe(checkpoint, state.specs, args.sparsity, args.bits, budget)
        if args.coder is not None:
            recipe = with_coder(recipe, args.coder)
        how = _with_inputs if args.config is not None else _without_data
        size = how(args, state, recipe, target)
        dense = state.dense_bytes
    _report(args, before, size, dense)
    if left_out and not args.quiet:
        say(f"left out: {', '.join(left_out)}", console=messages())


@contextmanager
def _destination(args: Namespace) -> Iterator[tuple[Path, list[str]]]:
    """Where the file goes, and what of a model's directory is not taken along."""
    from featherweight.interop.model_directory import is_model_directory

    if not is_model_directory(args.checkpoint) or args.output.suffix == ".fwt":
        check_output(args.output, force=args.force)
        yield args.output, []
        return
    from featherweight.hf.directories import compressed_directory

    with compressed_directory(args.checkpoint, args.output, overwrite=args.force) as made:
        yield made


def _without_data(args: Namespace, state: LazyTensors[torch.Tensor], recipe: fw.Recipe, target: Path) -> int:
    """Write one tensor after another; the bytes of the file."""
    from featherweight.lazy import WatchedTensors

    if recipe.undecided:
        with progress("choosing bits", len(state.distinct), quiet=args.quiet) as advance:
            recipe = fw.choose_bits(state, recipe, progress=lambda *_: advance())
    tensors = fw.compress_lazily(state, recipe)
    with progress("compressing", len(state.distinct), quiet=args.quiet) as advance:
        watched = WatchedTensors(tensors, lambda _: advance())
        return _write(args, watched, recipe, target)


def _with_inputs(args: Namespace, state: LazyTensors[torch.Tensor], recipe: fw.Recipe, target: Path) -> int:
    """Write the tensors of a network whose outputs are set right on training images."""
    from torch.nn.functional import cross_entropy

    from featherweight.files import load_state
    from featherweight.training.calibration import first_batches
    from featherweight.training.run import check_shapes
    from featherweight.training.spec import read_model_and_data

    use_data_root(args)
    model, data = read_model_and_data(args.config)
    network, images = model.create(), data.create()
    load_state(network, dict(state), str(args.checkpoint))
    network.eval()
    check_shapes(network, images)
    batches = first_batches(images, args.inputs or INPUTS)
    if recipe.undecided:
        with progress("choosing bits", len(state.distinct), quiet=args.quiet) as advance:
            recipe = fw.choose_bits(
                network, recipe, data=batches, loss=cross_entropy, progress=lambda *_: advance()
            )
    with progress("compressing", len(state.distinct), quiet=args.quiet) as advance:
        tensors = fw.compress(network, recipe, data=batches, progress=lambda _: advance())
    return _write(args, tensors, recipe, target)


def _write(
    args: Namespace,
    tensors: Mapping[str, torch.Tensor | QuantizedTensor],
    recipe: fw.Recipe,
    target: Path,
) -> int:
    return fw.save_file(tensors, target, coder=recipe.code.coder, overwrite=args.force)


def _report(args: Namespace, before: int, size: int, dense: int) -> None:
    if args.json:
        print_json(
            {
                "checkpoint": str(args.checkpoint),
                "checkpoint_bytes": before,
                "file": str(args.output),
                "bytes": size,
                "dense_bytes": dense,
                "ratio": dense / size,
            }
        )
    else:
        smaller = f"{times(dense / size)} smaller than dense"
        say(f"{args.output}: {size:,} bytes, {smaller} ({args.checkpoint}: {before:,} bytes)")


def with_coder(recipe: fw.Recipe, coder: str) -> fw.Recipe:
    """The same recipe with another coder for every rule."""
    rules = tuple(replace(rule, code=None) for rule in recipe.rules)
    return replace(recipe, rules=rules, code=fw.Code(coder))


def _budget(args: Namespace) -> fw.Budget | None:
    """What ``--bits auto`` may cost."""
    given = args.target_bits is not None, args.target_size is not None
    if args.bits == AUTO and sum(given) != 1:
        raise UsageError("--bits auto needs one of --target-bits (a weight) and --target-size (of the file)")
    if args.bits != AUTO and any(given):
        raise UsageError("--target-bits and --target-size go with --bits auto; a recipe has its own budget")
    return fw.Budget(size=args.target_size, mean_bits=args.target_bits) if args.bits == AUTO else None


def _bits(text: str) -> str | int:
    if text == AUTO:
        return AUTO
    if text.isdecimal() and 1 <= int(text) <= 8:
        return int(text)
    raise ArgumentTypeError(f"expected a whole number from 1 to 8, or {AUTO}, got {text!r}")


def _count(text: str) -> int:
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"expected a fraction from 0 to 1, got {text!r}")
    return value
