"""Importances that need data, in Lightning's training and in a whole run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import lightning
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from training_helpers import (
    LIGHTNING_WARNINGS,
    Small,
    SmallConvolution,
    Trained,
    Watch,
    digits,
    network,
    train,
    zeros,
)

import featherweight as fw
from featherweight.cli import main
from featherweight.errors import RecipeError
from featherweight.strict import write_mapping
from featherweight.training.callbacks import PruneByRecipe
from featherweight.training.progress import LoggedProgress

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.filterwarnings(warning) for warning in LIGHTNING_WARNINGS]


def recipe(match: Any = "fc1.weight", importance: str = "taylor1", **more: Any) -> dict[str, Any]:
    return {"rules": [{"match": match, "prune": {"importance": importance, "sparsity": 0.5, **more}}]}


def test_scores_come_from_the_first_training_batches_of_the_epoch(tmp_path: Path) -> None:
    module = network()
    first: dict[str, torch.Tensor] = {k: v.clone() for k, v in module.state_dict().items()}
    callback = PruneByRecipe(recipe(options={"samples": 200}))
    train(module, [callback], tmp_path, epochs=1, steps=1)
    reference = network()
    reference.load_state_dict(first)
    batches = digits(128).train_batches()
    batches.set_epoch(0)
    rules = fw.Recipe.from_dict(recipe(options={"samples": 200}))
    constraints = fw.prune(reference, rules, data=batches, loss=cross_entropy)
    assert torch.equal(callback.constraints.mask("fc1.weight"), constraints.mask("fc1.weight"))
    assert zeros(module.fc1.weight) >= 784 * 8


@pytest.mark.parametrize("importance", ["taylor2", "l1gate", "empirical", "nisp"])
def test_training_goes_on_as_if_nothing_was_drawn(tmp_path: Path, importance: str) -> None:
    """Random numbers (of dropout, say) and the order of the data are those of a magnitude run."""
    options = {"samples": 64}
    noted: dict[str, Any] = {}
    for name in ("magnitude", importance):
        watch = Watch(after_batch=lambda net: torch.get_rng_state())
        callback = PruneByRecipe(recipe(importance=name, options=options if name != "magnitude" else {}))
        train(network(), [callback, watch], tmp_path / name, epochs=2, steps=2)
        noted[name] = watch.batches
    assert all(torch.equal(a, b) for a, b in zip(noted["magnitude"], noted[importance], strict=True))


def test_filters_of_a_convolution_with_a_schedule(tmp_path: Path) -> None:
    schedule = {"kind": "stages"}
    rules = recipe("type:Conv2d", "nisp", granularity="filter", schedule=schedule)
    rules["rules"][0]["prune"]["sparsity"] = [1 / 3, 0.5]
    watch = Watch(after_batch=lambda net: int((net.conv.weight.flatten(1) == 0).all(1).sum()))
    train(network(SmallConvolution), [PruneByRecipe(rules), watch], tmp_path, epochs=3, steps=2)
    assert watch.batches == [2, 2, 3, 3, 3, 3]


class Loaders(lightning.LightningDataModule):
    """The digits through a ``DataLoader`` that shuffles."""

    def train_dataloader(self) -> Any:
        images, labels = next(iter(digits(1000).train_batches()))
        return DataLoader(TensorDataset(images, labels), batch_size=100, shuffle=True)

    def val_dataloader(self) -> Any:
        return digits().validation_batches()


def test_a_data_loader_gives_a_sample_of_its_own(tmp_path: Path) -> None:
    masks = []
    for seed in (3, 3, 4):
        torch.manual_seed(0)
        module = Small()
        callback = PruneByRecipe(recipe(options={"samples": 64}), seed=seed)
        trainer = lightning.Trainer(
            max_epochs=1, callbacks=[callback], limit_train_batches=2, logger=False, accelerator="cpu",
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(Trained(module), Loaders())
        masks.append(callback.constraints.mask("fc1.weight"))
        assert zeros(module.fc1.weight) >= 784 * 8
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_a_recipe_may_be_a_path_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "prune.rule").write_text("fc1.weight filter 0.25")
    module = network()
    train(module, [PruneByRecipe(str(tmp_path / "prune.rule"))], tmp_path, epochs=1, steps=1)
    assert int((module.fc1.weight == 0).all(1).sum()) == 4
    with pytest.raises(RecipeError, match="unknown key 'sparsty'"):
        PruneByRecipe({"rules": [{"match": "a", "prune": {"sparsty": 0.5}}]})


@pytest.mark.parametrize(
    ("model", "match", "prune"),
    [
        ("training_helpers.Small", "fc1.weight", {"importance": "taylor2", "options": {"samples": 128}}),
        ("training_helpers.SmallConvolution", "conv.weight", {"importance": "sss", "granularity": "filter",
                                                              "options": {"samples": 128, "epochs": 1}}),
    ],
)  # fmt: skip
def test_a_whole_run(tmp_path: Path, model: str, match: str, prune: dict[str, Any]) -> None:
    run = {
        "model": {"class_path": model},
        "data": {"class_path": "featherweight.data.Digits"},
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}},
        "fit": {"epochs": 1, "lr": 0.05},
        "prune": {"epochs": 1, "lr": 0.02},
        "recipe": {"rules": [{"match": match, "prune": {"sparsity": 0.5, **prune}, "quantize": {"bits": 4}}]},
        "threads": 1,
    }
    write_mapping(run, tmp_path / "run.yaml")
    for number in (1, 2):
        assert main(["run", str(tmp_path / "run.yaml"), "-o", str(tmp_path / str(number)), "--quiet"]) == 0
    weight = fw.load_file(tmp_path / "1" / "run.fwt")[match]
    assert zeros(weight) == weight.numel() // 2
    assert (tmp_path / "1" / "run.fwt").read_bytes() == (tmp_path / "2" / "run.fwt").read_bytes()
    assert json.loads((tmp_path / "1" / "result.json").read_text())["error_percent"] < 70


def test_progress_in_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("featherweight.training.progress.time.perf_counter", lambda: now[0])
    lines: list[str] = []
    progress = LoggedProgress(lines.append)
    for done in range(1, 31):
        now[0] += 0.5
        progress("factors", done, 30)
    for done in range(1, 4):  # over in no time: not worth a line
        progress("gradients", done, 3)
    assert lines == ["factors: 21 of 30", "factors: 30 of 30"]
