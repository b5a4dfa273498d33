"""A run whose recipe removes channels before the prune phase trains on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file as load_safetensors
from training_helpers import SmallConvolution

import featherweight as fw
from featherweight.data import Digits
from featherweight.errors import RecipeError
from featherweight.strict import build
from featherweight.training import run as run_module
from featherweight.training.evaluate import evaluate
from featherweight.training.run import Run
from featherweight.training.spec import RunSpec

if TYPE_CHECKING:
    from pathlib import Path


def start(directory: Path, **prune: Any) -> Run:
    rules = [
        {
            "match": "conv.weight",
            "prune": {"granularity": "channel", "importance": "greedy", "sparsity": 0.5, **prune},
            "quantize": {"bits": 4},
        },
        {"match": "fc.weight", "prune": {"sparsity": 0.5}, "quantize": {"bits": 4}},
    ]
    data = {
        "name": "narrow",
        "model": {"class_path": "training_helpers.SmallConvolution"},
        "data": {"class_path": "featherweight.data.Digits"},
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}},
        "fit": {"epochs": 1, "lr": 0.05},
        "prune": {"epochs": 1, "lr": 0.05},
        "share": {"epochs": 1, "lr": 0.001},
        "recipe": {"rules": rules},
        "threads": 1,
    }
    return Run.create(build(RunSpec, data, "run"), directory)


def test_channels_are_removed_trained_on_and_rebuilt_from_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = start(tmp_path / "run")
    with caplog.at_level("INFO", "featherweight"):
        result = run.execute()
    # Once, when they go: not when the recipe is checked before the first phase.
    assert [m for m in caplog.messages if "channels" in m] == ["conv: 3 of 6 channels left"]
    shapes = {name: tuple(t.shape) for name, t in fw.load_file(run.file).items()}
    assert shapes == {
        "conv.weight": (3, 1, 5, 5),
        "conv.bias": (3,),
        "fc.weight": (10, 108),
        "fc.bias": (10,),
    }
    network = fw.load_model(SmallConvolution(), run.file)
    assert evaluate(network, Digits().test_batches()).error_percent == result.error_percent
    dense = sum(4 * p.numel() for p in SmallConvolution().parameters())
    assert result.dense_bytes == dense
    assert result.ratio == pytest.approx(dense / result.bytes)
    # 216·10 + 150 weights, of which half the channels, then half of the linear layer's, went.
    assert result.ratio_n == pytest.approx(4 * 2320 / (4 * 615), rel=0.05)
    trained = load_safetensors(tmp_path / "run" / "prune.safetensors")
    before = load_safetensors(tmp_path / "run" / "channels.safetensors")
    assert not torch.equal(trained["conv.weight"], before["conv.weight"])


def test_a_run_that_stopped_after_the_channels_goes_on_to_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = start(tmp_path / "whole")
    whole.execute()
    stopped = start(tmp_path / "stopped")

    def stop(name: str, *args: Any) -> None:
        if name == "prune":
            raise KeyboardInterrupt
        train(name, *args)

    train = run_module.train_phase
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "train_phase", stop)
        with pytest.raises(KeyboardInterrupt):
            stopped.execute()
    assert (tmp_path / "stopped" / "channels.safetensors").exists()
    patched = json.loads((tmp_path / "stopped" / "state.json").read_text())
    assert "prune" in patched["seconds"]
    again = Run.resume(tmp_path / "stopped")
    again.execute()
    assert again.file.read_bytes() == whole.file.read_bytes()


def test_rules_that_do_not_fit_are_refused_before_training(tmp_path: Path) -> None:
    for options, message in [
        ({"sparsity": 1.0}, "a fraction below 1"),
        ({"importance": "greedily"}, "unknown importance 'greedily'"),
        ({"scope": "global"}, "leave out schedule and scope"),
    ]:
        with pytest.raises(RecipeError, match=message):
            start(tmp_path / "run", **options)
    run = start(tmp_path / "run")
    output = fw.Rule("fc.weight", fw.Prune("l1norm", "channel", 0.5))
    object.__setattr__(run.spec, "recipe", fw.Recipe((output,)))
    with pytest.raises(RecipeError, match="fc: cannot be pruned by channel: no layer reads its output"):
        run.execute()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("apply", [fw.compress, fw.prune])
def test_where_weights_are_masked_channel_rules_are_refused(apply: Any) -> None:
    recipe = fw.Recipe((fw.Rule("conv.weight", fw.Prune("l1norm", "channel", 0.5)),))
    with pytest.raises(RecipeError, match=r"'conv\.weight' removes channels.*prune_channels_by"):
        apply(SmallConvolution(), recipe)
    only_bias = fw.Recipe((fw.Rule("conv.bias", fw.Prune("l1norm", "channel", 0.5)),))
    from featherweight.channel_rules import prune_channels_by

    with pytest.raises(RecipeError, match="matches no weight of a convolution"):
        prune_channels_by(SmallConvolution(), only_bias, [])
