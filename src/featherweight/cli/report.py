"""``featherweight report``: one page about a run or a file, to look at in a browser, offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from featherweight.cli.arguments import add_output, check_output
from featherweight.cli.console import progress, say
from featherweight.cli.training_options import add_quiet, log_to_stderr

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "source", type=Path, metavar="RUN_DIR|FILE.fwt", help="the directory of a run, or a file"
    )
    add_output(parser, "report.html")
    add_quiet(parser)


def run(args: Namespace) -> None:
    """Write the page."""
    from featherweight.analysis.report import write_report

    check_output(args.output, force=args.force)
    with log_to_stderr():
        size = write_report(
            args.source,
            args.output,
            overwrite=args.force,
            progress=lambda total: progress("reading", total, quiet=args.quiet),
        )
    say(f"{args.output}: {size:,} bytes; open it in a browser")
