"""A result made by a run on digits comes out of its file again, and a false claim does not."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from training_helpers import LIGHTNING_WARNINGS

from featherweight.analysis.results import load_record
from featherweight.data import mnist
from featherweight.errors import DataError
from featherweight.strict import read_mapping
from featherweight.training.results import check_record
from featherweight.training.run import Run
from featherweight.training.spec import RunSpec

pytestmark = [pytest.mark.filterwarnings(warning) for warning in LIGHTNING_WARNINGS]

ROOT = Path(__file__).parents[2]
RECIPE = """# Small, on digits.
name: small
model: {class_path: featherweight.models.LeNet300, init_args: {in_features: 784}}
data: {class_path: featherweight.data.Digits, init_args: {batch_size: 128}}
optimizer: {class_path: torch.optim.SGD, init_args: {momentum: 0.9}}
fit: {epochs: 1, lr: 0.05}
prune: {epochs: 1, lr: 0.05}
share: {epochs: 1, lr: 0.01}
recipe:
  rules: [{match: "*.weight", prune: {sparsity: 0.8}, quantize: {bits: 3}}]
  code: {coder: context}
threads: 1
trainer: {accelerator: cpu}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A repository with one recipe and its finished run."""
    root = tmp_path_factory.mktemp("repository")
    (root / "recipes").mkdir()
    (root / "recipes" / "small.yaml").write_text(RECIPE)
    Run.create(RunSpec.load(root / "recipes" / "small.yaml"), root / "runs" / "small").execute()
    return root


@pytest.fixture
def script():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import results

    yield results
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture
def repository(made, tmp_path, script):
    """The same, with the run put into the record."""
    root = tmp_path / "repository"
    shutil.copytree(made, root)
    assert script.add_run(root / "runs" / "small", root) == 0
    return root


def test_what_a_run_claims_comes_out_of_its_file(repository):
    record = load_record(repository / "results" / "small.json")
    assert check_record(record, repository / "results" / "small.fwt", repository) == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"error_percent": 0.0}, "error_percent: claimed 0.0, found"),
        ({"bytes": 100, "dense_bytes": 100, "ratio": 1.0}, "bytes: claimed 100, found"),
        ({"ratio_h": 1000.0}, "ratio_h: claimed 1000.0000, found"),
        ({"ratio_n": 1.0}, "ratio_n: claimed 1.0000, found"),
        ({"model": "LeNet5"}, "model: claimed LeNet5, found LeNet300"),
        ({"dataset": "MNIST"}, "dataset: claimed MNIST, found"),
    ],
)
def test_a_false_claim_is_named(repository, changes, found):
    record = replace(load_record(repository / "results" / "small.json"), **changes)
    wrong = check_record(record, repository / "results" / "small.fwt", repository)
    assert any(found in line for line in wrong), wrong


def test_one_image_may_differ_only_where_that_is_allowed(repository):
    record = load_record(repository / "results" / "small.json")
    images = len(RunSpec.load(repository / "recipes" / "small.yaml").data.create().splits.test.labels)
    record = replace(record, error_percent=record.error_percent + 100 / images)
    file = repository / "results" / "small.fwt"
    assert len(check_record(record, file, repository)) == 1
    assert check_record(record, file, repository, images=1.5) == []


def test_a_missing_and_a_damaged_file_fail_with_a_line(repository, script, capsys):
    file = repository / "results" / "small.fwt"
    assert script.check_results(repository, [], 0.5) == 0
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert script.check_results(repository, [], 0.5) == 1
    file.unlink()
    assert script.check_results(repository, ["small"], 0.5) == 1
    assert "small.fwt: is missing; featherweight run recipes/small.yaml" in capsys.readouterr().err


def test_a_file_over_1_mb_is_looked_for_among_the_runs(repository, script, monkeypatch, capsys):
    monkeypatch.setattr(script, "LARGEST_SHIPPED_BYTES", 10)
    monkeypatch.setattr("featherweight.analysis.results.LARGEST_SHIPPED_BYTES", 10)
    (repository / "results" / "small.fwt").unlink()
    script.add_run(repository / "runs" / "small", repository)
    assert not (repository / "results" / "small.fwt").exists()
    assert script.check_results(repository, [], 0.5) == 0
    assert "as claimed" in capsys.readouterr().out
    (repository / "runs" / "small" / "small.fwt").unlink()
    assert script.check_results(repository, [], 0.5) == 0
    assert "not tested" in capsys.readouterr().out


def test_missing_data_are_named(repository, monkeypatch):
    def refuse(missing, *_args, **_more):
        raise DataError(f"{', '.join(file.name for file in missing)}: get them from a mirror")

    monkeypatch.setattr(mnist, "download", refuse)
    monkeypatch.setenv("FEATHERWEIGHT_DATA", str(repository / "nowhere"))
    recipe = repository / "recipes" / "small.yaml"
    recipe.write_text(RECIPE.replace("Digits", "MNIST"))
    record = load_record(repository / "results" / "small.json")
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte"):
        check_record(replace(record, dataset="MNIST"), repository / "results" / "small.fwt", repository)


def test_tables_and_seeds(repository, script):
    other = RECIPE.replace("name: small", "name: later").replace("Small,", "Later,")
    (repository / "recipes" / "later.yaml").write_text(other)
    gpu = RECIPE.replace("name: small", "name: large").replace("accelerator: cpu", "accelerator: gpu")
    (repository / "recipes" / "large.yaml").write_text(gpu)
    (repository / "results" / "published.yaml").write_text("groups: []\n")
    spec = RunSpec.load(repository / "recipes" / "small.yaml")
    assert script.run_seeds(spec, [0], repository) == 0
    seeds = read_mapping(repository / "results" / "small.json")["seeds"]
    assert [seed["seed"] for seed in seeds] == [0]
    (repository / "README.md").write_text(
        "<!-- results: written by make results-table -->\n<!-- end of results -->\n"
    )
    assert script.write_tables(repository) == 0
    text = (repository / "RESULTS.md").read_text(encoding="utf-8")
    assert "- `featherweight run recipes/later.yaml`: Later, on digits." in text
    assert "`featherweight run recipes/small.yaml`" in (repository / "README.md").read_text(encoding="utf-8")


def test_results_of_this_repository_can_be_read_and_their_files_are_there():
    for path in sorted((ROOT / "results").glob("*.json")):
        if path.name != "compare.json":
            record = load_record(path)
            assert json.loads(path.read_text())["bytes"] == record.bytes
            assert (ROOT / record.run_file).is_file()
            if record.shipped:
                assert (ROOT / "results" / record.file).stat().st_size == record.bytes
