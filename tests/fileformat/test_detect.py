import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.fileformat import find_codebook


def bits(array):
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


@settings(deadline=None, max_examples=100)
@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False, width=16), min_size=1, max_size=9),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    seed=st.integers(0, 2**32),
)
def test_detected_tensors_have_the_same_bits(values, dtype, seed):
    values = np.array([*values, 0.0, -0.0], dtype)
    data = np.random.default_rng(seed).choice(values, (40, 50))
    found = find_codebook(data)
    assert found is not None
    assert found.dtype == dtype
    assert np.array_equal(bits(found.dequantize()), bits(data))
    assert bits(found.codebook)[0] == 0
    assert (np.diff(found.codebook[1:]) > 0).all()
    assert set(bits(found.codebook)) == set(bits(data).ravel())


def test_without_zero_all_values_ascend():
    found = find_codebook(np.tile(np.array([3, -1, -0.0, 2], np.float32), 200))
    assert found.codebook.tolist() == [-1, 0, 2, 3]
    assert np.signbit(found.codebook).tolist() == [True, True, False, False]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_values_stay_raw(bad):
    data = np.ones(1000, np.float32)
    data[500] = bad
    assert find_codebook(data) is None


def test_nothing_gained_stays_raw():
    generator = np.random.default_rng(0)
    assert find_codebook(generator.normal(size=1000).astype(np.float32)) is None
    assert find_codebook(np.arange(10, dtype=np.float32)) is None
    assert find_codebook(np.float32(0).reshape(())) is None
    assert find_codebook(np.zeros((0, 3), np.float32)) is None
    pruned = np.where(generator.random(3000) < 0.1, generator.normal(size=3000), 0)
    assert find_codebook(pruned) is None


def test_more_values_than_allowed():
    data = np.repeat(np.arange(300, dtype=np.float32), 20)
    assert find_codebook(data, 299) is None
    assert find_codebook(data, 300).indices.dtype == np.uint16
    assert find_codebook(data[: 256 * 20]).indices.dtype == np.uint8


def test_bfloat16_values_in_float32():
    data = np.tile(np.array([0, 1.5, -2], np.float32), 300)
    assert find_codebook(data, dtype="bfloat16").dtype == "bfloat16"


def test_other_byte_order_and_strides():
    data = np.tile(np.array([0, 1.5, -2], ">f4"), (4, 300))[:, ::2]
    assert np.array_equal(find_codebook(data).dequantize(), data)


def test_dense_tensors_are_refused_from_a_sample():
    data = np.random.default_rng(0).normal(size=1 << 22).astype(np.float32)
    find_codebook(data)
    start = time.perf_counter()
    assert find_codebook(data) is None
    assert time.perf_counter() - start < 0.5
