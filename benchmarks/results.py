"""The record: make it, write its tables, and check it from its files. ``make results`` and its sisters."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from featherweight.analysis.comparison import load_comparison
from featherweight.analysis.results import (
    COMPARISON,
    LARGEST_SHIPPED_BYTES,
    ResultRecord,
    SeedResult,
    load_record,
    load_records,
)
from featherweight.analysis.results_tables import (
    comparison_tables,
    detail_table,
    load_published,
    put_between,
    readme_table,
    record_tables,
    seeds_table,
)
from featherweight.analysis.steps_table import ablation_page
from featherweight.errors import FeatherweightError, RecipeError
from featherweight.strict import plain, read_mapping
from featherweight.training.results import check_record
from featherweight.training.spec import RunSpec
from featherweight.training.steps import ablation_of

ROOT = Path(__file__).resolve().parents[1]

INTRODUCTION = """# Results

<!-- written by make results-table; edit results/*.json, results/published.yaml or benchmarks/results.py -->

Each of our rows is one command, and its file lies in [results/](results) where it is under 1 MB. `make
check-results` tests every file again and fails where a claimed error or size does not come out;
[docs/results.md](docs/results.md) says how a result is made and checked.

How sizes are counted: **B** is the bytes of the file on disk (container, codebooks, positions, biases and
batch-norm statistics included) against the dense float32 network; *H* is Han's accounting (weight codes,
position codes, codebooks); *N* is weights over nonzero weights. Errors of ours are of the test set, of the
network decoded from the file. Published ratios stand as they were published, by the count that their column
names: only B is what a user gets.
"""


def main() -> int:
    """Do one part of the work; 1 where a check failed or something cannot be read."""
    arguments = _parser().parse_args()
    try:
        done: int = arguments.work(arguments)
    except FeatherweightError as error:
        print(error, file=sys.stderr)
        return 1
    return done


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="of the repository")
    verbs = parser.add_subparsers(required=True)
    run = verbs.add_parser("run", help="every recipe with a training that has no result yet")
    run.add_argument("names", nargs="*", help="of recipes; all unless given")
    run.add_argument("--seeds", type=int, nargs="+", default=[], help="further seeds, kept in the result")
    run.set_defaults(work=run_recipes)
    add = verbs.add_parser("add", help="put finished runs into the record")
    add.add_argument("runs", nargs="+", type=Path, metavar="DIR")
    add.set_defaults(work=lambda a: max(add_run(run, a.root) for run in a.runs))
    table = verbs.add_parser("table", help="write RESULTS.md and the README's table")
    table.set_defaults(work=lambda a: write_tables(a.root))
    check = verbs.add_parser("check", help="test every file of the record")
    check.add_argument("names", nargs="*", help="of results; all unless given")
    check.add_argument("--images", type=float, default=0.5, help="test images that an error may differ by")
    check.set_defaults(work=lambda a: check_results(a.root, a.names, a.images))
    ablation = verbs.add_parser("ablation", help="write docs/results/NAME.md: what each step of runs gave")
    ablation.add_argument("name", help="of the page")
    ablation.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="finished runs, in order")
    ablation.add_argument("--title", help="of the page; NAME unless given")
    ablation.set_defaults(work=lambda a: write_ablation(a.root, a.name, a.title or a.name, a.runs))
    return parser


def run_recipes(arguments: argparse.Namespace) -> int:
    """Run what has no result yet, one command a row; what stopped before goes on."""
    root = arguments.root
    for recipe in trained_recipes(root, arguments.names):
        spec = RunSpec.load(recipe)
        if needs_gpu(spec) and not torch.cuda.is_available():
            print(f"{spec.name}: left out, its recipe needs a GPU and there is none")
            continue
        result = root / "results" / f"{spec.name}.json"
        if not result.exists():
            run = root / "runs" / spec.name
            if (done := _featherweight(recipe, run, root)) or (done := add_run(run, root)):
                return done
        if done := run_seeds(spec, arguments.seeds, root):
            return done
    return 0


def trained_recipes(root: Path, names: Sequence[str] = ()) -> list[Path]:
    """The run files of ``recipes/``: those that say how to fit and what to compress.

    Raises:
        RecipeError: where a name is none of them.
    """
    paths = sorted((root / "recipes").glob("*.yaml"))
    found = {path.stem: path for path in paths if {"fit", "recipe"} <= read_mapping(path).keys()}
    unknown = [name for name in names if name not in found]
    if unknown:
        raise RecipeError(f"no run file for {', '.join(unknown)}; known: {', '.join(found)}")
    return [found[name] for name in names or found]


def needs_gpu(spec: RunSpec) -> bool:
    """Whether a recipe asks for one."""
    return spec.trainer.get("accelerator") in ("gpu", "cuda")


def run_seeds(spec: RunSpec, seeds: Sequence[int], root: Path) -> int:
    """Run a recipe with further seeds of its weights and its data, and keep what came of each."""
    path = root / "results" / f"{spec.name}.json"
    record = load_record(path)
    for seed in seeds:
        known = [result.seed for result in record.seeds]
        if seed in known:
            continue
        if seed == record.seed:
            made = SeedResult(seed, record.error_dense_percent, record.error_percent, record.bytes)
        else:
            run = root / "runs" / f"{spec.name}-seed{seed}"
            data = replace(spec.data, init_args={**spec.data.init_args, "seed": seed})
            recipe = run.with_suffix(".yaml")
            recipe.parent.mkdir(exist_ok=True)
            replace(spec, seed=seed, data=data).save(recipe)
            if done := _featherweight(recipe, run, root):
                return done
            result = read_mapping(run / "result.json")
            made = SeedResult(seed, result["error_dense_percent"], result["error_percent"], result["bytes"])
        record = replace(record, seeds=(*record.seeds, made))
        _write(path, record)
    return 0


def _featherweight(recipe: Path, run: Path, root: Path) -> int:
    """Run a recipe, or go on with it; the exit code."""
    if (run / "result.json").exists():
        return 0
    what = ["--resume", str(run)] if (run / "run.yaml").exists() else [str(recipe), "--output", str(run)]
    print("featherweight run", *what, flush=True)
    return subprocess.run([sys.executable, "-m", "featherweight", "run", *what], cwd=root).returncode


def add_run(run: Path, root: Path) -> int:
    """Copy a finished run's result, and its file where that is under 1 MB, into ``results/``.

    Raises:
        RecipeError: where the run is not finished.
    """
    finished = run / "result.json"
    if not finished.is_file():
        raise RecipeError(f"{run}: holds no result.json; featherweight run --resume {run} finishes the run")
    result = read_mapping(finished)
    path = root / "results" / f"{result['name']}.json"
    path.parent.mkdir(exist_ok=True)
    kept = read_mapping(path).get("seeds", []) if path.exists() else []
    shipped = result["bytes"] <= LARGEST_SHIPPED_BYTES
    extra = {"seeds": kept} if kept else {}
    path.write_text(_text({**result, **({} if shipped else {"shipped": False}), **extra}), encoding="utf-8")
    load_record(path)
    if shipped:
        shutil.copyfile(run / result["file"], path.parent / result["file"])
    return 0


def write_tables(root: Path) -> int:
    """Write RESULTS.md, and the table in the README."""
    records = load_records(root / "results")
    published = load_published(root / "results" / "published.yaml")
    parts = [INTRODUCTION, "## Ours beside what is published", record_tables(records, published)]
    parts += ["## Our rows in full", detail_table(records)]
    if seeds := seeds_table(records):
        parts += ["## Several seeds", "The shipped file is of the seed in the table above.", seeds]
    compared = root / "results" / COMPARISON
    if compared.exists():
        comparison = load_comparison(compared)
        notes = [f"- {network.name}: {why}" for network in comparison.networks for why in network.missing]
        parts += ["## The same network by other means", _about(comparison.versions)]
        parts += [
            comparison_tables(comparison),
            *(["\n".join(["Not measured:", "", *notes])] if notes else []),
        ]
    waiting = _waiting(root, {record.name for record in records})
    if waiting:
        parts += ["## Recipes without a result yet", "\n".join(waiting)]
    (root / "RESULTS.md").write_text("\n\n".join(part.strip("\n") for part in parts) + "\n", encoding="utf-8")
    readme = root / "README.md"
    text = put_between(readme.read_text(encoding="utf-8"), readme_table(records, published), str(readme))
    readme.write_text(text, encoding="utf-8")
    return 0


def _about(versions: Sequence[str]) -> str:
    return (
        "Bytes of whole files, by `make results-compare`. The dense file is safetensors; `zip -9` packs it; "
        "int8 is PyTorch's own dynamic quantization of the fully connected layers (`torch.ao.quantization`), "
        "its state dict saved; NNCodec is the reference of ISO/IEC 15938-17 at its default settings. "
        f"Measured with {', '.join(versions)}."
    )


def write_ablation(root: Path, name: str, title: str, runs: Sequence[Path]) -> int:
    """Write the page that says what each step of some runs gave."""
    page = root / "docs" / "results" / f"{name}.md"
    found = [ablation_of(run, _first_comment(root, run)) for run in runs]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(ablation_page(title, found), encoding="utf-8")
    return 0


def _first_comment(root: Path, run: Path) -> str:
    """What the recipe of a run says it is; a run's own copy has no comments."""
    recipe = root / "recipes" / f"{RunSpec.load(run / 'run.yaml').name}.yaml"
    first = recipe.read_text(encoding="utf-8").partition("\n")[0] if recipe.is_file() else ""
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _waiting(root: Path, done: set[str]) -> list[str]:
    """The first comment line of each recipe that has no result."""
    lines = []
    for recipe in trained_recipes(root):
        first = recipe.read_text(encoding="utf-8").partition("\n")[0]
        if recipe.stem not in done:
            lines.append(f"- `featherweight run recipes/{recipe.name}`: {first.removeprefix('#').strip()}")
    return lines


def check_results(root: Path, names: Sequence[str], images: float) -> int:
    """Test every file of the record, also those of ``runs/`` that are over 1 MB; 1 where one is wrong."""
    results, failed = root / "results", 0
    records = [load_record(results / f"{n}.json") for n in names] if names else load_records(results)
    for record in records:
        file = results / record.file
        if not record.shipped:
            file = root / "runs" / record.name / record.file
            if not file.exists():
                place = file.relative_to(root)
                print(f"{record.name}: not tested: {place} is not there; make it with {record.command}")
                continue
        try:
            wrong = check_record(record, file, root, images=images)
        except FeatherweightError as error:
            wrong = [f"{record.name}: {error}"]
        failed += bool(wrong)
        told = f"{record.name}: {record.error_percent:.2f} % error, {record.bytes:,} bytes: as claimed"
        print("\n".join(wrong) or told, file=sys.stderr if wrong else sys.stdout, flush=True)
    strays = {path.stem for path in results.glob("*.fwt")} - {record.name for record in load_records(results)}
    for name in sorted(strays):
        print(f"results/{name}.fwt: there is no results/{name}.json that says what it is", file=sys.stderr)
    return int(bool(failed or strays))


def _write(path: Path, record: ResultRecord) -> None:
    defaults = plain(record)
    path.write_text(_text({k: v for k, v in asdict(record).items() if k in defaults}), encoding="utf-8")


def _text(result: dict[str, object]) -> str:
    return json.dumps(result, indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main())
