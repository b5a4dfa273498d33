"""Sums of slices against NumPy's own."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from featherweight.quantization.sorted_weights import BLOCK, SortedWeights


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 10 * BLOCK + 7])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("power", [1, 2])
def test_sums_of_slices(size, weighted, power):
    generator = np.random.default_rng(size)
    weights = generator.normal(size=size).astype(np.float32)
    importance = generator.uniform(size=size) if weighted else None
    ordered = SortedWeights.of(weights, importance)
    order = np.argsort(weights, kind="stable")
    np.testing.assert_array_equal(ordered.values, weights[order])
    mass = importance[order] if weighted else np.ones(size)
    borders = np.sort(np.concatenate([[0, size], generator.integers(0, size + 1, 20)]))
    slices = [slice(a, b) for a, b in pairwise(borders)]
    np.testing.assert_allclose(ordered.masses(borders), [mass[s].sum() for s in slices], atol=1e-9)
    wide = weights[order].astype(np.float64) ** power
    expected = [(mass[s] * wide[s]).sum() for s in slices]
    np.testing.assert_allclose(ordered.sums(borders, power), expected, atol=1e-9)
