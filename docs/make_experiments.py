"""Do all experiments of ``recipes/experiments`` and write ``docs/experiments.md`` with its figures.

``make experiments``, or ``python docs/make_experiments.py --output runs/experiments``. What is finished is
kept in the output and not done again; a run that was stopped goes on. About 25 minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load_file

from featherweight.analysis.histograms import draw_histograms
from featherweight.analysis.plots import THEMES, save_figure
from featherweight.analysis.sensitivity import Curve, Results
from featherweight.analysis.sensitivity_plots import by_layer, by_method, draw
from featherweight.analysis.sweep import NETWORK, Sweep, layer_label
from featherweight.cli.console import messages, progress, say
from featherweight.errors import RecipeError
from featherweight.pruning import importance_by_name
from featherweight.strict import build, read_mapping
from featherweight.training.run import Run
from featherweight.training.spec import RunSpec
from featherweight.training.sweeping import SensitivityAnalysis

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes" / "experiments"
IMAGES = ROOT / "docs" / "images"

#: Model-wide runs, the first of which trains the dense network for all experiments.
RUNS = {
    "lenet5-wide-1x6": "one pruning, then 6 epochs",
    "lenet5-wide-6x1": "6 prunings, an epoch after each",
    "lenet5-wide-from-scratch": "from scratch: 4 prunings in 5 epochs",
}
DENSE = next(iter(RUNS))


@dataclass(frozen=True)
class Found:
    """All that the page shows."""

    runs: dict[str, dict[str, Any]]
    pruned: dict[str, float]
    layers: Results
    importances: Results


def main() -> None:
    """Do what is not done yet, then draw and write everything."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--output", type=Path, default=Path("runs/experiments"))
    options.add_argument("--jobs", type=int, default=-1, help="worker processes; one a core unless given")
    options.add_argument("--page", type=Path, default=ROOT / "docs" / "experiments.md")
    options.add_argument("--as-is", action="store_true", help="show what is finished, do nothing new")
    args = options.parse_args()
    torch.set_num_threads(1)
    runs = {name: run for name in RUNS if (run := whole_run(name, args.output, as_is=args.as_is))}
    layers = sweep("layers", args.output, None if args.as_is else args.jobs)
    importances = sweep("importances", args.output, None if args.as_is else args.jobs)
    pruned = {name: fraction_pruned(args.output / name / "prune.safetensors") for name in runs}
    found = Found(runs, pruned, layers, importances)
    images = args.page.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    draw_all(found, args.output, images)
    args.page.write_text(page(found), encoding="utf-8")
    say(f"wrote {args.page}")


def whole_run(name: str, output: Path, *, as_is: bool) -> dict[str, Any] | None:
    """The result of ``featherweight run``; the dense network is trained once for all that start from it."""
    spec, directory = RunSpec.load(RECIPES / f"{name}.yaml"), output / name
    result = directory / "result.json"
    if not result.exists():
        if as_is:
            return None
        if not directory.exists():
            directory.mkdir(parents=True)
            spec.save(directory / "run.yaml")
            trained = output / DENSE / "fit.safetensors"
            if trained.exists() and spec.fit == RunSpec.load(RECIPES / f"{DENSE}.yaml").fit:
                shutil.copy(trained, directory)
        Run.resume(directory).execute(messages())
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def sweep(name: str, output: Path, jobs: int | None) -> Results:
    """The results of a sweep over the dense network; with no ``jobs``, those of whole columns of its grid."""
    path = RECIPES / f"{name}.sweep.yaml"
    chosen = known(build(Sweep, read_mapping(path), str(path)))
    spec = RunSpec.load(RECIPES / f"{DENSE}.yaml")
    job = SensitivityAnalysis(spec, chosen, output / name, weights=output / DENSE)
    job.prepare()
    if jobs is None:
        missing = {point.sparsity for point in job.left()}
        found = job.results()
        return replace(found, rows=tuple(row for row in found.rows if row.sparsity not in missing))
    with progress(f"measuring {name}", len(job.left())) as advance:
        for _ in job.measure(jobs=jobs):
            advance()
    job.results().write(output / name)
    return job.results()


def known(chosen: Sweep) -> Sweep:
    """The sweep with those of its importances that there are."""
    there = []
    for name in chosen.importances:
        try:
            importance_by_name(name)
        except RecipeError:
            say(f"left out: there is no importance {name}")
        else:
            there.append(name)
    return replace(chosen, importances=tuple(there))


def fraction_pruned(path: Path) -> float:
    """Zeros among the weights of two dimensions or more."""
    weights = [w for w in load_file(path).values() if w.ndim > 1]
    return 1 - sum(int((w != 0).sum()) for w in weights) / sum(w.size for w in weights)


