"""Nearest centroids against brute force in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from featherweight.quantization import assign_nearest, midpoints

DTYPES = [np.float16, np.float32, np.float64]


def brute_force(weights, centroids):
    """The first of the nearest centroids; Python's fractions make no rounding error."""
    exact = [Fraction(float(c)) for c in centroids]
    distances = [[abs(Fraction(float(w)) - c) for c in exact] for w in weights.reshape(-1)]
    return np.array([row.index(min(row)) for row in distances]).reshape(weights.shape)


def floats(dtype):
    # Of magnitudes so near that the border between two of them is a float64.
    values = st.floats(-1e4, 1e4, width=np.dtype(dtype).itemsize * 8)
    return values.filter(lambda value: value == 0 or abs(value) > 1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_weight_goes_to_its_nearest_centroid(dtype, data):
    centroids = np.array(
        sorted(data.draw(st.lists(floats(dtype), min_size=1, max_size=9, unique=True))), dtype=dtype
    )
    weights = data.draw(arrays.arrays(dtype, st.integers(0, 20), elements=floats(dtype)))
    # And weights at the borders and one step beside them, where rounding would tell.
    near = ((centroids[1:].astype(np.float64) + centroids[:-1]) / 2).astype(dtype)
    near = np.concatenate([near, np.nextafter(near, dtype(np.inf)), np.nextafter(near, dtype(-np.inf))])
    weights = np.concatenate([weights, near, centroids])
    if dtype == np.float64:
        # A border of two float64 may lie between two float64 itself: either side is then as good.
        result = assign_nearest(weights, centroids)
        best = np.abs(weights[:, None] - centroids).min(axis=1)
        ulps = 2 * np.spacing(np.abs(weights).max())
        np.testing.assert_allclose(np.abs(weights - centroids[result]), best, rtol=0, atol=ulps)
    else:
        np.testing.assert_array_equal(assign_nearest(weights, centroids), brute_force(weights, centroids))


def test_halfway_goes_to_the_lower_one():
    weights = np.array([[0.5, 1.5], [0.50001, -7.0]], np.float32)
    assert assign_nearest(weights, np.array([0.0, 1.0, 2.0])).tolist() == [[0, 1], [1, 0]]


def test_a_border_that_is_no_float16_is_rounded_down():
    centroids = np.array([1.0, 1.0 + 3 / 1024], np.float16)  # the border, 1 + 1.5/1024, is none
    assert midpoints(centroids, np.dtype(np.float16)).tolist() == [1.0 + 1 / 1024]
    weights = np.array([1.0 + 1 / 1024, 1.0 + 2 / 1024], np.float16)
    assert assign_nearest(weights, centroids).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("size", "offset", "dtype"), [(255, 1, np.uint8), (256, 0, np.uint8), (256, 1, np.uint16)]
)
def test_indices_take_the_smallest_type(size, offset, dtype):
    centroids = np.arange(size, dtype=np.float32)
    indices = assign_nearest(centroids, centroids, offset)
    assert indices.dtype == dtype
    assert indices.tolist() == list(range(offset, size + offset))


def test_one_centroid_no_weight_and_other_layouts():
    assert assign_nearest(np.array([3.0, -4.0]), np.array([1.0]), offset=2).tolist() == [2, 2]
    assert assign_nearest(np.empty((0, 3), np.float32), np.array([1.0, 2.0])).shape == (0, 3)
    weights = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = [[0, 0, 1], [0, 0, 1], [0, 1, 1], [0, 1, 1]]
    assert assign_nearest(weights.T, np.array([0.0, 11.0])).tolist() == expected
