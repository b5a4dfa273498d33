"""TensorBoard and W&B while a network is compressed: what they hold, and that they change nothing."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from logger_helpers import Unreachable
from safetensors.torch import load_file as load_safetensors
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_helpers import LIGHTNING_WARNINGS, Small, Trained, digits

from featherweight.analysis.coded_bits import coded_bits
from featherweight.cli import main
from featherweight.errors import MissingPackageError, RecipeError
from featherweight.strict import build, write_mapping
from featherweight.training.callbacks import IterativePruning, LogCompression, Quantization, SaveCompressed
from featherweight.training.loggers import Guard, RunLoggers, log_report
from featherweight.training.module import ImagesInMemory
from featherweight.training.run import Run
from featherweight.training.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.filterwarnings(text) for text in LIGHTNING_WARNINGS]

#: Batches an epoch, epochs of the three phases.
BATCHES, EPOCHS = 9, (1, 2, 1)


def start(directory: Path, logger: Any = None) -> Run:
    rule = {
        "match": "fc*.weight",
        "prune": {"sparsity": 0.8, "schedule": {"kind": "cubic", "epochs": 1, "every_steps": 3}},
        "quantize": {"bits": 3},
    }
    data = {
        "name": "small",
        "model": {"class_path": "training_helpers.Small", "init_args": {"dropout": 0.2}},
        "data": {"class_path": "featherweight.data.Digits", "init_args": {"batch_size": 128, "shift": 1}},
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}},
        "fit": {"epochs": EPOCHS[0], "lr": 0.05},
        "prune": {"epochs": EPOCHS[1], "lr": 0.05},
        "share": {"epochs": EPOCHS[2], "lr": 0.001},
        "recipe": {"rules": [rule]},
        "threads": 1,
        "trainer": {} if logger is None else {"logger": logger},
    }
    return Run.create(build(RunSpec, data, "run"), directory)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a run that nobody watches."""
    run = start(tmp_path_factory.mktemp("plain") / "run")
    run.execute()
    return run.file.read_bytes()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same with TensorBoard."""
    run = start(tmp_path_factory.mktemp("watched") / "run", "tensorboard")
    run.execute()
    return run


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0})
    found.Reload()
    return found


# -- TensorBoard in a run --------------------------------------------------------------------------


def test_a_logger_changes_nothing(plain: bytes, watched: Run) -> None:
    assert watched.file.read_bytes() == plain


def test_curves_go_on_over_the_phases(watched: Run) -> None:
    found = events(watched.directory / "tensorboard")
    ends = [BATCHES * epoch for epoch in range(1, sum(EPOCHS) + 1)]
    for tag in ("compression_rate", "bits/fc1.weight", "sparsity/fc1.weight"):
        assert [event.step for event in found.Scalars(tag)] == ends
    losses = found.Scalars("train_loss")
    assert len(losses) == sum(EPOCHS)
    assert max(event.value for event in found.Scalars("epoch")) == sum(EPOCHS) - 1
    assert [event.step for event in losses] == sorted({event.step for event in losses})


def test_the_figures_are_those_of_the_weights(watched: Run) -> None:
    found = events(watched.directory / "tensorboard")
    for phase, index in (("fit", 0), ("prune", 2), ("share", 3)):
        state = {
            n: t.numpy() for n, t in load_safetensors(watched.directory / f"{phase}.safetensors").items()
        }
        bits = {
            name: coded_bits(array) if array.ndim > 1 else 32 * array.size for name, array in state.items()
        }
        for name in ("fc1.weight", "fc2.weight"):
            pruned = float((state[name] == 0).mean())
            assert found.Scalars(f"sparsity/{name}")[index].value == pytest.approx(pruned)
            assert found.Scalars(f"bits/{name}")[index].value == pytest.approx(bits[name] / state[name].size)
        dense = sum(32 * array.size for array in state.values())
        rate = found.Scalars("compression_rate")[index].value
        assert rate == pytest.approx(dense / sum(bits.values()))
    assert found.Scalars("compression_rate")[0].value == 1
    assert found.Scalars("compression_rate")[3].value > 15


def test_histograms_count_the_weights_that_are_left(watched: Run) -> None:
    found = events(watched.directory / "tensorboard")
    weights = load_safetensors(watched.directory / "prune.safetensors")["fc1.weight"].numpy()
    last = found.Histograms("weights/fc1.weight")[2].histogram_value
    kept = weights[weights != 0]
    assert last.num == kept.size == sum(last.bucket)
    assert (last.min, last.max) == (kept.min(), kept.max())
    counts, _ = np.histogram(kept, 64)
    assert list(last.bucket) == counts.tolist()


def test_the_result_and_the_report_are_there(watched: Run) -> None:
    folder = watched.directory / "tensorboard"
    result = json.loads((watched.directory / "result.json").read_text())
    found = events(folder)
    for name in ("bytes", "error_percent", "ratio"):
        (event,) = found.Scalars(f"result/{name}")
        assert event.value == pytest.approx(result[name])
        assert event.step == BATCHES * sum(EPOCHS)
    assert (folder / "report.html").read_bytes() == (watched.directory / "report.html").read_bytes()
    assert "report/text_summary" in found.Tags()["tensors"]


# -- W&B, offline ------------------------------------------------------------------------------------


def records(path: Path) -> Iterator[bytes]:
    """The records of a W&B file: 7 bytes, then LevelDB's log format, in blocks of 32 KiB."""
    data, place, parts = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # no header fits: the rest of a block is empty
            place += 32768 - place % 32768
            continue
        size, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        parts += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a whole one, or the last part
            yield parts
            parts = b""


