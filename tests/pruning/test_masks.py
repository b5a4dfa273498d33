"""Masks against sorting in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.pruning import prune_below_std, prune_lowest, sparsity


def all_kept(tensors):
    return {name: torch.ones_like(t, dtype=torch.bool) for name, t in tensors.items()}


def oracle(scores, masks, count):
    """Sort (pruned first, score, position) and take away the first ``count``."""
    flat = np.concatenate([s.double().numpy().reshape(-1) for s in scores.values()])
    kept = np.concatenate([masks[name].numpy().reshape(-1) for name in scores])
    order = np.lexsort((np.arange(flat.size), flat, kept))
    result = kept.copy()
    result[order[:count]] = False
    return result


def flatten(masks):
    return np.concatenate([m.numpy().reshape(-1) for m in masks.values()])


few_scores = st.lists(st.sampled_from([0.0, -0.0, 0.5, 1.0, 2.0, float("inf"), -float("inf")]), max_size=12)


@settings(deadline=None, max_examples=200)
@given(first=few_scores, second=few_scores, count=st.integers(-2, 30), data=st.data())
def test_ties_and_masks_are_those_of_a_stable_sort(first, second, count, data):
    scores = {"a": torch.tensor(first), "b": torch.tensor(second).reshape(1, -1)}
    masks = {
        name: torch.tensor(
            data.draw(st.lists(st.booleans(), min_size=s.numel(), max_size=s.numel())), dtype=torch.bool
        ).reshape(s.shape)
        for name, s in scores.items()
    }
    before = flatten(masks)
    result = prune_lowest(scores, masks, count)
    np.testing.assert_array_equal(flatten(result), oracle(scores, masks, max(count, 0)))
    np.testing.assert_array_equal(flatten(masks), before)  # its arguments are not changed
    pruned = int((~flatten(result)).sum())
    assert pruned == min(max(count, int((~before).sum())), before.size)
    assert not (flatten(result) & ~before).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_large_tensors(dtype):
    torch.manual_seed(0)
    scores = {"a": torch.randn(50, 40).abs().to(dtype), "b": (3 * torch.randn(30, 5, 3, 3).abs()).to(dtype)}
    masks = {name: torch.rand(s.shape) < 0.8 for name, s in scores.items()}
    for count in (0, 1, 800, 2000, 3349, 3350, 9999):
        result = prune_lowest(scores, masks, count)
        np.testing.assert_array_equal(flatten(result), oracle(scores, masks, count))
        assert {name: m.shape for name, m in result.items()} == {n: s.shape for n, s in scores.items()}


def test_global_pruning_takes_more_where_scores_are_lower():
    scores = {"low": torch.arange(10.0), "high": torch.arange(10.0) + 5}
    result = prune_lowest(scores, all_kept(scores), 8)
    assert [int((~m).sum()) for m in result.values()] == [7, 1]  # the tie at 5 goes to the first tensor
    result = prune_lowest(scores, all_kept(scores), 6)
    assert [int((~m).sum()) for m in result.values()] == [6, 0]


@pytest.mark.parametrize("sensitivity", [0.0, 0.3, 1.0, 2.5])
def test_std_threshold(sensitivity):
    generator = np.random.default_rng(0)
    weights = {"a": generator.normal(size=(40, 30)), "b": generator.normal(scale=3, size=(7, 5))}
    masks = {name: generator.random(w.shape) < 0.7 for name, w in weights.items()}
    kept = np.concatenate([weights[name][masks[name]] for name in weights])
    threshold = sensitivity * np.std(kept)
    result = prune_below_std(
        {name: torch.from_numpy(w) for name, w in weights.items()},
        {name: torch.from_numpy(m) for name, m in masks.items()},
        sensitivity,
    )
    for name, weight in weights.items():
        np.testing.assert_array_equal(result[name].numpy(), masks[name] & ~(np.abs(weight) < threshold))


def test_std_of_nothing_and_of_one_weight():
    weights = {"w": torch.tensor([3.0, 4.0])}
    for kept in ([False, False], [True, False]):
        result = prune_below_std(weights, {"w": torch.tensor(kept)}, 1.0)
        assert result["w"].tolist() == kept


def test_sparsity():
    assert sparsity({}) == 0.0
    assert sparsity({"a": torch.tensor([True, False]), "b": torch.tensor([False, False])}) == 0.75
