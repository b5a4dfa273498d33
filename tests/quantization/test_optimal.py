"""The optimal k-means against all ways of cutting a sorted array."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from featherweight.errors import TensorError
from featherweight.quantization import lloyd, quantize_kmeans, quantize_optimal
from featherweight.quantization.optimal import optimal_codebook
from featherweight.quantization.sorted_weights import SortedWeights


def error_of(values, centroids, mass):
    return (mass * np.square(values[:, None] - centroids).min(axis=1)).sum()


def brute_force(values, k, mass):
    """The least squared error of any partition into k intervals."""
    order = np.argsort(values)
    values, mass = values[order], mass[order]
    best = np.inf
    for cuts in combinations(range(1, values.size), k - 1):
        parts = np.split(np.arange(values.size), cuts)
        means = [np.average(values[p], weights=mass[p]) for p in parts]
        best = min(
            best, sum((mass[p] * (values[p] - m) ** 2).sum() for p, m in zip(parts, means, strict=True))
        )
    return best


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_no_partition_is_better(seed, k, weighted):
    generator = np.random.default_rng(seed)
    values = np.round(generator.normal(size=13), 1 if seed % 2 else 6)  # with repeats, and without
    mass = generator.uniform(0.1, 5, 13) if weighted else np.ones(13)
    centroids = optimal_codebook(SortedWeights.of(values, mass if weighted else None), k)
    assert centroids.size == min(k, np.unique(values).size)
    assert (np.diff(centroids) > 0).all()
    best = brute_force(values, k, mass) if np.unique(values).size > k else 0.0
    np.testing.assert_allclose(error_of(values, centroids, mass), best, rtol=1e-9, atol=1e-12)


def test_it_is_no_worse_than_any_start_of_lloyd():
    values = np.sort(np.random.default_rng(1).laplace(size=5000))
    best = error_of(values, optimal_codebook(SortedWeights(values), 15), 1)
    for seed in range(10):
        start = np.sort(np.random.default_rng(seed).choice(values, 15, replace=False))
        assert best <= error_of(values, lloyd(values, start), 1) * (1 + 1e-12)
    centroids = optimal_codebook(SortedWeights(values), 15)
    np.testing.assert_allclose(lloyd(values, centroids), centroids, atol=1e-11)  # settled already


def test_too_many_values_go_through_bins_and_come_near(monkeypatch):
    values = np.sort(np.random.default_rng(2).normal(size=30_000).astype(np.float32))
    exact = quantize_optimal(values, 4, fix_zeros=False).dequantize()
    monkeypatch.setattr("featherweight.quantization.optimal.EXACT_ENTRIES", 1 << 12)
    binned = quantize_optimal(values, 4, fix_zeros=False).dequantize()
    best, reached = (np.square(values.astype(np.float64) - shared).sum() for shared in (exact, binned))
    assert best <= reached * (1 + 1e-9)
    assert reached < best * 1.0001


def test_pruned_weights_keep_their_zero_and_no_centroid_is_lost():
    weights = np.random.default_rng(3).normal(size=(50, 60)).astype(np.float32)
    weights[np.abs(weights) < 1.5] = 0
    shared = quantize_optimal(weights, 3)
    assert shared.codebook[0] == 0
    assert shared.codebook.size == 8
    np.testing.assert_array_equal(shared.indices == 0, weights == 0)
    # Linear loses the centroids that lie in the gap.
    linear = quantize_kmeans(weights, 3, "linear")
    errors = [np.square(weights.astype(float) - q.dequantize()).sum() for q in (shared, linear)]
    assert errors[0] <= errors[1]


@pytest.mark.parametrize(
    ("weights", "codebook"),
    [([], [0.0]), ([0.0, 0.0], [0.0]), ([2.0], [0.0, 2.0]), ([1.0, -1.0, 1.0, 0.0], [0.0, -1.0, 1.0])],
)
def test_hardly_any_weights(weights, codebook):
    weights = np.array(weights, np.float32)
    shared = quantize_optimal(weights, 2)
    assert shared.codebook.tolist() == codebook
    np.testing.assert_array_equal(shared.dequantize(), weights)


def test_weights_without_any_importance_do_not_count():
    values = np.array([0.0, 1.0, 2.0, 50.0])
    centroids = optimal_codebook(SortedWeights.of(values, np.array([1.0, 1.0, 1.0, 0.0])), 2)
    assert centroids.max() <= 2
    with pytest.raises(TensorError, match="not finite"):
        quantize_optimal(np.array([np.nan]), 2)
