"""Runs that choose their bits, and runs that start from given weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from safetensors.torch import load_file as load_safetensors
from safetensors.torch import save_file as save_safetensors
from training_helpers import LIGHTNING_WARNINGS, Small, network, same_bits, train

from featherweight import CheckpointError, Recipe, RecipeError, load_file, save_model
from featherweight.strict import build
from featherweight.training.callbacks import ShareByRecipe
from featherweight.training.phases import EpochCheckpoint
from featherweight.training.run import Run
from featherweight.training.spec import RunSpec

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.filterwarnings(warning) for warning in LIGHTNING_WARNINGS]

RULES = [{"match": "*.weight", "quantize": {"bits": "auto"}}]


def description(**changes: Any) -> dict[str, Any]:
    return {
        "name": "small",
        "model": {"class_path": "training_helpers.Small"},
        "data": {"class_path": "featherweight.data.Digits", "init_args": {"batch_size": 128}},
        "optimizer": {"class_path": "torch.optim.Adam"},
        "fit": {"epochs": 3, "lr": 0.01},
        "share": {"epochs": 2, "lr": 0.001},
        "recipe": {"rules": RULES, "budget": {"mean_bits": 3.5}},
        "threads": 1,
        **changes,
    }


def start(directory: Path, **changes: Any) -> Run:
    data = {key: value for key, value in description(**changes).items() if value is not None}
    return Run.create(build(RunSpec, data, "run"), directory)


def test_a_run_chooses_bits_once_and_stores_what_it_trained(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    run.execute()  # which compares the file with the network bit for bit
    bits = yaml.safe_load((run.directory / "bits.yaml").read_text())
    assert set(bits) == {n for n, p in Small().named_parameters() if n.endswith("weight")}
    trained = load_safetensors(run.directory / "share.safetensors")
    assert same_bits(load_file(run.file), trained)
    for name, number in bits.items():
        assert len(trained[name].unique()) <= 2**number
    again = Run.resume(run.directory)
    assert again.spec.recipe.undecided
    again.execute()
    assert yaml.safe_load((run.directory / "bits.yaml").read_text()) == bits


def test_a_run_without_a_share_phase_keeps_to_the_size(tmp_path: Path) -> None:
    changes = {"share": None, "recipe": {"rules": RULES, "budget": {"size": 5000}}}
    result = start(tmp_path / "run", **changes).execute()
    assert 2500 < result.bytes <= 5000


def test_a_size_out_of_reach_is_told_and_the_run_can_go_on_with_another(tmp_path: Path) -> None:
    run = start(tmp_path / "run", recipe={"rules": RULES, "budget": {"size": 100}})
    with pytest.raises(RecipeError, match="a file of 100 bytes is out of reach"):
        run.execute()
    spec = build(RunSpec, description(recipe={"rules": RULES, "budget": {"size": "4KB"}}), "run")
    spec.save(run.directory / "run.yaml")
    assert Run.resume(run.directory).execute().bytes <= 4100


def test_the_callback_keeps_its_bits_in_checkpoints(tmp_path: Path) -> None:
    recipe = Recipe.from_dict({"rules": RULES, "budget": {"mean_bits": 3.0}})
    model = network()
    callback = ShareByRecipe(recipe)
    train(model, [callback, EpochCheckpoint(tmp_path / "a.ckpt")], tmp_path, epochs=2)
    assert not callback.recipe.undecided
    resumed = ShareByRecipe(recipe)
    train(network(seed=1), [resumed], tmp_path, epochs=3, resume=tmp_path / "a.ckpt")
    assert resumed.recipe == callback.recipe


@pytest.mark.parametrize("kind", ["safetensors", "pt", "fwt"])
def test_a_run_starts_from_given_weights(tmp_path: Path, kind: str) -> None:
    given = network(seed=7)
    path = tmp_path / f"given.{kind}"
    if kind == "safetensors":
        save_safetensors(given.state_dict(), path)
    elif kind == "pt":
        torch.save({"state_dict": given.state_dict()}, path)
    else:
        save_model(given, path)
    file = tmp_path / "small.yaml"
    run = {**description(fit={"epochs": 0, "lr": 0.01}, weights=path.name), "share": None, "recipe": {}}
    file.write_text(yaml.safe_dump({k: v for k, v in run.items() if v is not None}))
    spec = RunSpec.load(file)
    assert spec.weights == str(path)
    Run.create(spec, tmp_path / "run").execute()
    assert same_bits(load_safetensors(tmp_path / "run" / "fit.safetensors"), given.state_dict())
    assert RunSpec.load(tmp_path / "run" / "run.yaml") == spec


def test_weights_are_found_in_the_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATHERWEIGHT_DATA", str(tmp_path))
    spec = build(RunSpec, description(weights="pretrained/a.pt"), "run")
    assert spec.weights_path() == tmp_path / "pretrained" / "a.pt"
    assert build(RunSpec, description(), "run").weights_path() is None


def test_weights_that_do_not_fit_are_told_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"fc.weight": torch.ones(2, 2)}, path)
    with pytest.raises(CheckpointError, match=r"other\.pt: does not fit Small"):
        start(tmp_path / "run", weights=str(path)).execute()
    with pytest.raises(CheckpointError, match=r"missing\.pt"):
        start(tmp_path / "run", weights=str(tmp_path / "missing.pt")).execute()
    assert not (tmp_path / "run").exists()
