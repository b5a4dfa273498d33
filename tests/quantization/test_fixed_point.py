"""Fixed point against Python's fractions, whose round() is half to even."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.errors import TensorError
from featherweight.quantization import quantize_fixed_point
from featherweight.quantization.fixed_point import choose_integer_bits


def by_hand(weight, i, f):
    units = round(Fraction(float(weight)) * Fraction(2) ** f)
    most = 2 ** (i + f - 1)
    return float(min(max(units, -most), most - 1) * Fraction(2) ** -f)


@settings(deadline=None, max_examples=80)
@given(
    bits=st.integers(2, 16),
    integer=st.integers(-3, 6),
    weights=st.lists(st.floats(-70, 70, width=32), max_size=30),
)
def test_rounding_and_saturation(bits, integer, weights):
    weights = np.array(weights, np.float32)
    f = bits - integer
    # And halves, which go to even.
    weights = np.concatenate([weights, (np.arange(-5, 6) + 0.5) * 2.0**-f]).astype(np.float32)
    shared = quantize_fixed_point(weights, bits, integer)
    assert shared.dequantize().tolist() == [by_hand(w, integer, f) for w in weights]
    assert shared.codebook[0] == 0
    assert shared.codebook.size <= 2**bits
    assert not np.signbit(shared.dequantize()[shared.dequantize() == 0]).any()


@pytest.mark.parametrize("bits", [2, 5, 8, 16])
@pytest.mark.parametrize("largest", [0.03, 0.5, 0.99, 1.0, 1.7, 100.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_as_few_integer_bits_as_hold_the_range(bits, largest, sign):
    weights = np.linspace(-0.9 * largest, 0.9 * largest, 999)
    weights[0] = sign * largest
    i = choose_integer_bits(weights)
    lower, upper = -(2.0 ** (i - 1)), 2.0 ** (i - 1)
    assert lower <= weights.min()
    assert weights.max() < upper
    shared = quantize_fixed_point(weights, bits)
    step = 2.0 ** (i - bits)
    assert np.abs(shared.dequantize() - weights).max() <= (step if sign > 0 else step / 2 + 1e-12) or (
        np.abs(shared.dequantize() - weights).max() <= step
    )
    # One bit fewer would not hold them.
    assert not (-(2.0 ** (i - 2)) <= weights.min() and weights.max() < 2.0 ** (i - 2))


def test_doing_it_again_changes_nothing():
    weights = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    once = quantize_fixed_point(weights, 6, 2)
    assert quantize_fixed_point(once.dequantize(), 6, 2).dequantize().tobytes() == once.dequantize().tobytes()


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], np.zeros((3, 0)), np.array(0.25)])
def test_hardly_any_weights(weights):
    weights = np.array(weights, np.float32)
    np.testing.assert_array_equal(quantize_fixed_point(weights, 4).dequantize(), weights)


def test_more_bits_than_the_dtype_holds_are_refused():
    weights = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float16)
    assert quantize_fixed_point(weights, 12, 1).codebook.dtype == np.float16
    weights[0] = 100.0
    with pytest.raises(TensorError, match="float16 cannot hold all 16-bit fixed-point numbers with 0 frac"):
        quantize_fixed_point(np.append(weights, np.float16(0)) * np.float16(600), 16, 16)
    with pytest.raises(TensorError, match="not finite"):
        quantize_fixed_point(np.array([np.nan]), 4)
