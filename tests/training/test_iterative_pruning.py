from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.nn.utils import prune as torch_prune
from training_helpers import (
    FC1,
    FC2,
    LIGHTNING_WARNINGS,
    SmallConvolution,
    Watch,
    network,
    train,
    zero_fraction,
    zeros,
)

from featherweight.errors import RecipeError
from featherweight.training.callbacks import IterativePruning, L1Threshold

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.filterwarnings(w) for w in LIGHTNING_WARNINGS]


def sparsities(root: Path, *, epochs: int = 4, **options: Any) -> list[float]:
    """The fraction of zeros among the weights at the start of every epoch, pruning done."""
    watch = Watch(at_start=zero_fraction)
    train(network(), [IterativePruning(**options), watch], root, epochs=epochs, steps=2)
    return watch.starts


def once(root: Path, model: Any, **options: Any) -> Any:
    """The weights just after one pruning."""
    watch = Watch(at_start=lambda m: {n: p.detach().clone() for n, p in m.named_parameters()})
    options = {"pruning_schedule": {"epochs": [0]}, **options}
    train(model, [IterativePruning(**options), watch], root, epochs=1, steps=1)
    return watch.starts[0]


# -- schedules ---------------------------------------------------------------------------------------


def test_each_pruning_takes_a_fraction_of_what_is_left_and_stops_at_the_target(tmp_path: Path) -> None:
    found = sparsities(tmp_path, epochs=5, amount=0.6, pruning_schedule={"target_sparsity": 0.9})
    # 0.6, 1 − 0.4², 1 − 0.4³ = 0.936 ≥ 0.9: no further pruning.
    assert found == pytest.approx([0.6, 0.84, 0.936, 0.936, 0.936], abs=1e-4)


def test_a_target_reached_exactly_stops(tmp_path: Path) -> None:
    found = sparsities(tmp_path, epochs=3, amount=0.5, pruning_schedule={"target_sparsity": 0.75})
    assert found == [0.5, 0.75, 0.75]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({}, [0.5, 0.75, 0.875, 0.9375]),
        ({"start_epoch": 1}, [0, 0.5, 0.75, 0.875]),
        ({"start_epoch": 1, "prune_every": 2}, [0, 0.5, 0.5, 0.75]),
        ({"prune_every": 3}, [0.5, 0.5, 0.5, 0.75]),
        ({"epochs": [1, 3]}, [0, 0.5, 0.5, 0.75]),
        ({"epochs": [2], "start_epoch": 0, "prune_every": 1}, [0, 0, 0.5, 0.5]),
        ({"epochs": []}, [0, 0, 0, 0]),
        ({"start_epoch": 9}, [0, 0, 0, 0]),
    ],
)
def test_schedules(tmp_path: Path, schedule: dict[str, Any], expected: list[float]) -> None:
    assert sparsities(tmp_path, amount=0.5, pruning_schedule=schedule) == pytest.approx(expected, abs=1e-4)


# -- amounts and choices -----------------------------------------------------------------------------


def test_a_global_fraction_takes_the_smallest_of_all_weights(tmp_path: Path) -> None:
    model = network()
    before = np.concatenate([p.detach().numpy().ravel() for p in (model.fc1.weight, model.fc2.weight)])
    after = once(tmp_path, model, amount=0.6)
    kept = np.concatenate([after[n].numpy().ravel() for n in ("fc1.weight", "fc2.weight")]) != 0
    count = round(0.6 * (FC1 + FC2))
    assert kept.size - kept.sum() == count
    assert np.abs(before[kept]).min() >= np.sort(np.abs(before))[count - 1]


def test_a_whole_number_is_a_count(tmp_path: Path) -> None:
    after = once(tmp_path, network(), amount=37, use_global_unstructured=False)
    assert (zeros(after["fc1.weight"]), zeros(after["fc2.weight"])) == (37, 37)


def test_a_whole_number_counts_over_all_weights_where_global(tmp_path: Path) -> None:
    after = once(tmp_path, network(), amount=500)
    assert zeros(after["fc1.weight"]) + zeros(after["fc2.weight"]) == 500


def test_a_list_has_an_amount_for_each_parameter(tmp_path: Path) -> None:
    after = once(tmp_path, network(), amount=[0.5, 8], use_global_unstructured=False)
    assert (zeros(after["fc1.weight"]), zeros(after["fc2.weight"])) == (FC1 // 2, 8)


def test_a_list_of_another_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"3 amounts for 2 parameters: fc1.weight, fc2.weight"):
        once(tmp_path, network(), amount=[0.5, 0.5, 0.5], use_global_unstructured=False)


