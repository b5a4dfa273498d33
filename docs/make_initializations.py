"""Compare the starts of k-means on the pruned LeNet-5 and write ``docs/initializations.md`` with its figure.

``make initializations``, or ``python docs/make_initializations.py --output runs/initializations``. What is
finished is kept in the output and not done again; what was stopped goes on. ``--run DIR`` takes the pruned
network of a finished run of ``recipes/lenet5-mnist.yaml``, which is trained first (10 minutes) unless given.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from make_experiments import picture

from featherweight.analysis.plots import THEMES, save_figure
from featherweight.analysis.sensitivity import Curve, Results
from featherweight.analysis.sensitivity_plots import draw
from featherweight.analysis.sweep import Sweep
from featherweight.cli.console import messages, progress, say
from featherweight.strict import build, read_mapping
from featherweight.training.run import Run
from featherweight.training.spec import RunSpec
from featherweight.training.sweeping import SensitivityAnalysis

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "lenet5-mnist.yaml"
SWEEP = ROOT / "recipes" / "experiments" / "initializations.sweep.yaml"
NAME = "initializations"

#: What the curves are called, in the order of the sweep.
BEFORE, AFTER = "before the centroids are trained", "after"


def main() -> None:
    """Do what is not done yet, then draw and write everything."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--output", type=Path, default=ROOT / "runs" / NAME)
    options.add_argument("--run", type=Path, help="a finished run of recipes/lenet5-mnist.yaml")
    options.add_argument("--jobs", type=int, default=-1, help="worker processes; one a core unless given")
    options.add_argument("--page", type=Path, default=ROOT / "docs" / f"{NAME}.md")
    args = options.parse_args()
    torch.set_num_threads(1)
    run = args.run or trained(args.output / "lenet5-mnist")
    found = measured(run / "prune.safetensors", args.output / "sweep", args.jobs)
    images = args.page.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    draw_all(found, images)
    args.page.write_text(page(found), encoding="utf-8")
    say(f"wrote {args.page}")


def trained(directory: Path) -> Path:
    """The run of the pruned network, gone on with where it stopped."""
    started = (directory / "run.yaml").is_file()
    run = Run.resume(directory) if started else Run.create(RunSpec.load(RECIPE), directory)
    if not (directory / "result.json").is_file():
        run.execute(messages())
    return directory


def measured(weights: Path, directory: Path, jobs: int) -> Results:
    """The results of the sweep over the pruned network."""
    sweep = build(Sweep, read_mapping(SWEEP), str(SWEEP))
    job = SensitivityAnalysis(RunSpec.load(RECIPE), sweep, directory, weights=weights)
    job.prepare()
    with progress("measuring", len(job.left())) as advance:
        for _ in job.measure(jobs=jobs):
            advance()
    found = job.results()
    found.write(directory)
    return found


def draw_all(found: Results, images: Path) -> None:
    """Accuracy over bits, before and after training, in both themes."""
    for theme in THEMES:
        figure = draw(
            found.quantization(),
            found.dense_accuracy_percent,
            theme,
            panel=when,
            curve=start,
            reference="pruned",
        )
        save_figure(figure, images / f"experiments-{NAME}-{theme.name}")


def start(curve: Curve) -> str:
    """Where a curve's centroids start: ``kmeans:linear`` is linear."""
    return curve.method.partition(":")[2] or curve.method


def when(curve: Curve) -> str:
    """Before training or after."""
    return AFTER if curve.epochs else BEFORE


def table(found: Results, epochs: int) -> str:
    """Error in percent, mean over the seeds: a row a start, a column a number of bits."""
    curves = [curve for curve in found.quantization() if curve.epochs == epochs]
    bits = sorted(int(x) for x in curves[0].x)
    rows = [
        f"| {when(curves[0])} | {' | '.join(f'{b} bits' for b in bits)} |",
        "|---" * (len(bits) + 1) + "|",
    ]
    best = {b: max(c.accuracy[c.x.index(b)] for c in curves) for b in bits}
    for curve in curves:
        cells = []
        for b in bits:
            accuracy = curve.accuracy[curve.x.index(b)]
            mark = "**" if accuracy == best[b] else ""
            cells.append(f"{mark}{100 - accuracy:.2f} %{mark}")
        rows.append(f"| {start(curve)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def page(found: Results) -> str:
    """The page."""
    spec = RunSpec.load(RECIPE)
    sweep = build(Sweep, read_mapping(SWEEP), str(SWEEP))
    images = (sweep.limit_batches or 0) * int(spec.data.init_args["batch_size"])
    text = (Path(__file__).parent / f"{NAME}.template.md").read_text(encoding="utf-8")
    values = {
        "pruned": f"{100 - found.dense_accuracy_percent:.2f}",
        "images": f"{images:,}",
        "seeds": f"{len(sweep.seeds)} seeds (means)" if len(sweep.seeds) > 1 else "one seed",
        "figure": picture(NAME, "Accuracy of the pruned LeNet-5 over bits, a curve a start of k-means"),
        "before": table(found, 0),
        "after": table(found, max(sweep.epochs)),
    }
    for key, value in values.items():
        text = text.replace("{{" + key + "}}", value)
    return text


if __name__ == "__main__":
    main()
