"""``featherweight test-file``: accuracy of a compressed file, straight from the file."""

from __future__ import annotations

from operator import length_hint
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from featherweight.cli.console import print_json, progress, say
from featherweight.cli.training_options import add_data_root, add_quiet, use_data_root

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator

_Batch = TypeVar("_Batch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("file", metavar="FILE.fwt", help="the file to test")
    parser.add_argument(
        "--config",
        "-c",
        metavar="F",
        required=True,
        help="a run file, or a configuration for fit: what names the model and the data",
    )
    parser.add_argument("--device", default="cpu", help="where to compute; cpu unless given")
    parser.add_argument(
        "--json", action="store_true", help="print error_percent, loss, examples and file_bytes as JSON"
    )
    add_data_root(parser)
    add_quiet(parser)


def run(args: argparse.Namespace) -> None:
    """Load the file into the model and test it on the test images."""
    from featherweight.files import load_model
    from featherweight.training.evaluate import evaluate
    from featherweight.training.spec import read_model_and_data

    use_data_root(args)
    model, data = read_model_and_data(args.config)
    network = load_model(model.create(), args.file)
    batches = data.create().test_batches()
    with progress("testing", length_hint(batches, 1), quiet=args.quiet) as advance:
        result = evaluate(network, _each(batches, advance), args.device)
    size = Path(args.file).stat().st_size
    if args.json:
        print_json(
            {
                "error_percent": result.error_percent,
                "loss": result.loss,
                "examples": result.examples,
                "file_bytes": size,
            }
        )
    else:
        say(
            f"{args.file}: {result.error_percent:.2f} % error, loss {result.loss:.4f} "
            f"on {result.examples:,} images, {size:,} bytes"
        )


def _each(batches: Iterable[_Batch], advance: Callable[[], None]) -> Iterator[_Batch]:
    for batch in batches:
        yield batch
        advance()
