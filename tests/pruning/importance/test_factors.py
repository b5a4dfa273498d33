"""Gates and SSS against loops written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from importance_networks import examples, make, scores_of
from torch.nn import functional as F

from featherweight import Prune
from featherweight.errors import RecipeError, TensorError

NAMES = ["conv.weight", "fc1.weight"]
GROUPED = {  # the shape of a factor on (O, I, ...)
    "element": lambda s: s,
    "kernel": lambda s: (*s[:2], *[1] * (len(s) - 2)),
    "filter": lambda s: (s[0], *[1] * (len(s) - 1)),
    "channel": lambda s: (1, s[1], *[1] * (len(s) - 2)),
}


def gradients_at(network, batch, factors):
    """∂L/∂c at some factors, with the weights of a copy scaled by them."""
    network.eval()
    values = {n: torch.from_numpy(f).requires_grad_() for n, f in factors.items()}
    weights = {n: p.detach() for n, p in network.named_parameters()}
    scaled = {n: weights[n] * values[n] for n in factors}
    images, labels = batch
    loss = F.cross_entropy(torch.func.functional_call(network, scaled, (images,)), labels)
    return {
        n: g.numpy() for n, g in zip(values, torch.autograd.grad(loss, list(values.values())), strict=True)
    }


def shrink(values, by):
    return np.where(values > by, values - by, np.where(values < -by, values + by, 0.0))


@pytest.mark.parametrize("granularity", list(GROUPED))
@pytest.mark.parametrize("name", ["l1gate", "l2gate"])
def test_gates(name, granularity):
    network, batches = make(), examples()
    lr, penalty, epochs = 0.05, 0.003, 6
    found = scores_of(name, network, batches, NAMES, granularity, lr=lr, penalty=penalty, epochs=epochs)
    shapes = {n: GROUPED[granularity](tuple(p.shape)) for n, p in network.named_parameters() if n in NAMES}
    c = {n: np.ones(s) for n, s in shapes.items()}
    m = {n: np.zeros(s) for n, s in shapes.items()}
    v = {n: np.zeros(s) for n, s in shapes.items()}
    for t in range(1, 2 * epochs + 1):
        slopes = gradients_at(network, batches[(t - 1) % 2], c)
        for n, slope in slopes.items():
            g = slope + (2 * penalty * c[n] if name == "l2gate" else 0)
            m[n], v[n] = 0.9 * m[n] + 0.1 * g, 0.999 * v[n] + 0.001 * g**2
            step = lr / (np.sqrt(v[n] / (1 - 0.999**t)) + 1e-8)
            c[n] = c[n] - step * m[n] / (1 - 0.9**t)
            if name == "l1gate":
                c[n] = shrink(c[n], step * penalty)
    for n in NAMES:
        np.testing.assert_allclose(
            found[n].numpy().reshape(-1), np.abs(c[n]).reshape(-1), rtol=1e-7, atol=1e-10
        )
    zeros = sum(int((scores == 0).sum()) for scores in found.values())
    assert (zeros > 0) == (name == "l1gate")


@pytest.mark.parametrize("granularity", ["kernel", "filter", "channel"])
def test_sss_step_by_step(granularity):
    network, batches = make(), examples()
    eta, gamma, mu, epochs = 0.3, 0.02, 0.8, 30
    found = scores_of(
        "sss", network, batches, NAMES, granularity, lr=eta, penalty=gamma, momentum=mu, epochs=epochs
    )
    shapes = {n: GROUPED[granularity](tuple(p.shape)) for n, p in network.named_parameters() if n in NAMES}
    factor = {n: np.ones(s) for n, s in shapes.items()}
    v = {n: np.zeros(s) for n, s in shapes.items()}
    for t in range(2 * epochs):
        slopes = gradients_at(network, batches[t % 2], factor)
        for n, slope in slopes.items():
            z = factor[n] - eta * slope
            v[n] = shrink(z, eta * gamma) - factor[n] + mu * v[n]
            factor[n] = shrink(z, eta * gamma) + mu * v[n]
    for n in NAMES:
        np.testing.assert_allclose(
            found[n].numpy().reshape(-1), np.abs(factor[n]).reshape(-1), rtol=1e-7, atol=1e-10
        )
    assert any(bool((scores == 0).any()) for scores in found.values())  # exactly
    assert any(bool((scores > 0).any()) for scores in found.values())


def test_sss_scales_groups():
    with pytest.raises(
        RecipeError, match="sss scores groups of granularity kernel, filter, channel, not element"
    ):
        Prune("sss", sparsity=0.5)


@pytest.mark.parametrize("name", ["l1gate", "l2gate", "sss"])
def test_options_that_cannot_be_meant(name):
    for options in ({"lr": 0}, {"penalty": -1.0}, {"epochs": 0}, {"samples": 0}):
        with pytest.raises(RecipeError, match=f"options of {name}: {next(iter(options))} must be"):
            scores_of(name, make(), examples(), NAMES, "filter", **options)


def test_factors_that_diverge():
    with pytest.raises(
        TensorError, match=r"conv\.weight: the factors on its weights have diverged; lower lr"
    ):
        scores_of("l2gate", make(), examples(), NAMES, "filter", lr=1e308, epochs=5)
