"""Groups of weights against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from featherweight.pruning import (
    any_in_group,
    expand_groups,
    group_shape,
    group_size,
    importance_by_name,
    prune_below_std,
    prune_groups,
    score,
    sum_groups,
)

SHAPES = [(4, 3, 2, 5), (6, 4), (5,), (), (4, 1, 3, 3), (3, 2, 4), (0, 3)]


def group_of(index, granularity):
    """Which group an element belongs to."""
    if len(index) < 2 or granularity == "element":
        return index
    return {"kernel": index[:2], "filter": index[:1], "channel": index[1:2]}[granularity]


@pytest.mark.parametrize("granularity", ["element", "kernel", "filter", "channel"])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_and_their_inverse(shape, granularity):
    values = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    groups = group_shape(shape, granularity)
    expected = np.zeros(groups)
    for index in np.ndindex(*shape):
        expected[group_of(index, granularity)] += values[index].item()
    summed = sum_groups(values, granularity)
    assert summed.shape == groups
    np.testing.assert_allclose(summed.numpy(), expected)
    assert group_size(shape, granularity) * int(np.prod(groups)) == values.numel()
    back = expand_groups(summed, shape, granularity)
    for index in np.ndindex(*shape):
        assert back[index] == summed[group_of(index, granularity)]
    assert torch.equal(any_in_group(values > 1, granularity), sum_groups((values > 1).int(), granularity) > 0)


@pytest.mark.parametrize(
    ("name", "of_group"),
    [
        ("magnitude", lambda w: np.abs(w).mean()),
        ("l1norm", lambda w: np.abs(w).sum()),
        ("l2norm", np.linalg.norm),
        ("std", lambda w: np.sqrt(np.square(w).mean())),
    ],
)
@pytest.mark.parametrize("granularity", ["element", "kernel", "filter", "channel"])
def test_norms_and_means_of_groups(name, of_group, granularity):
    weight = torch.randn(4, 3, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = score(importance_by_name(name), "w", weight, granularity)
    members = {}
    for index in np.ndindex(*weight.shape):
        members.setdefault(group_of(index, granularity), []).append(weight[index].item())
    for group, values in members.items():
        assert found[group].item() == pytest.approx(of_group(np.array(values)))


@pytest.mark.parametrize("granularity", ["kernel", "filter", "channel"])
def test_whole_groups_go_and_groups_that_are_gone_count(granularity):
    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    scores = score(importance_by_name("l1norm"), "w", weight, granularity)
    mask = torch.ones_like(weight, dtype=torch.bool)
    gone = expand_groups(torch.arange(scores.numel()).reshape(scores.shape) == 3, weight.shape, granularity)
    mask &= ~gone
    mask[0, 0, 0, 0] = False  # a single weight does not make its group go
    result = prune_groups({"w": scores}, {"w": mask}, 4, granularity)["w"]
    left = any_in_group(result, granularity).reshape(-1)
    order = [i for i in np.argsort(scores.reshape(-1).numpy(), kind="stable") if i != 3]
    assert set((~left).nonzero().reshape(-1).tolist()) == {3, *order[:3]}
    kept = expand_groups(left.reshape(scores.shape), weight.shape, granularity)
    assert torch.equal(result, kept & mask)


def test_a_threshold_in_standard_deviations_compares_the_root_mean_square():
    weight = torch.randn(8, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[2:5] *= 0.3
    masks = {"w": torch.ones_like(weight, dtype=torch.bool)}
    result = prune_below_std({"w": weight}, masks, 0.6, "filter")["w"]
    roots = np.sqrt(np.square(weight.numpy()).mean((1, 2, 3)))
    expected = roots >= 0.6 * weight.numpy().std()
    assert result[:, 0, 0, 0].tolist() == expected.tolist() == [i not in (2, 3, 4) for i in range(8)]
    assert (result == result[:, :1, :1, :1]).all()
