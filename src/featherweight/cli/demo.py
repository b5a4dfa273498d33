"""``featherweight demo``: the whole job on scikit-learn's bundled digits."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from featherweight.cli.console import console, quiet_option
from featherweight.cli.run import clear_run, execute

if TYPE_CHECKING:
    import argparse

EXAMPLE = """example:
  featherweight demo --output /tmp/demo"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--output", "-o", metavar="DIR", default="demo", help="directory for everything; ./demo")
    parser.add_argument("--force", action="store_true", help="replace an earlier demo")
    quiet_option(parser)


def run(args: argparse.Namespace) -> int:
    """Run the bundled run file."""
    from featherweight.training.run import Run
    from featherweight.training.spec import RunSpec

    out = console(args.quiet)
    out.print("LeNet-300-100 on 1,797 handwritten digits: fit, prune, share, encode, verify, test\n")
    with as_file(files("featherweight") / "recipes" / "demo.yaml") as path:
        spec = RunSpec.load(path)
    directory = Path(args.output)
    if args.force:
        clear_run(directory)
    execute(Run.create(spec, directory), out)
    return 0