def test_filter_layers(tmp_path: Path) -> None:
    after = once(
        tmp_path,
        network(SmallConvolution),
        amount=0.5,
        filter_layers=["Conv2d"],
        use_global_unstructured=False,
    )
    assert (zeros(after["conv.weight"]), zeros(after["fc.weight"])) == (75, 0)
    both = once(
        tmp_path,
        network(SmallConvolution),
        amount=0.5,
        filter_layers=["Conv2d", "Linear"],
        use_global_unstructured=False,
    )
    assert (zeros(both["conv.weight"]), zeros(both["fc.weight"])) == (75, 1080)


def test_a_layer_class_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"layers of class Conv3d; the model has layers of class Linear"):
        once(tmp_path, network(), filter_layers=["Conv3d"])


def test_parameter_names(tmp_path: Path) -> None:
    after = once(
        tmp_path, network(), amount=0.5, parameter_names=["weight", "bias"], use_global_unstructured=False
    )
    assert [zeros(p) for p in after.values()] == [FC1 // 2, 8, FC2 // 2, 5]


def test_parameters_to_prune_limits_global_pruning(tmp_path: Path) -> None:
    model = network()
    after = once(
        tmp_path, model, amount=0.5, parameters_to_prune=[(model.fc2, "weight"), (model.fc2, "bias")]
    )
    assert zeros(after["fc1.weight"]) == 0
    assert zeros(after["fc2.weight"]) + zeros(after["fc2.bias"]) == 85


def test_parameters_to_prune_must_be_the_models(tmp_path: Path) -> None:
    model = network()
    with pytest.raises(RecipeError, match="Linear is not a layer of the model"):
        once(tmp_path, model, parameters_to_prune=[(torch.nn.Linear(2, 2), "weight")])
    with pytest.raises(RecipeError, match="fc1 has no parameter 'wieght'"):
        once(tmp_path, model, parameters_to_prune=[(model.fc1, "wieght")])


# -- functions ---------------------------------------------------------------------------------------


def test_l1_threshold_is_a_multiple_of_the_standard_deviation_of_what_is_left(tmp_path: Path) -> None:
    watch = Watch(at_start=lambda m: m.fc1.weight.detach().numpy().copy())
    before = network().fc1.weight.detach().numpy().copy()
    # Learning rate 0: the second pruning sees the weights that the first has left.
    train(
        network(),
        [
            IterativePruning(
                "l1_threshold", amount=0.6, filter_layers=["Linear"], use_global_unstructured=False
            ),
            watch,
        ],
        tmp_path,
        epochs=2,
        steps=1,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.0),
    )
    first = np.abs(before) >= 0.6 * before.std()
    np.testing.assert_array_equal(watch.starts[0] != 0, first)
    second = first & (np.abs(before) >= 0.6 * before[first].std())
    np.testing.assert_array_equal(watch.starts[1] != 0, second)


def test_a_threshold_may_exceed_one_standard_deviation(tmp_path: Path) -> None:
    model = network()
    weights = np.concatenate([p.detach().numpy().ravel() for p in (model.fc1.weight, model.fc2.weight)])
    after = once(tmp_path, model, pruning_fn="l1_threshold", amount=1.5)
    expected = int((np.abs(weights) < 1.5 * weights.std()).sum())
    assert zeros(after["fc1.weight"]) + zeros(after["fc2.weight"]) == expected


@pytest.mark.parametrize(
    "pruning_fn",
    [
        "l1_unstructured",
        torch_prune.L1Unstructured,
        "torch.nn.utils.prune.L1Unstructured",
        torch_prune.l1_unstructured,
        "torch.nn.utils.prune.l1_unstructured",
    ],
)
def test_a_function_by_name_class_path_or_itself_prunes_alike(tmp_path: Path, pruning_fn: Any) -> None:
    after = once(tmp_path, network(), pruning_fn=pruning_fn, amount=0.25, use_global_unstructured=False)
    reference = network()
    for layer in (reference.fc1, reference.fc2):
        torch_prune.l1_unstructured(layer, "weight", 0.25)
    assert torch.equal(after["fc1.weight"] != 0, reference.fc1.weight_mask.bool())
    assert torch.equal(after["fc2.weight"] != 0, reference.fc2.weight_mask.bool())


