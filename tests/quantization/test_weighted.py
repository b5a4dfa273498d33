"""Weighted k-means against scikit-learn, the Fisher diagonal against one backward pass a sample."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import nn
from torch.nn.functional import cross_entropy

from featherweight.errors import RecipeError, TensorError
from featherweight.quantization import (
    INITIALIZATIONS,
    adam_second_moments,
    fisher_diagonal,
    quantize_kmeans,
    quantize_weighted,
)
from featherweight.quantization.sorted_weights import SortedWeights


@pytest.mark.parametrize("init", ["linear", "density", "k-means++"])
@pytest.mark.parametrize("fix_zeros", [True, False])
def test_centroids_are_those_of_scikit_learn(init, fix_zeros):
    generator = np.random.default_rng(0)
    weights = generator.normal(size=3000).astype(np.float32)
    weights[:100] = 0
    h = generator.exponential(size=3000)
    kept = weights != 0 if fix_zeros else np.ones(3000, bool)
    k = 8 - fix_zeros
    start = INITIALIZATIONS[init](SortedWeights.of(weights[kept], h[kept]), k, np.random.default_rng(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = KMeans(k, init=start.reshape(-1, 1), n_init=1, tol=0, max_iter=5000).fit(
            weights[kept].astype(np.float64).reshape(-1, 1), sample_weight=h[kept]
        )
    shared = quantize_weighted(weights, h, 3, init, fix_zeros, seed=4)
    expected = np.sort(fitted.cluster_centers_.reshape(-1))
    np.testing.assert_allclose(shared.codebook[int(fix_zeros) :], expected, atol=1e-5)


def test_equal_importance_is_none():
    weights = np.random.default_rng(1).normal(size=(20, 50)).astype(np.float32)
    plain = quantize_kmeans(weights, 4, "density")
    for h in (np.full((20, 50), 3.0), np.zeros((20, 50))):
        weighted = quantize_weighted(weights, h, 4, "density")
        np.testing.assert_allclose(weighted.codebook, plain.codebook, rtol=1e-6)


@pytest.mark.parametrize(
    ("h", "message"),
    [
        (np.ones(3), "shape"),
        (np.array([1.0, -1, 1, 1]), "at least 0"),
        (np.array([1.0, np.nan, 1, 1]), "finite"),
    ],
)
def test_importance_that_does_not_fit_is_refused(h, message):
    with pytest.raises(TensorError, match=message):
        quantize_weighted(np.arange(4.0), h, 1)


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4))


def test_the_fisher_diagonal_is_the_mean_of_squared_gradients():
    model = small_network().train()
    images, labels = torch.randn(21, 1, 6, 6), torch.randint(0, 4, (21,))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = fisher_diagonal(model, [(images[:20], labels[:20]), (images[20:], labels[20:])], cross_entropy)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    model.eval()
    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for image, label in zip(images, labels, strict=True):
        model.zero_grad()
        cross_entropy(model(image[None]), label[None]).backward()
        for name, p in model.named_parameters():
            sums[name] += p.grad.square()
    assert set(found) == set(sums)
    for name, total in sums.items():
        torch.testing.assert_close(found[name], total / 21, rtol=1e-4, atol=1e-9)
    some = fisher_diagonal(model, [(images, labels)], cross_entropy, ["4.weight"])
    assert list(some) == ["4.weight"]
    with pytest.raises(TensorError, match="hold no sample"):
        fisher_diagonal(model, [], cross_entropy)


@pytest.mark.parametrize(
    ("optimizer", "key"), [(torch.optim.Adam, "exp_avg_sq"), (torch.optim.RMSprop, "square_avg")]
)
def test_adams_second_moments(optimizer, key):
    model = small_network()
    steps = optimizer(model.parameters())
    model(torch.randn(8, 1, 6, 6)).square().sum().backward()
    steps.step()
    weight = model[4].weight
    found = adam_second_moments(steps, {"4.weight": weight})
    assert torch.equal(found["4.weight"], steps.state[weight][key])
    with pytest.raises(RecipeError, match=r"4\.weight: SGD has no second moments"):
        adam_second_moments(torch.optim.SGD(model.parameters()), {"4.weight": weight})
