"""Ternary values by hand."""

from __future__ import annotations

import numpy as np
import pytest

from featherweight.errors import TensorError
from featherweight.quantization import quantize_ternary


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.4])
def test_means_of_both_sides(threshold):
    weights = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    shared = quantize_ternary(weights, threshold)
    delta = threshold * np.abs(weights).max()
    positive = [float(w) for w in weights.reshape(-1) if w > delta]
    negative = [float(w) for w in weights.reshape(-1) if w < -delta]
    assert shared.codebook.tolist() == pytest.approx(
        [0, sum(negative) / len(negative), sum(positive) / len(positive)]
    )
    np.testing.assert_array_equal(shared.indices == 2, weights > delta)
    np.testing.assert_array_equal(shared.indices == 1, weights < -delta)


@pytest.mark.parametrize(
    "weights", [[], [0.0], [3.0, 3.0], [-1.0, 0.0], [0.001, -5.0, 0.0, 0.001], [0.1] * 1001]
)
def test_what_is_ternary_stays(weights):
    weights = np.array(weights, np.float32)
    assert quantize_ternary(weights).dequantize().tobytes() == weights.tobytes()


def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(TensorError, match="not finite"):
        quantize_ternary(np.array([1.0, -np.inf]))
