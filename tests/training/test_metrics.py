from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import load_file as load_safetensors
from test_whole_run import start

from featherweight.errors import OutputError
from featherweight.training import run as run_module
from featherweight.training.metrics import EpochMetrics

if TYPE_CHECKING:
    from pathlib import Path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = {
        "class_path": "featherweight.data.Digits",
        "init_args": {"batch_size": 128, "validation_split": 0.2},
    }
    run = start(tmp_path_factory.mktemp("metrics") / "run", data=data)
    run.execute()
    return run.directory


def test_a_line_an_epoch(finished: Path) -> None:
    found = rows(finished / "metrics.csv")
    epochs = [("fit", 1), ("fit", 2), ("prune", 1), ("prune", 2), ("prune", 3), ("share", 1), ("share", 2)]
    assert [(row["phase"], int(row["epoch"])) for row in found] == epochs
    assert float(found[0]["train_loss"]) > float(found[1]["train_loss"]) > 0
    assert all(0 < float(row["val_accuracy_percent"]) <= 100 for row in found)
    assert all(float(row["val_loss"]) > 0 for row in found)


def test_sparsity_is_that_of_the_weights(finished: Path) -> None:
    found = rows(finished / "metrics.csv")
    for phase in ("fit", "prune", "share"):
        weights = [t for t in load_safetensors(finished / f"{phase}.safetensors").values() if t.ndim > 1]
        zeros = sum(int((weight == 0).sum()) for weight in weights) / sum(w.numel() for w in weights)
        last = [row for row in found if row["phase"] == phase][-1]
        assert float(last["sparsity_percent"]) == pytest.approx(100 * zeros, rel=1e-5)
    assert float(found[-1]["sparsity_percent"]) == pytest.approx(80, abs=0.1)


def test_without_validation_images_those_figures_are_left_empty(tmp_path: Path) -> None:
    data = {"class_path": "featherweight.data.Digits", "init_args": {"validation_split": 0.0}}
    run = start(tmp_path / "run", prune=None, share=None, fit={"epochs": 1, "lr": 0.05}, data=data)
    run.execute()
    [row] = rows(run.directory / "metrics.csv")
    assert (row["val_loss"], row["val_accuracy_percent"]) == ("", "")
    assert float(row["train_loss"]) > 0


def test_a_phase_that_starts_anew_replaces_its_rows_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("phase,epoch,train_loss\nfit,1,0.5\nprune,1,0.25\n")
    metrics = EpochMetrics("prune", path)
    assert [row["phase"] for row in metrics._earlier()] == ["fit"]
    state = {"rows": [{"phase": "prune", "epoch": 1}]}
    metrics.load_state_dict(state)
    assert metrics.state_dict() == state


def test_a_table_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    metrics = EpochMetrics("fit", tmp_path / "absent" / "metrics.csv")
    with pytest.raises(OutputError, match=r"metrics\.csv: cannot be written: No such file"):
        metrics._write()


def test_a_report_that_fails_does_not_lose_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise ZeroDivisionError("no luck")

    monkeypatch.setattr(run_module, "write_report", fail)
    run = start(tmp_path / "run", prune=None, share=None, fit={"epochs": 1, "lr": 0.05})
    result = run.execute()
    assert json.loads((run.directory / "result.json").read_text())["bytes"] == result.bytes
    assert run.file.is_file()
    assert "the report was not written (no luck)" in caplog.text
    assert not (run.directory / "report.html").exists()


def test_a_run_ends_with_its_report(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    for heading in ("Where the bytes went", "Weights", "Training", "How it was made"):
        assert f">{heading}</h2>" in page
    assert "featherweight run recipes/small.yaml" in page
