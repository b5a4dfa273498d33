"""Whole runs that prune from scratch, within a bound, by surgery, or with less dropout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from safetensors.torch import load_file as load_safetensors
from training_helpers import zeros

from featherweight.cli import main
from featherweight.constraints import Surgery
from featherweight.errors import RecipeError
from featherweight.models import LeNet300
from featherweight.strict import build
from featherweight.training.callbacks import AdjustDropout, PruneByRecipe
from featherweight.training.evaluate import evaluate
from featherweight.training.phases import EpochCheckpoint
from featherweight.training.run import Run
from featherweight.training.spec import RunSpec

if TYPE_CHECKING:
    from pathlib import Path

BOUNDED = {
    "kind": "accuracy_bounded", "limit_points": 1.0, "step": 0.7, "most_rounds": 3, "retrain_epochs": 1,
}  # fmt: skip
SURGERY = {"surgery": {"c_rate": 0.8, "gamma": 0.05, "power": 1, "iter_stop": 40}}


def description(how: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """LeNet-300-100 on the digits, with momentum, shifts and dropout."""
    return {
        "name": "lenet",
        "model": {"class_path": "featherweight.models.LeNet300", "init_args": {"dropout": 0.2}},
        "data": {
            "class_path": "featherweight.data.Digits",
            "init_args": {"batch_size": 128, "shift": 1, "validation_split": 0.2},
        },
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}},
        "fit": {"epochs": 6, "lr": 0.05},
        "prune": {"epochs": 20, "lr": 0.02, "lr_schedule": "constant"},
        "recipe": {"rules": [{"match": "fc*.weight", "prune": how}]},
        "threads": 1,
        **changes,
    }


def start(directory: Path, data: dict[str, Any]) -> Run:
    return Run.create(build(RunSpec, data, "run"), directory)


def journal(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "accuracy_bounded.json").read_text())
    return found


# -- within a bound ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = start(
        tmp_path_factory.mktemp("bounded") / "run",
        description({"sparsity": 0.99, "schedule": BOUNDED}),
    )
    run.execute()
    return run


def validation_error(path: Path) -> float:
    images = build(RunSpec, description({"sparsity": 0.5}), "run").data.create()
    network = LeNet300()
    network.load_state_dict(load_safetensors(path))
    return evaluate(network, images.validation_batches()).error_percent


def test_the_limit_holds_on_the_validation_images(bounded: Run) -> None:
    found = journal(bounded.directory)
    dense = validation_error(bounded.directory / "fit.safetensors")
    pruned = validation_error(bounded.directory / "prune.safetensors")
    assert found["accuracy_before_percent"] == pytest.approx(100 - dense)
    assert found["finished"]
    assert pruned - dense <= 1.0
    for step in found["steps"]:
        assert step["lost_points"] == pytest.approx(100 - dense - step["accuracy_percent"])
        assert step["kept"] == (step["lost_points"] <= 1.0)
    kept = [step for step in found["steps"] if step["kept"]]
    assert 100 - pruned == pytest.approx(kept[-1]["accuracy_percent"])
    assert any(not step["kept"] for step in found["steps"])
    # What the journal says of each layer is what the weights are.
    state = load_safetensors(bounded.directory / "prune.safetensors")
    assert {layer["name"]: layer["pruned"] for layer in found["layers"]} == {
        f"fc{i}.weight": zeros(state[f"fc{i}.weight"]) for i in (1, 2, 3)
    }
    assert zeros(state["fc1.weight"]) > 0.6 * 235_200


#: Kills itself in the middle of the given epoch of the prune phase, or after its checkpoint.
KILLED = """
import os, signal, sys
from featherweight.cli import main
from featherweight.training.phases import EpochCheckpoint

hook, epoch, *arguments = sys.argv[1:]
save = EpochCheckpoint.on_train_epoch_end

def in_epoch(self, trainer, *_):
    if self.path.stem == "prune" and trainer.current_epoch == int(epoch):
        os.kill(os.getpid(), signal.SIGKILL)

def after_epoch(self, trainer, *rest):
    save(self, trainer, *rest)
    in_epoch(self, trainer)

