from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from training_helpers import (
    LIGHTNING_WARNINGS,
    SmallConvolution,
    Watch,
    network,
    snapshot,
    train,
    zeros,
)

from featherweight.errors import RecipeError
from featherweight.training.callbacks import IterativePruning, Quantization

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.filterwarnings(w) for w in LIGHTNING_WARNINGS]


def values(weight: torch.Tensor) -> int:
    return len(weight.unique())


@pytest.mark.parametrize("function", ["linear", "density", "forgy"])
@pytest.mark.parametrize("suffix", ["", "_quantization"])
def test_weights_are_shared_at_the_epoch_and_go_on_being_shared(
    tmp_path: Path, function: str, suffix: str
) -> None:
    watch = Watch(at_start=snapshot)
    train(network(), [Quantization(1, function + suffix, bits=3), watch], tmp_path, epochs=3)
    counts = [values(state["fc1.weight"]) for state in watch.starts]
    assert counts[0] > 1000
    assert counts[1:] == [7, 7]  # one of the eight values is the zero of pruned weights
    clusters = [np.unique(s["fc1.weight"].numpy(), return_inverse=True)[1] for s in watch.starts[1:]]
    # Centroids have moved, weights have not changed their cluster.
    assert not torch.equal(watch.starts[1]["fc1.weight"], watch.starts[2]["fc1.weight"])
    ordered = [len({*zip(clusters[0].ravel(), clusters[1].ravel(), strict=True)})]
    assert ordered == [7]


def test_where_kmeans_starts_matters(tmp_path: Path) -> None:
    codebooks = []
    for function in ("linear", "density"):
        watch = Watch(at_start=lambda m: m.fc1.weight.detach().unique())
        pruning = IterativePruning(amount=0.8, pruning_schedule={"epochs": [0]})
        train(network(), [pruning, Quantization(0, function, bits=3), watch], tmp_path, epochs=1, steps=1)
        codebooks.append(watch.starts[0])
    # Linear centroids in the gap that pruning leaves get no members; those of the density lie elsewhere.
    linear, density = map(len, codebooks)
    assert linear < density == 8


def test_forgy_takes_a_seed(tmp_path: Path) -> None:
    codebooks = []
    for seed in (1, 1, 2):
        watch = Watch(at_start=lambda m: m.fc2.weight.detach().unique())
        train(network(), [Quantization(0, "forgy", bits=3, seed=seed), watch], tmp_path, epochs=1, steps=1)
        codebooks.append(watch.starts[0].tolist())
    assert codebooks[0] == codebooks[1] != codebooks[2]


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_bits(tmp_path: Path, bits: int) -> None:
    model = network()
    callbacks = [IterativePruning(amount=0.5, pruning_schedule={"epochs": [0]}), Quantization(1, bits=bits)]
    train(model, callbacks, tmp_path, epochs=2)
    assert values(model.fc1.weight) <= 2**bits
    assert values(model.fc1.weight) > 2 ** (bits - 1)
    assert zeros(model.fc1.weight) + zeros(model.fc2.weight) == round(0.5 * (12544 + 160))


def test_filter_layers_and_parameter_names(tmp_path: Path) -> None:
    model = network(SmallConvolution)
    train(model, [Quantization(0, bits=2, filter_layers=["Conv2d"])], tmp_path, epochs=1)
    assert values(model.conv.weight) <= 3
    assert values(model.fc.weight) > 100
    model = network(SmallConvolution)
    train(model, [Quantization(0, bits=2, parameter_names=["bias"])], tmp_path, epochs=1)
    assert values(model.fc.bias) <= 3
    assert values(model.conv.weight) > 100


def test_pruning_stops_for_shared_weights_and_says_nothing_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Watch(at_start=lambda m: zeros(m.fc1.weight))
    pruning = IterativePruning(amount=0.5, use_global_unstructured=False, verbose=1)
    with caplog.at_level(logging.INFO, logger="featherweight"):
        train(network(), [pruning, Quantization(1, bits=4), watch], tmp_path, epochs=3)
    assert watch.starts == [6272, 9408, 9408]
    pruned = [r.message for r in caplog.records if "pruned" in r.message]
    assert pruned == ["epoch 0: pruned 50.00 % of the weights", "epoch 1: pruned 75.00 % of the weights"]


def test_pruning_goes_on_for_weights_that_are_not_shared(tmp_path: Path) -> None:
    model = network(SmallConvolution)
    callbacks = [
        Quantization(0, bits=4, filter_layers=["Conv2d"]),
        IterativePruning(amount=0.5, use_global_unstructured=False),
    ]
    train(model, callbacks, tmp_path, epochs=2)
    assert zeros(model.conv.weight) == 0
    assert zeros(model.fc.weight) == 1620  # ¾ of 2160


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"verbose": 0}, []),
        ({"verbose": 1}, ["shared the weights"]),
        ({"verbose": 1, "huffman_encode": True}, ["shared the weights", "with Huffman coding"]),
        ({"verbose": 2}, ["shared the weights", "fc1.weight: ", "fc2.weight: "]),
    ],
)
def test_verbose(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, options: dict[str, Any], expected: list[str]
) -> None:
    with caplog.at_level(logging.INFO, logger="featherweight"):
        train(network(), [Quantization(0, **options)], tmp_path, epochs=1, steps=1)
    found = [r.message for r in caplog.records if r.name.startswith("featherweight")]
    assert len(found) == len(expected)
    assert all(part in message for part, message in zip(expected, found, strict=True))


def test_the_compression_rate_is_that_of_the_papers_accounting(tmp_path: Path) -> None:
    model = network()
    callbacks = [Quantization(0, bits=4, filter_layers=["Linear"], huffman_encode=True)]
    trainer = train(model, callbacks, tmp_path, epochs=1)
    rate = float(trainer.callback_metrics["compression_rate"])
    # Nothing is pruned: 4 bits for each weight, no positions, two codebooks of 16 values of 32 bits.
    weights = 12544 + 160
    assert rate == pytest.approx(32 * weights / (4 * weights + 2 * 16 * 32))
    assert float(trainer.callback_metrics["compression_rate_huffman"]) > rate
    bits = float(trainer.callback_metrics["bits/fc1.weight"])
    assert 1 < bits < 4.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantization_fn": "uniform"}, "unknown quantization_fn 'uniform'; known: linear, density, forgy"),
        ({"bits": 0}, "bits must be between 1 and 8, got 0"),
        ({"bits": 33}, "got 33"),
        ({"epoch": -1}, "epoch must be at least 0, got -1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Quantization(**{"epoch": 0, **options})


def test_a_layer_class_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="layers of class Conv2d; the model has layers of class Linear"):
        train(network(), [Quantization(0, filter_layers=["Conv2d"])], tmp_path, epochs=1)


def test_an_epoch_that_never_comes_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="featherweight"):
        train(network(), [Quantization(5)], tmp_path, epochs=2, steps=1)
    assert "training ended before epoch 5: nothing was quantized" in caplog.text