def draw_all(found: Found, output: Path, images: Path) -> None:
    """Write every figure in both themes."""
    layers = found.layers
    once = [c for c in layers.pruning() if c.steps == 1]
    longest = max(c.epochs for c in once)
    compared = [c for c in layers.pruning() if c.epochs == longest]
    before = load_file(output / DENSE / "fit.safetensors")
    order = [c.layer for c in once if c.epochs == longest and c.layer != NETWORK]
    before = {name: before[name] for name in order}
    after = load_file(output / DENSE / "prune.safetensors")
    for theme in THEMES:
        figures = {
            "layers": draw(once, layers.dense_accuracy_percent, theme),
            "steps": draw(compared, layers.dense_accuracy_percent, theme, panel=by_layer, curve=by_steps),
            "importances": draw(
                found.importances.pruning(),
                found.importances.dense_accuracy_percent,
                theme,
                panel=lambda _: "conv1, no retraining",
                curve=by_method,
            ),
            "histograms": draw_histograms(before, after, theme),
        }
        for name, figure in figures.items():
            save_figure(figure, images / f"experiments-{name}-{theme.name}")


def by_steps(curve: Curve) -> str:
    """At once or step by step."""
    return "one-shot" if curve.steps == 1 else f"in {curve.steps} steps"


def picture(name: str, text: str) -> str:
    """A figure for a page, in the reader's theme."""
    stem = f"images/experiments-{name}"
    return (
        f'<picture>\n  <source media="(prefers-color-scheme: dark)" srcset="{stem}-dark.png">\n'
        f'  <img alt="{text}" src="{stem}-light.png">\n</picture>\n\n'
        f"As SVG: [light]({stem}-light.svg), [dark]({stem}-dark.svg)."
    )


def page(found: Found) -> str:
    """The page."""
    spec = RunSpec.load(RECIPES / f"{DENSE}.yaml")
    chosen = build(Sweep, read_mapping(RECIPES / "layers.sweep.yaml"), "layers")
    images = (chosen.limit_batches or 0) * int(spec.data.init_args["batch_size"])
    text = (Path(__file__).parent / "experiments.template.md").read_text(encoding="utf-8")
    values = {
        "dense": f"{found.runs[DENSE]['error_dense_percent']:.2f}",
        "validation": f"{100 - found.layers.dense_accuracy_percent:.2f}",
        "images": f"{images:,}",
        "model-wide": model_wide_table(found),
        "layers": picture(
            "layers", "Accuracy over sparsity, a curve a layer, a panel a length of retraining"
        ),
        "layers-table": accuracy_table(found.layers, 0.95),
        "steps": picture("steps", "One-shot and stepwise pruning, a panel a layer"),
        "steps-table": steps_table(found.layers),
        "importances": picture("importances", "Importances compared on the first convolution"),
        "histograms": picture("histograms", "Weights of each layer before and after pruning"),
    }
    for key, value in values.items():
        text = text.replace("{{" + key + "}}", value)
    return text


def model_wide_table(found: Found) -> str:
    """A row a run."""
    rows = ["| run | weights pruned | test error |", "|---|---|---|"]
    dense = found.runs[DENSE]["error_dense_percent"]
    rows.append(f"| dense: 5 epochs | 0 % | {dense:.2f} % |")
    for name, text in RUNS.items():
        link = f"[{text}](../recipes/experiments/{name}.yaml)"
        if name not in found.runs:
            rows.append(f"| {link} | | not run yet |")
            continue
        error = found.runs[name]["error_percent"]
        rows.append(f"| {link} | {100 * found.pruned[name]:.1f} % | {error:.2f} % |")
    return "\n".join(rows)


def accuracy_table(results: Results, sparsity: float) -> str:
    """Accuracy at one sparsity, a row a layer, a column a length of retraining."""
    curves = [c for c in results.pruning() if c.steps == 1]
    epochs = sorted({c.epochs for c in curves})
    heads = [f"{n} epoch{'' if n == 1 else 's'}" for n in epochs]
    rows = [
        f"| accuracy with {100 * sparsity:g} % pruned | {' | '.join(heads)} |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for layer in dict.fromkeys(c.layer for c in curves):
        mine = {c.epochs: c.accuracy[c.x.index(sparsity)] for c in curves if c.layer == layer}
        rows.append(f"| {layer_label(layer)} | {' | '.join(f'{mine[n]:.2f} %' for n in epochs)} |")
    return "\n".join(rows)


def steps_table(results: Results) -> str:
    """One-shot beside stepwise at equal epochs, in points of accuracy, a row a layer."""
    longest = max(c.epochs for c in results.pruning())
    curves = [c for c in results.pruning() if c.epochs == longest]
    once = {c.layer: c for c in curves if c.steps == 1}
    stepwise = {c.layer: c for c in curves if c.steps > 1}
    xs = next(iter(once.values())).x
    rows = [
        f"| points gained by steps, at | {' | '.join(f'{100 * x:g} %' for x in xs)} |",
        "|---" * (len(xs) + 1) + "|",
    ]
    for layer, curve in once.items():
        gains = [b - a for a, b in zip(curve.accuracy, stepwise[layer].accuracy, strict=True)]
        rows.append(f"| {layer_label(layer)} | {' | '.join(f'{gain:+.2f}' for gain in gains)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
