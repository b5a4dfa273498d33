"""The empirical measure against zeroing one group after another in the network itself."""

from __future__ import annotations

import pytest
import torch
from importance_networks import Chain, SmallResidual, examples, make, mean_loss, scores_of
from test_taylor import Undecided

from featherweight.errors import RecipeError, TensorError

#: Indices of the elements of group i of a weight (O, I, ...), written out.
GROUPS = {
    "element": lambda w: [(o, *rest) for o in range(len(w)) for rest in torch.cartesian_prod(
        *[torch.arange(n) for n in w.shape[1:]]).reshape(-1, w.ndim - 1).tolist()],
    "kernel": lambda w: [(o, i) for o in range(w.shape[0]) for i in range(w.shape[1])],
    "filter": lambda w: [(o,) for o in range(w.shape[0])],
    "channel": lambda w: [(slice(None), i) for i in range(w.shape[1])],
}  # fmt: skip


def by_hand(network, batches, name, granularity):
    weight = dict(network.named_parameters())[name]
    dense = mean_loss(network, batches)
    rises = []
    with torch.no_grad():
        kept = weight.clone()
        for group in GROUPS[granularity](weight):
            weight[group] = 0
            rises.append(mean_loss(network, batches) - dense)
            weight.copy_(kept)
    return torch.stack(rises).detach()


def changes(*problem):
    return by_hand(*problem).abs()


@pytest.mark.parametrize("at_once", [None, 1, 4])
@pytest.mark.parametrize("granularity", ["element", "kernel", "filter", "channel"])
def test_rise_of_the_loss_without_each_group(granularity, at_once):
    network, batches = make(), examples()
    names = ["conv.weight", "fc1.weight", "fc2.weight"]
    found = scores_of("empirical", network, batches, names, granularity, at_once=at_once)
    for name in names:
        expected = changes(network, batches, name, granularity)
        torch.testing.assert_close(found[name].reshape(-1), expected, rtol=1e-6, atol=1e-9)


def test_through_a_residual_network():
    network, batches = make(SmallResidual), examples()
    name = "block2.shortcut.weight"
    found = scores_of("empirical", network, batches, [name])[name].reshape(-1)
    torch.testing.assert_close(found, changes(network, batches, name, "element"), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("granularity", ["element", "channel"])
def test_a_sample_is_measured_and_the_rest_foreseen(granularity):
    network, batches = make(), examples()
    name, limit = "fc1.weight", 7
    measured = changes(network, batches, name, granularity)
    found = scores_of("empirical", network, batches, [name], granularity, limit=limit)[name].reshape(-1)
    exact = (found - measured).abs() < 1e-12
    assert int(exact.sum()) == limit
    assert torch.corrcoef(torch.stack([found[~exact], measured[~exact]]))[0, 1] > 0.5
    again = scores_of("empirical", network, batches, [name], granularity, limit=limit)[name].reshape(-1)
    assert torch.equal(found, again)
    other = scores_of("empirical", network, batches, [name], granularity, limit=limit, seed=1)[name]
    assert not torch.equal(((other.reshape(-1) - measured).abs() < 1e-12), exact)
    everything = scores_of("empirical", network, batches, [name], granularity, limit=0)[name].reshape(-1)
    torch.testing.assert_close(everything, measured, rtol=1e-6, atol=1e-9)


def test_a_network_that_cannot_be_vectorized_is_told_and_a_loop_will_do():
    network, batches = make(Undecided), examples()
    with pytest.raises(TensorError, match=r"fc.weight: .*vmap: .*set options: \{at_once: 1\}"):
        scores_of("empirical", network, batches, ["fc.weight"])
    found = scores_of("empirical", network, batches, ["fc.weight"], at_once=1, limit=20)["fc.weight"]
    measured = changes(network, batches, "fc.weight", "element")
    assert int(((found.reshape(-1) - measured).abs() < 1e-12).sum()) >= 20


def test_the_sign_of_the_rise_may_count():
    network, batches = make(), examples()
    found = scores_of("empirical", network, batches, ["fc1.weight"], signed=True)["fc1.weight"].reshape(-1)
    expected = by_hand(network, batches, "fc1.weight", "element")
    assert bool((expected < 0).any())
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_options_that_cannot_be_meant():
    for options in ({"samples": 0}, {"limit": -1}, {"at_once": 0}):
        with pytest.raises(RecipeError, match=f"{next(iter(options))} must be at least"):
            scores_of("empirical", make(Chain), examples(), ["fc1.weight"], **options)
