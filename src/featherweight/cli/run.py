"""``featherweight run``: fit, prune, share, encode, verify and test, as one file says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featherweight.cli.console import console, data_root_option, quiet_option
from featherweight.errors import RecipeError

if TYPE_CHECKING:
    import argparse

    from featherweight.training.run import Result, Run

EXAMPLE = """examples:
  featherweight run recipes/lenet300-mnist.yaml
  featherweight run recipes/lenet5-mnist.yaml --output runs/lenet5 --data-root ~/data
  featherweight run --resume runs/lenet5"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("recipe", nargs="?", help="run file (YAML or JSON) with model, data, phases and recipe")
    parser.add_argument("--output", "-o", metavar="DIR", help="directory for everything; runs/NAME unless given")
    parser.add_argument("--resume", metavar="DIR", help="go on with a run that was stopped")
    parser.add_argument("--force", action="store_true", help="start anew in a directory that holds a run")
    data_root_option(parser)
    quiet_option(parser)


def run(args: argparse.Namespace) -> int:
    """Start or resume a run."""
    out = console(args.quiet)
    job = _job(args)
    execute(job, out)
    return 0


def _job(args: argparse.Namespace) -> Run:
    from featherweight.training.run import Run
    from featherweight.training.spec import RunSpec

    if args.resume is not None:
        job = Run.resume(Path(args.resume))
        if args.recipe is not None and RunSpec.load(args.recipe) != job.spec:
            raise RecipeError(f"{args.resume}: holds a run of another recipe than {args.recipe}; leave one out")
        return job
    if args.recipe is None:
        raise RecipeError("give a run file, or --resume DIR")
    spec = RunSpec.load(args.recipe)
    directory = Path(args.output or Path("runs") / spec.name)
    if args.force:
        clear_run(directory)
    return Run.create(spec, directory)


def clear_run(directory: Path) -> None:
    """Remove a directory that holds a run; anything else is left for ``create`` to refuse."""
    if (directory / "run.yaml").is_file():
        shutil.rmtree(directory)


def execute(job: Run, out: Any) -> Result:
    """Run, and say what came of it.

    Raises:
        Interrupted: on Ctrl-C, saying how to go on.
    """
    from featherweight.analysis.sizes import measure_file
    from featherweight.analysis.tables import layer_table
    from featherweight.cli.console import Interrupted, silence_lightning
    from featherweight.fileformat import FileReader

    silence_lightning()
    try:
        result = job.execute(out)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; featherweight run --resume {job.directory} goes on") from None
    out.print()
    with FileReader(job.file) as reader:
        out.print(layer_table(measure_file(reader)))
    out.print()
    lost = result.error_percent - result.error_dense_percent
    out.print(f"{result.dataset}: error {result.error_dense_percent:.2f} % dense, ", end="")
    out.print(f"{result.error_percent:.2f} % from the file ({lost:+.2f} points)", highlight=False)
    out.print(
        f"{result.dense_bytes:,} bytes dense, {result.bytes:,} in the file: "
        f"[bold]{result.ratio:.1f}× smaller[/bold], in {result.seconds:.0f} s",
        highlight=False,
    )
    out.print(f"{job.file}  {job.directory / 'result.json'}", highlight=False, soft_wrap=True)
    return result