def test_a_class_of_our_own_by_import_path(tmp_path: Path) -> None:
    path = f"{L1Threshold.__module__}.L1Threshold"
    by_path = once(tmp_path, network(), pruning_fn=path, amount=0.7)
    by_name = once(tmp_path, network(), pruning_fn="l1_threshold", amount=0.7)
    assert zeros(by_path["fc1.weight"]) == zeros(by_name["fc1.weight"]) > 0


def test_random_unstructured_prunes_the_count_whatever_the_weights(tmp_path: Path) -> None:
    after = once(
        tmp_path, network(), pruning_fn="random_unstructured", amount=0.5, use_global_unstructured=False
    )
    smallest = once(tmp_path, network(), amount=0.5, use_global_unstructured=False)
    assert zeros(after["fc1.weight"]) == FC1 // 2
    assert not torch.equal(after["fc1.weight"] == 0, smallest["fc1.weight"] == 0)


@pytest.mark.parametrize("norm", [1, 2])
def test_ln_structured_removes_the_filters_of_least_norm(tmp_path: Path, norm: int) -> None:
    model = network(SmallConvolution)
    norms = torch.linalg.vector_norm(model.conv.weight.detach().flatten(1), norm, dim=1)
    after = once(
        tmp_path,
        model,
        pruning_fn="ln_structured",
        amount=2,
        filter_layers=["Conv2d"],
        use_global_unstructured=False,
        pruning_dim=0,
        pruning_norm=norm,
    )
    gone = (after["conv.weight"] == 0).flatten(1).all(dim=1)
    assert sorted(gone.nonzero().flatten().tolist()) == sorted(norms.argsort()[:2].tolist())
    assert zeros(after["conv.weight"]) == 50


def test_structured_pruning_of_columns_goes_on_from_those_left(tmp_path: Path) -> None:
    watch = Watch(at_start=lambda m: (m.fc2.weight == 0).all(dim=0).sum().item())
    pruning = IterativePruning(
        "random_structured",
        amount=0.5,
        pruning_dim=1,
        use_global_unstructured=False,
        filter_layers=["Linear"],
    )
    train(network(), [pruning, watch], tmp_path, epochs=3, steps=1)
    assert watch.starts == [8, 12, 14]  # of 16 columns, half of those left each time


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pruning_fn": "l2_unstructured"}, "unknown pruning_fn 'l2_unstructured'; known: l1_threshold"),
        ({"pruning_fn": "no.such.function"}, "unknown pruning_fn 'no.such.function'"),
        ({"pruning_fn": torch.nn.Linear}, "pruning_fn must be one of"),
        ({"pruning_fn": "torch.nn.utils.prune.global_unstructured"}, "pruning_fn must be one of"),
        ({"pruning_fn": "ln_structured"}, "LnStructured is structured; set use_global_unstructured to false"),
        ({"amount": [0.5, 0.5]}, "a list of amounts needs use_global_unstructured: false"),
        ({"amount": 1.5}, "a fraction between 0 and 1, got 1.5"),
        ({"amount": -1}, "got -1"),
        ({"amount": [0.5, 2.5], "use_global_unstructured": False}, "got 2.5"),
        ({"pruning_schedule": {"target": 0.9}}, "unknown option 'target'; known: epochs, start_epoch"),
        ({"pruning_schedule": {"prune_every": 0}}, "prune_every must be at least 1, got 0"),
        (
            {"pruning_schedule": {"target_sparsity": 90}},
            "target_sparsity is a fraction between 0 and 1, got 90",
        ),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        IterativePruning(**options)


# -- reports -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verbose", "expected"),
    [
        (0, []),
        (1, ["epoch 0: pruned 50.00 % of the weights"]),
        (
            2,
            [
                "epoch 0: pruned 50.00 % of the weights",
                f"  fc1.weight: 6272 / {FC1} (50.00 %)",
                f"  fc2.weight: 80 / {FC2} (50.00 %)",
            ],
        ),
    ],
)
def test_verbose(tmp_path: Path, caplog: pytest.LogCaptureFixture, verbose: int, expected: list[str]) -> None:
    with caplog.at_level(logging.INFO, logger="featherweight"):
        once(tmp_path, network(), amount=0.5, use_global_unstructured=False, verbose=verbose)
    assert [r.message for r in caplog.records if r.name.startswith("featherweight")] == expected