setattr(EpochCheckpoint, hook, in_epoch if hook == "on_train_batch_end" else after_epoch)
sys.exit(main(arguments))
"""


def killed(hook: str, epoch: int, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, hook, str(epoch), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_killed_and_resumed_it_ends_with_the_same_bytes(
    bounded: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lenet.yaml"
    file.write_text(yaml.safe_dump(description({"sparsity": 0.99, "schedule": BOUNDED})), encoding="utf-8")
    directory = tmp_path / "run"
    steps = journal(bounded.directory)["steps"]
    back = next(i for i, step in enumerate(steps) if not step["kept"])  # one epoch a step
    killed("on_train_batch_end", back, "run", str(file), "-o", str(directory), "-q")
    # Again after the checkpoint of the last step: nothing is left to train.
    killed("on_train_epoch_end", len(steps) - 1, "run", "--resume", str(directory), "-q")
    assert not (directory / "prune.safetensors").exists()
    assert main(["run", "--resume", str(directory)]) == 0
    for name in ("prune.safetensors", "lenet.fwt", "accuracy_bounded.json"):
        assert (directory / name).read_bytes() == (bounded.directory / name).read_bytes(), name
    told = capsys.readouterr().out
    assert "taken back" in told
    assert "costs too much" in told


def test_too_few_epochs_leave_only_what_was_judged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    schedule = {**BOUNDED, "retrain_epochs": 2}
    data = description({"sparsity": 0.99, "schedule": schedule}, fit={"epochs": 2, "lr": 0.05})
    data["prune"]["epochs"] = 3
    start(tmp_path / "run", data).execute()
    found = journal(tmp_path / "run")
    assert len(found["steps"]) == 1
    assert not found["finished"]
    state = load_safetensors(tmp_path / "run" / "prune.safetensors")
    assert [zeros(state[f"fc{i}.weight"]) for i in (1, 2, 3)] == [
        layer["pruned"] for layer in found["layers"]
    ]
    assert "pruning ended before the accuracy did: 2 epochs are too few" in caplog.text


def test_without_validation_images_nothing_begins(tmp_path: Path) -> None:
    data = description({"sparsity": 0.9, "schedule": BOUNDED})
    data["data"]["init_args"]["validation_split"] = 0
    with pytest.raises(RecipeError, match="needs validation images; give the data a validation_split"):
        start(tmp_path / "run", data).execute()
    assert not (tmp_path / "run").exists()


# -- from scratch ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", [{"epochs": 0, "lr": 0.05}, None])
def test_a_network_just_initialised_is_pruned_while_it_learns(tmp_path: Path, fit: Any) -> None:
    schedule = {"kind": "cubic", "epochs": 2, "every_steps": 3}
    data = description({"sparsity": 0.8, "schedule": schedule}, fit=fit)
    data["prune"] = {"epochs": 6, "lr": 0.1}
    data = {key: value for key, value in data.items() if value is not None}
    run = start(tmp_path / "run", data)
    found = run.execute()
    assert found.error_dense_percent is None
    assert found.error_percent < 30
    state = load_safetensors(run.directory / "prune.safetensors")
    assert [zeros(state[f"fc{i}.weight"]) for i in (1, 2, 3)] == [188_160, 24_000, 800]
    torch.manual_seed(0)
    first = LeNet300(dropout=0.2).state_dict()
    dense = load_safetensors(run.directory / "fit.safetensors")
    assert all(torch.equal(dense[name], first[name]) for name in first)
    assert json.loads((run.directory / "result.json").read_text())["error_dense_percent"] is None


def test_a_run_that_trains_nothing_is_refused() -> None:
    data = description({"sparsity": 0.8})
    del data["fit"], data["prune"]
    with pytest.raises(RecipeError, match="no phase has epochs"):
        build(RunSpec, data, "run")


# -- surgery and dropout -----------------------------------------------------------------------------


def test_surgery_and_dropout_resumed_end_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = description(
        SURGERY,
        model={"class_path": "training_helpers.Small", "init_args": {"dropout": 0.5}},
        fit={"epochs": 1, "lr": 0.05},
        prune={"epochs": 4, "lr": 0.05, "adjust_dropout": True},
        share={"epochs": 2, "lr": 0.001, "adjust_dropout": {"dropout": ["fc2"]}},
    )
    data["recipe"]["rules"][0]["quantize"] = {"bits": 3}
    seen: list[tuple[float, float]] = []
    masks: list[bool] = []

    def watch(self: Any, trainer: Any, module: Any, *_: Any) -> None:
        network = module.network
        left = float((network.fc2.weight != 0).sum()) / 160
        seen.append((network.dropout.p, left))
        pruning = [c for c in trainer.callbacks if isinstance(c, PruneByRecipe)]
        masks.extend(isinstance(c.constraints.latent("fc1.weight"), Surgery) for c in pruning)

    monkeypatch.setattr(AdjustDropout, "on_train_batch_end", watch)
    whole = start(tmp_path / "whole", data)
    whole.execute()
    assert masks
    assert all(masks)
    # Eight batches an epoch; at the first of each, p is that of what was left before its step.
    assert seen[0][0] == 0.5
    for epoch in range(1, 4):
        assert seen[8 * epoch][0] == pytest.approx(0.5 * seen[8 * epoch - 1][1] ** 0.5)
    pruned = load_safetensors(tmp_path / "whole" / "prune.safetensors")
    shared = load_safetensors(tmp_path / "whole" / "share.safetensors")
    assert 0.2 < zeros(pruned["fc1.weight"]) / 12544 < 0.98
    for name in ("fc1.weight", "fc2.weight"):
        assert torch.equal(pruned[name] == 0, shared[name] == 0)
    left = float((pruned["fc2.weight"] != 0).sum()) / 160
    assert seen[-1][0] == pytest.approx(0.5 * left**0.5)

    stopped = start(tmp_path / "stopped", data)

    def stop(self: Any, trainer: Any, *_: Any) -> None:
        if self.path.stem == "prune" and trainer.current_epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EpochCheckpoint, "on_train_batch_end", stop, raising=False)
        with pytest.raises(KeyboardInterrupt):
            stopped.execute()
    Run.resume(tmp_path / "stopped").execute()
    assert stopped.file.read_bytes() == whole.file.read_bytes()


def test_dropout_that_cannot_be_adjusted_is_told_before_training(tmp_path: Path) -> None:
    data = description({"sparsity": 0.5}, prune={"epochs": 1, "lr": 0.05, "adjust_dropout": {"drop": "fc2"}})
    with pytest.raises(RecipeError, match="'drop' is no dropout of the model; it has: dropout"):
        start(tmp_path / "run", data).execute()
    with pytest.raises(RecipeError, match="fit: adjust_dropout is for prune and share"):
        build(
            RunSpec, description({"sparsity": 0.5}, fit={"epochs": 1, "lr": 1, "adjust_dropout": True}), "run"
        )
