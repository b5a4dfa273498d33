"""``featherweight demo``: the whole job on scikit-learn's bundled digits."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from featherweight.cli.console import messages, say
from featherweight.cli.run import add_json, execute, report
from featherweight.cli.training_options import add_quiet

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "--output", "-o", metavar="DIR", default="demo", help="directory for everything; ./demo unless given"
    )
    parser.add_argument("--force", action="store_true", help="replace an earlier demo")
    add_quiet(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Follow the run file that comes with the package."""
    if not args.quiet:
        say("LeNet-300-100 on handwritten digits: fit, prune, share, encode, test", console=messages())
    from featherweight.training.run import Run
    from featherweight.training.spec import RunSpec

    with as_file(files("featherweight") / "recipes" / "demo.yaml") as path:
        spec = RunSpec.load(path)
    job = Run.create(spec, Path(args.output), replace=args.force)
    report(job, execute(job, quiet=args.quiet), as_json=args.json)
