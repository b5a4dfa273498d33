"""Thresholds found in passes: the same as from all weights at once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.pruning import lowest_by_tensor, pooled_std, prune_below_std, prune_lowest, streaming


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads only slow such small tensors down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, params=["held", "narrowed"])
def bounds(request, monkeypatch):
    """With ordinary bounds, and so tight that slices and histograms are needed for a handful of scores."""
    if request.param == "narrowed":
        monkeypatch.setattr(streaming, "_MOST_HELD", 2)
        monkeypatch.setattr(streaming, "_SLICE", 20)


def by_hand(scores, count):
    """Stable sorting of all the scores together, counted by tensor."""
    flat = np.concatenate([score.double().numpy().reshape(-1) for score in scores.values()])
    chosen = np.zeros(flat.size, bool)
    chosen[np.argsort(flat, kind="stable")[: max(count, 0)]] = True
    ends = np.cumsum([score.numel() for score in scores.values()])
    return {name: int(part.sum()) for name, part in zip(scores, np.split(chosen, ends[:-1]), strict=True)}


SCORES = {
    "spread": torch.randn(4, 9, generator=torch.Generator().manual_seed(0)),
    "few values": torch.tensor([[0.5, 1.0], [0.5, 2.0], [0.5, 0.5]]),
    "zeros of either sign": torch.tensor([0.0, -0.0, 0.0, -0.0, 1e-45]),
    "empty": torch.empty(0, 3),
    "infinite": torch.tensor([torch.inf, -torch.inf, -torch.inf, 3e38]),
    "all equal": torch.full((7,), -0.5),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_count(dtype):
    scores = {name: score.to(dtype) for name, score in SCORES.items()}
    total = sum(score.numel() for score in scores.values())
    for count in range(-1, total + 1):
        found = lowest_by_tensor(list(scores), scores.__getitem__, count)
        assert found == by_hand(scores, count), count
    assert lowest_by_tensor(list(scores), scores.__getitem__, total + 5) == by_hand(scores, total)
    assert lowest_by_tensor([], scores.__getitem__, 5) == {}


def test_each_tensor_by_itself_loses_what_it_loses_among_all():
    scores = {"a": torch.rand(40).round(decimals=1), "b": torch.rand(6, 5).round(decimals=1)}
    masks = {name: torch.ones_like(score, dtype=torch.bool) for name, score in scores.items()}
    for count in range(71):
        together = prune_lowest(scores, masks, count)
        counts = lowest_by_tensor(list(scores), scores.__getitem__, count)
        for name, score in scores.items():
            alone = prune_lowest({name: score}, {name: masks[name]}, counts[name])[name]
            assert torch.equal(alone, together[name])


floats = st.floats(allow_nan=False, width=64)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(floats, max_size=6), min_size=1, max_size=4), st.integers(0, 24))
def test_any_doubles(lists, count):
    scores = {str(i): torch.tensor(values, dtype=torch.float64) for i, values in enumerate(lists)}
    assert lowest_by_tensor(list(scores), scores.__getitem__, count) == by_hand(scores, count)


def test_few_passes_where_scores_are_spread(monkeypatch):
    monkeypatch.setattr(streaming, "_MOST_HELD", 1000)
    monkeypatch.setattr(streaming, "_SLICE", 1 << 20)
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0)).abs()
    asked = []

    def scores(name):
        asked.append(name)
        return values

    assert lowest_by_tensor(["w"], scores, 90_000) == {"w": 90_000}
    assert len(asked) <= 3


def test_standard_deviation_of_several_tensors():
    parts = [torch.randn(50) * 3 + 1, torch.empty(0), torch.randn(4, 5).bfloat16()]
    expected = np.std(np.concatenate([part.double().numpy().reshape(-1) for part in parts]))
    assert pooled_std(lambda: parts) == pytest.approx(expected, rel=1e-12)
    assert pooled_std(list) == 0.0
    weights = {"w": torch.randn(5)}
    nothing = {"w": torch.zeros(5, dtype=torch.bool)}
    assert torch.equal(prune_below_std(weights, nothing, 1.0)["w"], nothing["w"])
