"""Whole runs whose weights are quantized in other ways than by k-means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file as load_safetensors
from training_helpers import LIGHTNING_WARNINGS, network, same_bits, train

from featherweight import load_file
from featherweight.errors import RecipeError
from featherweight.strict import build
from featherweight.training.callbacks import ShareByRecipe
from featherweight.training.phases import EpochCheckpoint
from featherweight.training.run import Run
from featherweight.training.spec import RunSpec

if TYPE_CHECKING:
    from pathlib import Path

QUANTIZERS: dict[str, dict[str, Any]] = {
    "ecsq": {"method": "ecsq", "bits": 3, "lagrangian": 0.01, "weights": "fisher", "init": "optimal"},
    "16 bits": {"method": "kmeans", "bits": 3, "init": "density", "codebook_dtype": "float16"},
    "again": {"method": "ecsq", "bits": 3, "lagrangian": 0.01, "re_quantize": True},
    "labels": {"method": "optimal", "bits": 2, "update_labels": True},
    "incremental": {"method": "optimal", "bits": 2, "incremental": [0.6, 1]},
    "fixed": {"method": "fixed_point", "bits": 6},
    "ttq": {"method": "ttq", "float_ends": False, "scale_lr": 0.1},
}


def start(directory: Path, quantize: dict[str, Any]) -> Run:
    rules = [
        {
            "match": "*.weight",
            "prune": {"sparsity": 0.7, "schedule": {"kind": "one_shot"}},
            "quantize": quantize,
        },
        {"match": "*.bias", "store": {"bits": 16}},
    ]
    description = {
        "name": "small",
        "model": {"class_path": "training_helpers.Small"},
        "data": {"class_path": "featherweight.data.Digits", "init_args": {"batch_size": 128}},
        "optimizer": {"class_path": "torch.optim.Adam"},
        "fit": {"epochs": 4, "lr": 0.01},
        "prune": {"epochs": 1, "lr": 0.002},
        "share": {"epochs": 3, "lr": 0.001},
        "recipe": {"rules": rules, "code": {"coder": "context"}},
        "threads": 1,
    }
    return Run.create(build(RunSpec, description, "run"), directory)


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_the_file_is_the_network_that_was_trained(tmp_path: Path, kind: str) -> None:
    run = start(tmp_path / "run", QUANTIZERS[kind])
    result = run.execute()  # which compares the file with the network bit for bit
    loaded = load_file(run.file)
    trained = load_safetensors(run.directory / "share.safetensors")
    assert same_bits(loaded, trained)
    values = loaded["fc1.weight"].unique()
    assert len(values) <= {"labels": 4, "incremental": 4, "fixed": 64, "ttq": 3}.get(kind, 8)
    pruned = load_safetensors(run.directory / "prune.safetensors")["fc1.weight"] == 0
    assert not loaded["fc1.weight"][pruned].any()
    for bias in (loaded["fc1.bias"], loaded["fc2.bias"]):
        assert torch.equal(bias.half().float(), bias)
    if kind == "16 bits":
        assert torch.equal(values.half().float(), values)
    if kind == "fixed":
        unit = float(values.diff().min())
        assert torch.equal(values / unit, (values / unit).round())
    assert result.error_percent < 60  # 90 by chance


@pytest.mark.parametrize("kind", ["ecsq", "ttq", "again", "incremental"])
def test_a_run_that_is_stopped_and_resumed_ends_with_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    whole = start(tmp_path / "whole", QUANTIZERS[kind])
    whole.execute()
    stopped = start(tmp_path / "stopped", QUANTIZERS[kind])
    save = EpochCheckpoint.on_train_epoch_end

    def stop(self: EpochCheckpoint, trainer: Any, module: Any) -> None:
        save(self, trainer, module)
        if "share" in str(self.path):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EpochCheckpoint, "on_train_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            stopped.execute()
    assert not stopped.file.exists()
    resumed = Run.resume(stopped.directory)
    resumed.execute()
    assert resumed.file.read_bytes() == whole.file.read_bytes()


def test_more_stages_than_epochs_are_refused_before_the_run_begins(tmp_path: Path) -> None:
    run = start(tmp_path / "run", {"method": "optimal", "bits": 2, "incremental": [0.4, 0.6, 0.8, 1]})
    with pytest.raises(RecipeError, match="incremental has 4 stages, one an epoch, but there are 3 epochs"):
        run.execute()
    assert not (run.directory / "fit.safetensors").exists()


@pytest.mark.filterwarnings(*LIGHTNING_WARNINGS)
def test_a_callback_says_where_training_ended_before_the_stages_did(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = {"rules": [{"match": "fc1.weight", "quantize": {"bits": 2, "incremental": [0.5, 0.75, 1]}}]}
    train(network(), [ShareByRecipe(recipe)], tmp_path, epochs=2)
    assert "fc1.weight: 75.0 % of the weights share values" in caplog.text
    caplog.clear()
    train(network(), [ShareByRecipe(recipe)], tmp_path, epochs=3)
    assert "share values" not in caplog.text


@pytest.mark.filterwarnings(*LIGHTNING_WARNINGS)
@pytest.mark.parametrize("saves", ["after the last step", "at the end of the epoch"])
def test_a_resumed_training_is_at_the_stage_of_its_epoch(tmp_path: Path, saves: str) -> None:
    recipe = {"rules": [{"match": "fc1.weight", "quantize": {"bits": 2, "incremental": [0.4, 0.6, 0.8, 1]}}]}
    steps = (
        {"every_n_train_steps": 3} if saves == "after the last step" else {"save_on_train_epoch_end": True}
    )
    keep = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}", **steps)
    whole = network()
    train(whole, [ShareByRecipe(recipe), keep], tmp_path, epochs=4, steps=3)
    resumed = network(seed=1)
    train(resumed, [ShareByRecipe(recipe)], tmp_path, epochs=4, steps=3, resume=tmp_path / "epoch=1.ckpt")
    assert whole.fc1.weight.unique().numel() <= 4
    assert same_bits(whole.state_dict(), resumed.state_dict())


@pytest.mark.filterwarnings(*LIGHTNING_WARNINGS)
def test_the_first_stage_is_that_of_the_first_epoch_after_a_checkpoint_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(network(), [EpochCheckpoint(tmp_path / "a.ckpt")], tmp_path, epochs=2)
    recipe = {"rules": [{"match": "fc1.weight", "quantize": {"bits": 2, "incremental": [0.5, 0.75, 1]}}]}
    train(network(), [ShareByRecipe(recipe)], tmp_path, epochs=4, resume=tmp_path / "a.ckpt")
    assert "75.0 % of the weights" in caplog.text
