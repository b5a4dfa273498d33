"""Codebooks come back bit for bit, in as few bytes as their kind allows."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from featherweight.coding import Cursor
from featherweight.errors import TensorError
from featherweight.fileformat.codebook import decode_codebook, encode_codebook

GENERATOR = np.random.default_rng(0)
NORMAL = np.sort(GENERATOR.normal(size=255)).astype(np.float32)


def behind_zero(values):
    return np.concatenate([np.zeros(1, values.dtype), values])


def size_of(codebook, dtype="", *, fast=False):
    """Bytes that a codebook takes, once it has come back."""
    dtype = dtype or codebook.dtype.name
    data = encode_codebook(codebook, dtype, fast=fast)
    cursor = Cursor(np.frombuffer(data, np.uint8))
    decoded = decode_codebook(cursor, dtype)
    cursor.finish()
    assert decoded.dtype == codebook.dtype
    assert decoded.tobytes() == codebook.tobytes()
    return len(data)


def test_sorted_floats_cost_their_order_less():
    # 255 draws in order carry log2(255!) = 1676 bits less than 255 of 32, and all have similar exponents.
    assert size_of(behind_zero(NORMAL)) < 255 * 4 - math.lgamma(256) / math.log(2) / 8 - 150
    assert size_of(NORMAL) == pytest.approx(size_of(behind_zero(NORMAL)), abs=3)


def test_floats_of_a_narrower_type_cost_no_more_than_it():
    few = NORMAL[::17]
    assert size_of(behind_zero(few.astype(np.float16).astype(np.float32))) <= 2 * few.size
    rounded = np.unique(few.view(np.uint32) >> 16 << 16).view(np.float32)
    rounded = np.sort(rounded)
    assert size_of(behind_zero(rounded)) <= 1.5 * rounded.size
    assert size_of(behind_zero(rounded), "bfloat16") <= 1.5 * rounded.size


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_uniform_quantizers_cost_two_numbers(bits):
    low, high = float(NORMAL[0]), float(NORMAL[-1])
    centres = low + (high - low) / 2**bits * (np.arange(2**bits) + 0.5)
    assert size_of(centres.astype(np.float32)) <= 3 + 8 + 8
    assert size_of(behind_zero(centres.astype(np.float32))) <= 3 + 8 + 8
    assert size_of(np.linspace(low, high, 2**bits).astype(np.float32)) <= 3 + 4 + 8


@pytest.mark.parametrize("step", [0.0123456, np.float32(0.3), 1e-6, 12345.678])
def test_multiples_of_a_step_cost_the_step_and_the_ends(step):
    multiples = np.array([k for k in range(-8, 8) if k])
    assert size_of(behind_zero((multiples * np.float64(step)).astype(np.float32))) <= 2 + 8 + 4
    assert size_of((np.arange(-8, 8) * np.float64(step)).astype(np.float32)) <= 2 + 8 + 4


def test_fixed_point_costs_next_to_nothing():
    assert size_of((np.arange(-128, 128) / 64).astype(np.float32)) <= 8
    some = np.array([-100, -17, -5, -2, -1, 1, 3, 4, 60])
    assert size_of(behind_zero((some / 64).astype(np.float32))) <= 3 + 1 + some.size


def test_ternary():
    assert size_of(np.array([0, -0.123, 0.234], np.float32)) <= 11
    assert size_of(np.array([0, -1.5, 1.5], np.float32)) <= 6


def test_other_orders_and_minus_zero_are_kept():
    assert size_of(NORMAL[::-1].copy()) == 2 + 1 + 255 * 4
    for codebook in ([0, -0.0], [-0.0], [0, 0], [2, 1], [1, 1], [-0.0, 1], [0, -1, 0, 1], [0], []):
        size_of(np.array(codebook, np.float32))


def test_extremes():
    for dtype in (np.float16, np.float32, np.float64):
        info = np.finfo(dtype)
        tiny = float(info.smallest_subnormal)
        for codebook in (
            [-float(info.max), float(info.max)],
            [-float(info.max), -tiny, 0, tiny, float(info.max)],
            [0, -tiny, tiny],
            [tiny],
        ):
            size_of(np.array(codebook, dtype))


def test_what_is_read_quickly_is_plain():
    assert size_of(NORMAL, fast=True) == 2 + 1 + 255 * 4
    assert size_of(NORMAL[:16], fast=True) < 2 + 16 * 4


def test_large_codebooks():
    assert size_of(np.sort(GENERATOR.normal(size=4096)).astype(np.float32)) < 4096 * 2.5
    size_of(np.arange(5000, dtype=np.float32))


def test_what_the_dtype_cannot_hold_is_refused():
    with pytest.raises(TensorError, match="cannot be stored as bfloat16"):
        encode_codebook(np.array([0.1], np.float32), "bfloat16")


@settings(deadline=None, max_examples=200)
@given(
    data=st.data(),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    zero=st.booleans(),
    kind=st.sampled_from(["any", "sorted", "multiples"]),
)
def test_any_codebook_comes_back(data, dtype, zero, kind):
    values = data.draw(
        arrays(dtype, st.integers(0, 20), elements={"allow_nan": False, "allow_infinity": False})
    )
    if kind == "multiples":
        multiples = sorted(data.draw(st.sets(st.integers(-500, 500), max_size=20)))
        values = (np.array(multiples, np.float64) * data.draw(st.floats(1e-3, 10))).astype(dtype)
    elif kind == "sorted":
        values = np.unique(values)
    size_of(behind_zero(values[values != 0]) if zero else values)
