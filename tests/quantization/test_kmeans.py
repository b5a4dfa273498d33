"""K-means against scikit-learn and against Lloyd's algorithm written out plainly."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.cluster import KMeans

from featherweight.errors import RecipeError, TensorError
from featherweight.quantization import INITIALIZATIONS, kmeans_codebook, lloyd, quantize_kmeans
from featherweight.quantization.kmeans import density, forgy, linear
from featherweight.quantization.sorted_weights import SortedWeights


def random_weights(kind, dtype=np.float32, size=2000, seed=0):
    generator = np.random.default_rng(seed)
    weights = generator.normal(scale=0.1, size=size)
    if kind == "pruned":
        weights[np.abs(weights) < 0.08] = 0
    if kind == "uniform":
        weights = generator.uniform(-0.2, 0.3, size=size)
    return weights.astype(dtype)


def plain_lloyd(values, centroids):
    """All distances, every step; an empty cluster stays where it is."""
    values, centroids = values.astype(np.float64), centroids.astype(np.float64).copy()
    labels = None
    while True:
        new = np.abs(values[:, None] - centroids).argmin(axis=1)
        if labels is not None and np.array_equal(new, labels):
            return centroids[np.unique(labels)]
        labels = new
        for k in np.unique(labels):
            centroids[k] = values[labels == k].mean()


def scikit_learn(values, start):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = KMeans(
            n_clusters=len(start),
            init=start.reshape(-1, 1),
            n_init=1,
            tol=0,
            algorithm="lloyd",
            max_iter=5000,
        ).fit(values.astype(np.float64).reshape(-1, 1))
    return np.sort(fitted.cluster_centers_.reshape(-1))


@pytest.mark.parametrize("init", list(INITIALIZATIONS))
@pytest.mark.parametrize(("kind", "bits"), [("normal", 2), ("uniform", 5), ("pruned", 2), ("pruned", 3)])
def test_centroids_are_those_of_scikit_learn(kind, bits, init):
    weights = random_weights(kind)
    kept = np.sort(weights[weights != 0])
    k = 2**bits - 1
    start = INITIALIZATIONS[init](SortedWeights(kept), k, np.random.default_rng(7))
    result = kmeans_codebook(kept, k, init, seed=7)
    assert result.size == k  # none was empty, so that both go the same way
    np.testing.assert_allclose(result, scikit_learn(kept, start), atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("init", list(INITIALIZATIONS))
def test_centroids_are_those_of_plain_lloyd_even_with_empty_clusters(init, seed):
    generator = np.random.default_rng(seed)
    values = np.sort(
        np.concatenate([generator.normal(size=150), generator.normal(30, 1, 20), [-80.0, 200.0]])
    )
    start = INITIALIZATIONS[init](SortedWeights(values), 31, np.random.default_rng(seed))
    expected = plain_lloyd(values, start)
    np.testing.assert_allclose(kmeans_codebook(values, 31, init, seed), expected, rtol=1e-9)
    if init == "linear":
        assert expected.size < 31


def test_initializations():
    values = np.arange(100, dtype=np.float32)
    generator = np.random.default_rng(0)
    assert linear(SortedWeights(values), 5, generator).tolist() == [0, 24.75, 49.5, 74.25, 99]
    assert density(SortedWeights(values), 4, generator).tolist() == [12, 37, 62, 87]
    drawn = forgy(SortedWeights(values), 8, generator)
    assert np.unique(drawn).size == 8
    assert np.isin(drawn, values).all()
    assert (np.diff(drawn) > 0).all()


def test_linear_is_even_over_the_whole_range_of_float16():
    values = np.array([-60_000, 0.1, 1.0, 60_000], np.float16)
    start = linear(SortedWeights(values), 7, np.random.default_rng(0))
    expected = -59_968 + np.arange(7) * (2 * 59_968 / 6)  # 60,000 in float16 is 59,968 or 60,000
    lowest = float(values[0])
    np.testing.assert_allclose(start, expected * lowest / -59_968, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("fix_zeros", [True, False])
@pytest.mark.parametrize("bits", range(1, 9))
def test_codebook_sizes_and_zeros(bits, fix_zeros, dtype):
    weights = random_weights("pruned", dtype, size=4000).reshape(40, 100)
    shared = quantize_kmeans(weights, bits, "density", fix_zeros)
    assert shared.codebook.dtype == dtype
    assert shared.shape == weights.shape
    assert shared.indices.dtype == np.uint8
    assert 2 <= shared.codebook.size <= 2**bits
    if fix_zeros:
        assert shared.codebook[0] == 0
        np.testing.assert_array_equal(shared.indices == 0, weights == 0)
        assert (np.diff(shared.codebook[1:]) > 0).all()
    else:
        assert (np.diff(shared.codebook) > 0).all()


@pytest.mark.parametrize("fix_zeros", [True, False])
def test_few_distinct_values_are_kept_as_they_are(fix_zeros):
    weights = np.array([[0.25, -3.0, 0.0], [7.5, 0.25, -3.0]], np.float32)
    shared = quantize_kmeans(weights, 2, "linear", fix_zeros)
    assert shared.dequantize().tobytes() == weights.tobytes()
    assert sorted(shared.codebook.tolist()) == [-3.0, 0.0, 0.25, 7.5]


@pytest.mark.parametrize(
    ("weights", "fix_zeros", "codebook"),
    [
        (np.full((3, 2), 0.5, np.float32), True, [0, 0.5]),
        (np.full((3, 2), 0.5, np.float32), False, [0.5]),
        (np.zeros((3, 2), np.float32), True, [0]),
        (np.zeros((3, 2), np.float32), False, [0]),
        (np.array(-2.0), True, [0, -2]),
        (np.array([4.0], np.float16), False, [4]),
        (np.empty((0, 3), np.float32), True, [0]),
        (np.empty((0, 3), np.float32), False, []),
    ],
)
def test_hardly_any_weights(weights, fix_zeros, codebook):
    shared = quantize_kmeans(weights, 3, "linear", fix_zeros)
    assert shared.codebook.tolist() == codebook
    assert shared.shape == weights.shape
    np.testing.assert_array_equal(shared.dequantize(), weights)


def test_the_same_seed_gives_the_same_clusters():
    weights = random_weights("normal")
    first, again, other = (quantize_kmeans(weights, 5, "forgy", seed=seed) for seed in (3, 3, 4))
    assert first.codebook.tobytes() == again.codebook.tobytes()
    assert first.indices.tobytes() == again.indices.tobytes()
    assert first.codebook.tobytes() != other.codebook.tobytes()


def test_order_and_shape_of_the_weights_do_not_matter():
    weights = random_weights("pruned")
    shared = quantize_kmeans(weights, 4)
    order = np.random.default_rng(0).permutation(weights.size)
    shuffled = quantize_kmeans(weights[order].reshape(50, 40), 4)
    assert shuffled.codebook.tobytes() == shared.codebook.tobytes()
    np.testing.assert_array_equal(shuffled.indices.reshape(-1), shared.indices[order])


@settings(deadline=None, max_examples=120)
@given(
    weights=arrays.arrays(
        np.float32,
        st.integers(1, 60),
        elements=st.one_of(st.just(0.0), st.floats(-100, 100, width=32, allow_subnormal=False)),
    ),
    bits=st.integers(1, 4),
    init=st.sampled_from(list(INITIALIZATIONS)),
    fix_zeros=st.booleans(),
)
def test_what_holds_for_any_weights(weights, bits, init, fix_zeros):
    shared = quantize_kmeans(weights, bits, init, fix_zeros)
    values = shared.dequantize().astype(np.float64)
    wide = weights.astype(np.float64)
    start = 1 if fix_zeros else 0
    centroids = shared.codebook[start:].astype(np.float64)
    clustered = shared.indices >= start
    assert (~clustered).sum() == ((weights == 0).sum() if fix_zeros else 0)
    # Every centroid has weights, and is their mean.
    for number, centroid in enumerate(centroids, start):
        members = wide[shared.indices == number]
        assert members.size
        np.testing.assert_allclose(centroid, members.mean(), rtol=1e-5, atol=1e-5)
    # No centroid is nearer than a weight's own, and inside the outermost ones the error is at most
    # half the largest gap between neighbours.
    if clustered.any():
        errors = np.abs(wide - values)[clustered]
        best = np.abs(wide[clustered][:, None] - centroids).min(axis=1)
        np.testing.assert_allclose(errors, best, rtol=1e-6, atol=1e-6)
        inside = (wide[clustered] >= centroids[0]) & (wide[clustered] <= centroids[-1])
        half_gap = np.diff(centroids).max(initial=0) / 2
        assert (errors[inside] <= half_gap + 1e-5).all()
        # Sharing never does worse than one value for all.
        one_value = np.square(wide[clustered] - wide[clustered].mean()).sum()
        assert np.square(errors).sum() <= one_value + 1e-3


def test_lloyd_never_raises_the_error():
    values = np.sort(random_weights("normal", np.float64))
    start = linear(SortedWeights(values), 8, np.random.default_rng(0))
    errors = []
    for steps in range(1, 30):
        centroids = lloyd(values, start, steps)
        errors.append(np.square(np.abs(values[:, None] - centroids).min(axis=1)).sum())
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(errors))
    assert errors[-1] < 0.8 * errors[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(bad):
    with pytest.raises(TensorError, match="not finite"):
        quantize_kmeans(np.array([1.0, bad], np.float32), 2)


def test_an_unknown_initialization_is_refused():
    with pytest.raises(RecipeError, match="unknown init 'middle'; known: linear, density, forgy"):
        kmeans_codebook(np.arange(9.0), 3, "middle")
