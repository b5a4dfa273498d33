"""``featherweight test-file``: accuracy of a compressed file, straight from the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from featherweight.cli.console import console, data_root_option

if TYPE_CHECKING:
    import argparse

EXAMPLE = """example:
  featherweight test-file runs/lenet300-mnist/lenet300-mnist.fwt --config recipes/lenet300-mnist.yaml"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", help="a .fwt file")
    parser.add_argument(
        "--config", "-c", required=True, help="run file, or configuration of fit, that names model and data"
    )
    parser.add_argument("--device", default="cpu", help="where to compute; cpu unless given")
    parser.add_argument("--json", action="store_true", help="print error_percent, loss, examples, file_bytes")
    data_root_option(parser)


def run(args: argparse.Namespace) -> int:
    """Load the file into the model and test it on the test images."""
    from featherweight.files import load_model
    from featherweight.training.evaluate import evaluate
    from featherweight.training.spec import read_model_and_data

    model, data = read_model_and_data(args.config)
    network = load_model(model.create(), args.file)
    result = evaluate(network, data.create().test_batches(), args.device)
    size = Path(args.file).stat().st_size
    out = console()
    if args.json:
        figures = {
            "error_percent": result.error_percent,
            "loss": result.loss,
            "examples": result.examples,
            "file_bytes": size,
        }
        print(json.dumps(figures))  # noqa: T201  (JSON is for programs: no rich, no wrapping)
    else:
        out.print(
            f"{args.file}: {result.error_percent:.2f} % error, loss {result.loss:.4f}, "
            f"{result.examples:,} images, {size:,} bytes",
            highlight=False,
            soft_wrap=True,
        )
    return 0
