"""Bits of a tensor by Han's accounting, against sums by hand."""

from __future__ import annotations

import numpy as np
import pytest

from featherweight.analysis.coded_bits import coded_bits


def test_a_dense_tensor_takes_its_own_bits():
    weights = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    assert coded_bits(weights) == 32 * 2000
    assert coded_bits(np.zeros((0, 3), np.float32)) == 0


def test_shared_values_without_zero_take_an_index_each():
    weights = np.random.default_rng(0).choice(np.float32([-2, -1, 1, 2, 3]), (40, 50))
    assert coded_bits(weights) == 2000 * 3 + 32 * 5


def test_shared_and_pruned_weights_take_index_and_gap():
    weights = np.zeros(1000, np.float32)
    weights[::10] = np.tile(np.float32([1, 2, 3]), 34)[:100]
    # 100 weights of 2 bits, each 9 zeros after the last: gaps of 4 bits, and four values.
    assert coded_bits(weights.reshape(10, 100)) == 100 * (2 + 4) + 32 * 4


def test_pruned_weights_take_their_own_bits_and_a_gap():
    weights = np.zeros(100_000, np.float32)
    weights[::10] = np.random.default_rng(0).normal(size=10_000)
    assert coded_bits(weights) == 10_000 * (32 + 4)
    weights = np.zeros(3000, np.float32)
    weights[::3] = np.random.default_rng(0).normal(size=1000)
    assert coded_bits(weights) == 1000 * (32 + 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions(dtype):
    weights = np.random.default_rng(0).normal(size=3000).astype(dtype)
    assert coded_bits(weights) <= 8 * weights.nbytes
