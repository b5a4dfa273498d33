"""Uniform quantization against NumPy loops."""

from __future__ import annotations

import numpy as np
import pytest

from featherweight.errors import TensorError
from featherweight.quantization import quantize_uniform


def by_hand(weights, k):
    low, high = float(weights.min()), float(weights.max())
    step = (high - low) / k
    result = []
    for w in weights.reshape(-1):
        cell = min(int((float(w) - low) / step), k - 1)
        result.append(low + step * (cell + 0.5))
    return np.array(result).reshape(weights.shape), step


@pytest.mark.parametrize("bits", [1, 3, 8, 11, 16])
@pytest.mark.parametrize("fix_zeros", [True, False])
def test_every_weight_is_in_the_middle_of_its_cell(bits, fix_zeros):
    weights = np.random.default_rng(bits).normal(size=(450, 300))
    weights[::3] = 0
    shared = quantize_uniform(weights, bits, fix_zeros)
    kept = weights != 0 if fix_zeros else np.ones_like(weights, bool)
    expected, step = by_hand(weights[kept], 2**bits - fix_zeros)
    values = shared.dequantize()
    np.testing.assert_allclose(values[kept], expected, atol=step * 1e-6)
    assert np.abs(values - weights)[kept].max() <= step / 2 * (1 + 1e-9)
    if fix_zeros:
        np.testing.assert_array_equal(shared.indices == 0, weights == 0)
        assert shared.codebook[0] == 0
    assert shared.codebook.size <= 2**bits
    assert set(np.unique(shared.indices)) | {0} == set(range(shared.codebook.size))  # all are used
    assert shared.indices.dtype == (np.uint8 if shared.codebook.size <= 256 else np.uint16)


@pytest.mark.parametrize(
    "weights", [[], [0.0], [1.5], [0.5, -0.25, 0.5, 0.0], np.zeros((0, 4)), np.full((2, 3), -2.0)]
)
@pytest.mark.parametrize("fix_zeros", [True, False])
def test_few_distinct_values_stay(weights, fix_zeros):
    weights = np.array(weights, np.float32)
    np.testing.assert_array_equal(quantize_uniform(weights, 2, fix_zeros).dequantize(), weights)


def test_doing_it_again_changes_nothing():
    weights = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    once = quantize_uniform(weights, 4)
    again = quantize_uniform(once.dequantize(), 4)
    assert again.dequantize().tobytes() == once.dequantize().tobytes()


def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(TensorError, match="not finite"):
        quantize_uniform(np.array([1.0, np.inf]), 2)
