"""k-means++ draws each weight as often as its squared distance says."""

from __future__ import annotations

import numpy as np
import pytest

from featherweight.quantization.kmeans import kmeans_plus_plus
from featherweight.quantization.sorted_weights import SortedWeights


@pytest.mark.parametrize("weighted", [False, True])
def test_how_often_pairs_are_drawn(weighted):
    values = np.array([-3.0, -1.0, 0.5, 0.75, 4.0])
    mass = np.array([1.0, 2.0, 0.5, 1.0, 3.0]) if weighted else np.ones(5)
    weights = SortedWeights.of(values, mass if weighted else None)
    generator = np.random.default_rng(0)
    seen: dict[tuple[float, ...], int] = {}
    draws = 6000
    for _ in range(draws):
        pair = tuple(kmeans_plus_plus(weights, 2, generator).tolist())
        seen[pair] = seen.get(pair, 0) + 1
    expected: dict[tuple[float, ...], float] = {}
    for i in range(5):
        distances = mass * (values - values[i]) ** 2
        for j in range(5):
            if i != j:
                pair = tuple(sorted([values[i], values[j]]))
                p = mass[i] / mass.sum() * distances[j] / distances.sum()
                expected[pair] = expected.get(pair, 0.0) + p
    assert set(seen) <= set(expected)
    for pair, p in expected.items():
        # Five standard deviations of a binomial.
        assert abs(seen.get(pair, 0) - draws * p) < 5 * np.sqrt(draws * p * (1 - p)) + 1


def test_no_weight_is_drawn_twice():
    values = np.sort(np.random.default_rng(1).normal(size=400).astype(np.float32))
    for seed in range(20):
        drawn = kmeans_plus_plus(SortedWeights(values), 31, np.random.default_rng(seed))
        assert drawn.size == 31
        assert np.isin(drawn, values).all()
