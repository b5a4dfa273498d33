"""``featherweight run``: fit, prune, share, encode, verify and test, as one file says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, overload

from featherweight.cli.arguments import UsageError
from featherweight.cli.console import messages, output, say
from featherweight.cli.training_options import (
    add_data_root,
    add_quiet,
    log_to_stderr,
    silence_lightning,
    use_data_root,
)
from featherweight.errors import Interrupted, RecipeError

if TYPE_CHECKING:
    import argparse

    from featherweight.analysis.results import Result, Validation
    from featherweight.training.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("recipe", nargs="?", help="run file (YAML or JSON): model, data, phases and recipe")
    parser.add_argument(
        "--output", "-o", metavar="DIR", help="directory for everything; runs/NAME unless given"
    )
    parser.add_argument("--resume", metavar="DIR", help="go on with a run that was stopped")
    parser.add_argument("--force", action="store_true", help="start anew in a directory that holds a run")
    parser.add_argument(
        "--no-test",
        action="store_true",
        help="leave the test set unread: the file's error is of the validation images, in validation.json; "
        "--resume DIR tests later",
    )
    add_data_root(parser)
    add_quiet(parser)


def run(args: argparse.Namespace) -> None:
    """Start a run, or go on with one."""
    use_data_root(args)
    job = _job(args)
    report(job, execute(job, quiet=args.quiet, test=not args.no_test))


def _job(args: argparse.Namespace) -> Run:
    from featherweight.training.run import Run
    from featherweight.training.spec import RunSpec

    if args.resume is not None:
        job = Run.resume(Path(args.resume))
        if args.recipe is not None and RunSpec.load(args.recipe) != job.spec:
            raise RecipeError(
                f"{args.resume}: holds a run of another recipe than {args.recipe}; leave one out"
            )
        return job
    if args.recipe is None:
        raise UsageError("nothing to run; give a run file, or --resume DIR")
    spec = RunSpec.load(args.recipe)
    return Run.create(spec, Path(args.output or Path("runs") / spec.name), replace=args.force)


@overload
def execute(job: Run, *, quiet: bool) -> Result: ...


@overload
def execute(job: Run, *, quiet: bool, test: bool) -> Result | Validation: ...


def execute(job: Run, *, quiet: bool, test: bool = True) -> Result | Validation:
    """Go through what is left of a run, with or without the test.

    Raises:
        Interrupted: on Ctrl-C, saying how to go on.
    """
    silence_lightning()
    log_to_stderr()
    try:
        console = None if quiet else messages()
        return job.execute(console) if test else job.execute_without_test(console)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; featherweight run --resume {job.directory} goes on") from None


def report(job: Run, result: Result | Validation) -> None:
    """Print the table of the file and what the run came to."""
    from featherweight.analysis.report import REPORT
    from featherweight.analysis.results import Validation
    from featherweight.analysis.sizes import measure_file
    from featherweight.analysis.tables import bounded_table, layer_table
    from featherweight.fileformat import FileReader
    from featherweight.training.phases import JOURNAL

    with FileReader(job.file) as reader:
        output().print(layer_table(measure_file(reader)))
    if (job.directory / JOURNAL).is_file():
        journal = json.loads((job.directory / JOURNAL).read_text(encoding="utf-8"))
        output().print(bounded_table(journal))
    error = f"{result.error_percent:.2f} % from the file"
    if result.error_dense_percent is not None:
        lost = result.error_percent - result.error_dense_percent
        error = f"{result.error_dense_percent:.2f} % dense, {error} ({lost:+.2f} points)"
    unseen = isinstance(result, Validation)
    say(f"error   {error}, {'validation' if unseen else 'test'} images of {result.dataset}")
    size = f"{result.dense_bytes:,} bytes dense, {result.bytes:,} in the file"
    say(f"size    {size}: {result.ratio:.1f}× smaller")
    say(f"time    {result.seconds:.0f} s of training")
    say(f"file    {job.file}")
    say(f"result  {job.directory / ('validation.json' if unseen else 'result.json')}")
    if (job.directory / REPORT).is_file():
        say(f"report  {job.directory / REPORT}")
    if unseen:
        say(f"test    featherweight run --resume {job.directory}")
