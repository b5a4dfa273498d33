"""``featherweight run``: fit, prune, share, encode, verify and test, as one file says."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from featherweight.cli.arguments import UsageError
from featherweight.cli.console import messages, output, print_json, say
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
    from collections.abc import Mapping

    from featherweight.analysis.results import Result, Validation
    from featherweight.analysis.sizes import ModelSizes
    from featherweight.training.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "recipe", nargs="?", metavar="F", help="run file (YAML or JSON): model, data, phases and recipe"
    )
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
    add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Start a run, or go on with one."""
    use_data_root(args)
    job = _job(args)
    report(job, execute(job, quiet=args.quiet, test=not args.no_test), as_json=args.json)


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
    console = None if quiet else messages()
    try:
        with log_to_stderr(quiet=quiet):
            return job.execute(console) if test else job.execute_without_test(console)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; featherweight run --resume {job.directory} goes on") from None


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare ``--json``; see :func:`report`."""
    parser.add_argument(
        "--json", action="store_true", help="print the result and every tensor's size as JSON"
    )


def report(job: Run, result: Result | Validation, *, as_json: bool = False) -> None:
    """Print the table of the file and what the run came to."""
    from featherweight.analysis.report import REPORT
    from featherweight.analysis.results import Validation
    from featherweight.analysis.sizes import measure_file
    from featherweight.fileformat import FileReader

    with FileReader(job.file) as reader:
        sizes = measure_file(reader)
    journal = _journal(job)
    if as_json:
        print_json({**asdict(result), "tensors": sizes.to_dict()["tensors"], "accuracy_bounded": journal})
        return
    _tables(sizes, journal)
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


def _journal(job: Run) -> dict[str, Any] | None:
    """What pruning within a bound on the accuracy did, where a rule asks for it."""
    from featherweight.training.phases import JOURNAL

    path = job.directory / JOURNAL
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _tables(sizes: ModelSizes, journal: Mapping[str, Any] | None) -> None:
    from featherweight.analysis.tables import WIDTH, bounded_table, layer_table

    out = output()
    out.print(layer_table(sizes, brief=out.width < WIDTH))
    if journal is not None:
        out.print(bounded_table(journal, brief=out.width < WIDTH))
