"""``featherweight compare``: files of one network side by side, with the errors of their weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from featherweight.cli.arguments import UsageError
from featherweight.cli.console import output, print_json, progress, say
from featherweight.cli.training_options import add_data_root, add_quiet, use_data_root

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from featherweight.analysis.side_by_side import SideBySide, Tested


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help=".fwt, .safetensors (or the index of its shards) or PyTorch checkpoint; two or more",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        help="what the weights of the others are compared with; the first file unless given",
    )
    parser.add_argument(
        "--config", "-c", metavar="F", help="a run file: the model and the data to test each file on"
    )
    parser.add_argument("--device", default="cpu", help="where to test; cpu unless given")
    parser.add_argument("--json", action="store_true", help="print JSON, every tensor by itself")
    add_data_root(parser)
    add_quiet(parser)


def run(args: Namespace) -> None:
    """Compare the files, and test them if there is a configuration."""
    from featherweight.analysis.side_by_side import compare_files
    from featherweight.interop.checkpoints import open_checkpoint

    paths = _paths(args)
    with open_checkpoint(paths[0]) as reference:
        total = len(reference)
    with progress("comparing", total, quiet=args.quiet or args.json) as advance:
        found = compare_files(paths, advance)
    if args.config is not None:
        use_data_root(args)
        found = found.with_tests(_test_all(paths, args))
    if args.json:
        print_json(found.to_dict())
    else:
        _show(found)


def _paths(args: Namespace) -> list[Path]:
    """The files, the reference first."""
    paths = list(args.files)
    if args.reference is not None:
        paths = [args.reference, *(path for path in paths if path != args.reference)]
    if len(paths) < 2:
        raise UsageError("one file has nothing to be compared with; give two or more")
    return paths


def _test_all(paths: list[Path], args: Namespace) -> list[Tested]:
    from featherweight.analysis.side_by_side import Tested
    from featherweight.errors import CheckpointError
    from featherweight.files import load_state
    from featherweight.interop.checkpoints import read_checkpoint
    from featherweight.training.evaluate import evaluate
    from featherweight.training.spec import read_model_and_data

    model, data = read_model_and_data(args.config)
    batches = data.create().test_batches()
    tested = []
    with progress("testing", len(paths), quiet=args.quiet or args.json) as advance:
        for path in paths:
            network = model.create()
            try:
                load_state(network, read_checkpoint(path), str(path))
            except CheckpointError as error:
                tested.append(Tested(problem=str(error)))
            else:
                result = evaluate(network, batches, args.device)
                tested.append(Tested(result.error_percent, result.loss, result.examples))
            advance()
    return tested


def _show(found: SideBySide) -> None:
    from featherweight.analysis.side_by_side_tables import file_table, remarks, tensor_tables

    out = output()
    out.print(file_table(found))
    for table in tensor_tables(found):
        out.print()
        out.print(table)
    out.print()
    say("bytes of each tensor in its file; dB: how far its weights are from A's,", style="dim", console=out)
    say("10 log10 of the sum of squares over that of the differences (SQNR)", style="dim", console=out)
    for line in remarks(found):
        say(line, console=out)
