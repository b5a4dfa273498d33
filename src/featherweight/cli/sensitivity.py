"""``featherweight sensitivity``: accuracy against sparsity or bits, layer by layer, with plots."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING

from featherweight.cli.arguments import UsageError
from featherweight.cli.console import messages, output, print_json, progress, say
from featherweight.cli.training_options import (
    add_data_root,
    add_quiet,
    log_to_stderr,
    silence_lightning,
    use_data_root,
)
from featherweight.errors import Interrupted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from featherweight.analysis.sweep import Sweep
    from featherweight.training.sweeping import SensitivityAnalysis

#: Options that take the place of the sweep file's.
_SWEEP_OPTIONS = (
    "layers",
    "sparsities",
    "bits",
    "importances",
    "quantizers",
    "granularity",
    "scope",
    "epochs",
    "steps",
    "seeds",
    "lr",
    "limit_batches",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--config", "-c", metavar="F", required=True, help="run file: network, data, recipe")
    parser.add_argument(
        "--weights",
        "--ckpt",
        metavar="PATH",
        type=Path,
        help="the trained network: .safetensors, .fwt, a PyTorch checkpoint or the directory of a run; "
        "trained first, and kept, unless given",
    )
    parser.add_argument("--output", "-o", metavar="DIR", type=Path, help="sensitivity/NAME unless given")
    parser.add_argument("--force", action="store_true", help="start anew in a directory that holds a sweep")
    parser.add_argument(
        "--sweep", metavar="FILE", help="YAML or JSON with the options below; they go before it"
    )
    _add_sweep(parser)
    parser.add_argument("--test", action="store_true", help="measure on the test images")
    parser.add_argument(
        "--jobs", "-j", type=int, default=-1, metavar="N", help="worker processes; one a core"
    )
    parser.add_argument(
        "--backend", choices=("loky", "ray"), default="loky", help="this machine, or a cluster"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    add_data_root(parser)
    add_quiet(parser)


def _add_sweep(parser: argparse.ArgumentParser) -> None:
    def add(name: str, metavar: str, kind: Callable[[str], object], text: str) -> None:
        parser.add_argument(name, metavar=metavar, type=kind, help=text)

    add("--layers", "A,B", _listed(str), "names of weights or globs, such as conv*; all unless given")
    add("--sparsities", "S,S", _listed(float), "fractions to prune")
    add("--bits", "B,B", _listed(int), "bits a weight to quantize to")
    add("--importances", "A,B", _listed(str), "names or import paths; the recipe's unless given")
    add("--quantizers", "A,B", _listed(str), "METHOD or METHOD:INIT; the recipe's unless given")
    add("--granularity", "G", str, "what is removed at a time; the recipe's unless given")
    add("--scope", "S", str, "for the whole network: global (unless given), or layer: each the same")
    add("--epochs", "N,N", _listed(int), "epochs of retraining after which to measure; 0 unless given")
    add("--steps", "N,N", _listed(int), "prunings on the way to a sparsity; 1 unless given")
    add("--seeds", "N,N", _listed(int), "0 unless given")
    add("--lr", "LR", float, "of retraining; a tenth of the phase's unless given")
    add("--limit-batches", "N", int, "batches in an epoch of retraining, at most")


def _listed(kind: Callable[[str], object]) -> Callable[[str], tuple[object, ...]]:
    def read(text: str) -> tuple[object, ...]:
        try:
            return tuple(kind(part) for part in text.split(",") if part)
        except ValueError:
            raise ArgumentTypeError(f"expected values with commas between them, got {text!r}") from None

    return read


def run(args: argparse.Namespace) -> None:
    """Measure what is left of the sweep, write tables and figures."""
    from featherweight.analysis.sensitivity import summary_table
    from featherweight.analysis.sensitivity_plots import draw_results
    from featherweight.analysis.tables import WIDTH
    from featherweight.training.spec import RunSpec
    from featherweight.training.sweeping import SensitivityAnalysis

    if args.jobs == 0 or args.jobs < -1:
        raise UsageError(f"--jobs must be at least 1, or -1 for all cores, got {args.jobs}")
    use_data_root(args)
    spec = RunSpec.load(args.config)
    directory = args.output or Path("sensitivity") / spec.name
    job = SensitivityAnalysis(
        spec, _sweep(args), directory, weights=args.weights, test=args.test, replace=args.force
    )
    _measure(job, args)
    results = job.results()
    paths = [*results.write(directory), *draw_results(results, directory)]
    if args.json:
        print_json(results.to_dict())
        return
    out = output()
    out.print(summary_table(results, brief=out.width < WIDTH))
    accuracy = f"{results.dense_accuracy_percent:.2f} % on the {results.split} images of {results.dataset}"
    say(f"the furthest that loses at most half a point of the dense network's {accuracy}")
    for path in paths:
        say(f"wrote   {path}")


def _measure(job: SensitivityAnalysis, args: argparse.Namespace) -> None:
    silence_lightning()
    try:
        with log_to_stderr(quiet=args.quiet):
            job.prepare(None if args.quiet else messages())
            with progress("measuring", len(job.left()), quiet=args.quiet) as advance:
                for _ in job.measure(jobs=args.jobs, backend=args.backend):
                    advance()
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; the same command goes on with {job.directory}") from None


def _sweep(args: argparse.Namespace) -> Sweep:
    from featherweight.analysis.sweep import Sweep
    from featherweight.strict import build, read_mapping

    given = {name: getattr(args, name) for name in _SWEEP_OPTIONS if getattr(args, name) is not None}
    if args.sweep is None:
        return Sweep(**given)
    data = read_mapping(args.sweep)
    build(Sweep, data, args.sweep)  # what is wrong with the file is told by its own name
    if ("sparsities" in given) != ("bits" in given):
        data.pop("bits" if "sparsities" in given else "sparsities", None)
    return build(Sweep, {**data, **given}, args.sweep)