def read_offline(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of history and names of artifacts in the file of an offline run of W&B."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    rows, artifacts = [], []
    for data in records(path):
        record = Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items})
        if record.WhichOneof("record_type") == "artifact":
            artifacts.append(record.artifact.name)
        if record.WhichOneof("record_type") == "request" and record.request.HasField("log_artifact"):
            artifacts.append(record.request.log_artifact.artifact.name)
    return rows, artifacts


def test_wandb_offline(plain: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    run = start(tmp_path / "run", {"class_path": "WandbLogger", "init_args": {"offline": True}})
    try:
        run.execute()
        assert wandb.run is None
    finally:
        wandb.teardown()
    assert run.file.read_bytes() == plain
    rows, artifacts = read_offline(run.directory)
    rates = [row["compression_rate"] for row in rows if "compression_rate" in row]
    assert len(rates) == sum(EPOCHS)
    assert rates[0] == 1 < rates[1] < rates[-1]
    key = "weights/fc1.weight/values"
    bars = [row[key] for row in rows if key in row]
    weights = load_safetensors(run.directory / "share.safetensors")["fc1.weight"]
    assert len(bars) == sum(EPOCHS)
    assert sum(bars[-1]) == int(weights.count_nonzero())
    (final,) = [row["result/bytes"] for row in rows if "result/bytes" in row]
    assert final == len(plain)
    assert any(row.get("report/_type") == "html-file" for row in rows)
    assert artifacts == ["report"]


# -- loggers that fail -------------------------------------------------------------------------------


def test_an_unreachable_logger_is_told_of_once(
    plain: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = {"class_path": "logger_helpers.Unreachable"}
    run = start(tmp_path / "run", [broken, {"class_path": "CSVLogger"}])
    with caplog.at_level(logging.WARNING, "featherweight"):
        run.execute()
    assert run.file.read_bytes() == plain
    told = [record.getMessage() for record in caplog.records]
    assert told == ["Unreachable: cannot log, training goes on without it: no route to the host"]
    (table,) = (run.directory / "lightning_logs").glob("*/metrics.csv")
    assert "compression_rate" in table.read_text().splitlines()[0]


def test_wandb_that_cannot_start(
    plain: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    asked = []

    def init(**given: Any) -> None:
        asked.append(given)
        raise wandb.errors.CommError("no answer from the server")

    monkeypatch.setattr(wandb, "init", init)
    run = start(tmp_path / "run", "wandb")
    with caplog.at_level(logging.WARNING, "featherweight"):
        run.execute()
    assert run.file.read_bytes() == plain
    assert len(asked) == 1
    assert (asked[0]["name"], asked[0]["project"]) == ("small", "featherweight")
    assert [r.getMessage() for r in caplog.records] == [
        "WandbLogger: cannot log, training goes on without it: no answer from the server"
    ]


@pytest.mark.parametrize(
    ("logger", "message"),
    [
        ("tensorbord", "cannot be imported"),
        (3, "one of tensorboard, wandb, csv; got 3"),
        ({"class_path": "logger_helpers.NoLogger"}, "is no logger of Lightning's"),
        ({"class_path": "TensorBoardLogger", "init_args": {"save_dir": "x", "nmae": 1}}, None),
        ({"class_path": "CSVLogger", "init_args": {"nmae": 1}}, "check init_args"),
    ],
)
def test_loggers_that_cannot_be_meant(tmp_path: Path, logger: Any, message: str | None) -> None:
    run = start(tmp_path / "run", logger)
    if message is None:  # TensorBoard hands what it does not know to its writer
        made = RunLoggers()
        made.make(run.spec, tmp_path)
        assert len(made.loggers) == 1
        return
    with pytest.raises(RecipeError, match=message):
        run.execute()
    assert not (tmp_path / "run").exists()


def test_a_missing_package_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: Any, **_: Any) -> None:
        raise ModuleNotFoundError("No module named 'wandb'")

    monkeypatch.setattr(WandbLogger, "__init__", missing)
    with pytest.raises(MissingPackageError, match=r"run pip install featherweight\[wandb\]"):
        start(tmp_path / "run", "wandb").execute()


# -- Lightning's own trainer -------------------------------------------------------------------------


def train(logger: Any, *callbacks: lightning.Callback) -> Trained:
    torch.manual_seed(0)
    module = Trained(Small())
    trainer = lightning.Trainer(
        max_epochs=3,
        logger=logger,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        log_every_n_steps=1,
    )
    trainer.fit(module, ImagesInMemory(digits()))
    return module


def test_the_callbacks_of_fit_log_to_tensorboard(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("<p>another</p>")
    module = train(
        logger,
        IterativePruning(amount=0.5, pruning_schedule={"epochs": [0]}),
        Quantization(epoch=2, bits=4),
        LogCompression(),
        SaveCompressed(dirpath=str(tmp_path / "out")),
    )
    found = events(tmp_path)
    weights = dict(module.network.named_parameters())
    zeros = sum(int((w == 0).sum()) for w in weights.values()) / sum(w.numel() for w in weights.values())
    assert found.Scalars("sparsity")[-1].value == pytest.approx(zeros)
    assert len(found.Scalars("bits/fc1.weight")) == 1  # Quantization's alone
    assert found.Scalars("compression_rate")[-1].value > 4
    size = (tmp_path / "out" / "model.fwt").stat().st_size
    assert found.Scalars("file_bytes")[0].value == size
    assert len(found.Histograms("weights/fc1.weight")) == 4  # three epochs, and the file
    assert (tmp_path / "report.html").read_text() == "<p>another</p>"


def test_guarded_loggers_of_a_trainer_do_not_stop_it(caplog: pytest.LogCaptureFixture) -> None:
    logger = Unreachable()
    guard = Guard.of(logger)
    with caplog.at_level(logging.WARNING, "featherweight"):
        train(logger, LogCompression())
    assert guard.broken
    assert logger.calls == 1
    assert len(caplog.records) == 1
    assert Guard.of(logger) is guard


def test_other_loggers_get_no_histograms(tmp_path: Path) -> None:
    train(CSVLogger(tmp_path, name="", version=""), LogCompression(every_epochs=2))
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("compression_rate")
    assert sum(bool(line.split(",")[column]) for line in lines[1:]) == 1
    log_report([CSVLogger(tmp_path)], tmp_path / "nowhere.html")
    with pytest.raises(RecipeError, match="every_epochs must be at least 1, got 0"):
        LogCompression(every_epochs=0)


@pytest.fixture
def as_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``featherweight fit`` finds: its arguments, and silence on a library's deprecation."""
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    monkeypatch.setattr(sys, "argv", ["featherweight", "fit"])


@pytest.mark.usefixtures("as_a_program")
def test_fit_goes_on_without_a_logger_that_cannot_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {
        "seed_everything": 0,
        "model": {
            "class_path": "featherweight.training.module.Classifier",
            "init_args": {"network": {"class_path": "training_helpers.Small"}},
        },
        "data": {
            "class_path": "featherweight.training.module.ImagesInMemory",
            "init_args": {"images": {"class_path": "featherweight.data.Digits"}},
        },
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05}},
        "trainer": {
            "max_epochs": 1,
            "accelerator": "cpu",
            "enable_checkpointing": False,
            "default_root_dir": str(tmp_path),
            "logger": [
                {"class_path": "logger_helpers.NoServer"},
                {
                    "class_path": "lightning.pytorch.loggers.CSVLogger",
                    "init_args": {"save_dir": str(tmp_path), "name": "log"},
                },
            ],
            "callbacks": [{"class_path": "featherweight.training.callbacks.LogCompression"}],
        },
    }
    write_mapping(config, tmp_path / "config.yaml")
    assert main(["fit", "--config", str(tmp_path / "config.yaml")]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "cannot log" in line]
    assert told == ["NoServer: cannot log, training goes on without it: the name of the host is not known"]
    header = (tmp_path / "log" / "version_0" / "metrics.csv").read_text().splitlines()[0]
    assert {"bits/fc1.weight", "compression_rate", "sparsity"} <= set(header.split(","))
