"""Rounding that keeps outputs, against covariances written out in full and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from featherweight.errors import TensorError
from featherweight.quantization import (
    InputCovariance,
    output_error,
    prior_covariance,
    quantize_ecsq,
    quantize_kmeans,
    round_to_outputs,
    round_to_outputs_and_bits,
)
from featherweight.tensors import QuantizedTensor


def full(covariance: InputCovariance, n: int) -> np.ndarray:
    b = len(covariance.within)
    return np.kron(np.eye(n // b), covariance.within) + covariance.between


def by_hand(weights, rounded, covariance):
    errors = (np.asarray(rounded, np.float64) - weights).reshape(len(weights), -1)
    h = full(covariance, errors.shape[1])
    return sum(e @ h @ e for e in errors)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_the_prior_of_a_convolution():
    covariance = prior_covariance((8, 16, 3, 3), pixels=0.5, mean=0.25)
    assert covariance.between == 0.25
    assert covariance.within.shape == (9, 9)
    np.testing.assert_allclose(np.diag(covariance.within), 1)
    assert covariance.within[0, 1] == pytest.approx(0.5)  # a neighbour
    assert covariance.within[0, 4] == pytest.approx(0.5 ** np.sqrt(2))  # one across the corner
    assert covariance.within[0, 8] == pytest.approx(0.5 ** np.sqrt(8))


def test_the_prior_of_a_layer_that_sees_an_image_has_correlated_colours():
    covariance = prior_covariance((8, 3, 2, 2), pixels=0.5, mean=0.25)
    assert covariance.between == 0
    assert covariance.within.shape == (12, 12)
    assert covariance.within[0, 4] == pytest.approx(0.9)  # the same pixel's next colour
    assert covariance.within[0, 5] == pytest.approx(0.45)


@pytest.mark.parametrize("shape", [(5, 7), (7,), (1, 4096, 40, 40)])
def test_the_prior_without_pixels(shape):
    covariance = prior_covariance(shape, mean=0.25)
    assert (covariance.within.tolist(), covariance.between) == ([[1.0]], 0.25)


def test_the_output_error_is_that_of_random_inputs():
    weights, rounded = draw(4, 6), draw(4, 6, seed=1)
    inputs = draw(500, 6, seed=2).astype(np.float64) + 0.5
    covariance = InputCovariance(inputs.T @ inputs / len(inputs))
    change = inputs @ (rounded.astype(np.float64) - weights).T
    assert output_error(weights, rounded, covariance) == pytest.approx((change**2).sum() / len(inputs))


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (6, 3, 3, 3), (10, 40), (30,), (2, 5, 4)])
@pytest.mark.parametrize("fixed", [True, False])
def test_no_step_increases_the_error_and_no_single_label_would_lower_it(shape, fixed):
    weights = draw(*shape)
    if fixed:
        weights[np.abs(weights) < 0.5] = 0
    start = quantize_kmeans(weights, 2, fix_zeros=fixed)
    prior = prior_covariance(shape)
    rounded = round_to_outputs(weights, start, prior, refits=0, zeros_stay=fixed)
    moved = round_to_outputs(weights, start, prior, zeros_stay=fixed)
    rows = weights.reshape(1, -1) if weights.ndim == 1 else weights
    errors = [
        by_hand(rows, tensor.dequantize().reshape(rows.shape), prior) for tensor in (start, rounded, moved)
    ]
    assert errors[0] >= errors[1] >= errors[2]
    assert errors[0] > errors[2] or weights.ndim == 1  # a single row may be at its best to begin with
    assert errors[2] == pytest.approx(output_error(weights, moved.dequantize(), prior), rel=1e-6)
    if fixed:
        np.testing.assert_array_equal(moved.indices == 0, weights == 0)
        assert moved.codebook[0] == 0
    values = rounded.dequantize().reshape(len(rows), -1).astype(np.float64)
    h = full(prior, values.shape[1])
    flat = rows.reshape(len(rows), -1)
    gradient = (values - flat) @ h  # of half the error
    for level in rounded.codebook[int(fixed) :].astype(np.float64):
        step = np.where((flat != 0) | (not fixed), level - values, 0)
        assert (2 * gradient * step + np.diag(h) * step**2 > -1e-5).all()


def test_close_to_the_best_of_all_assignments():
    levels = np.array([-1.0, 0.0, 1.0], np.float32)
    prior = InputCovariance(0.8 ** np.abs(np.subtract.outer(np.arange(6.0), np.arange(6.0))), 0.3)
    gaps, nearest = [], []
    for seed in range(20):
        weights = draw(1, 6, seed=seed)
        every = np.array(list(itertools.product(levels, repeat=6)), np.float32)
        best = min(by_hand(weights, choice[None], prior) for choice in every)
        indices = np.abs(weights[..., None] - levels).argmin(-1).astype(np.uint8)
        start = QuantizedTensor(indices, levels)
        found = round_to_outputs(weights, start, prior, refits=0, zeros_stay=False)
        gaps.append(by_hand(weights, found.dequantize(), prior) - best)
        nearest.append(by_hand(weights, start.dequantize(), prior) - best)
    assert min(gaps) > -1e-9
    assert sum(gaps) < 0.35 * sum(nearest)
    assert sum(gap < 1e-9 for gap in gaps) >= 10


def test_moved_levels_solve_least_squares():
    weights = draw(12, 10)
    prior = prior_covariance(weights.shape)
    moved = round_to_outputs(weights, quantize_kmeans(weights, 2, fix_zeros=False), prior, zeros_stay=False)
    h = full(prior, 10)
    chosen = np.stack([moved.indices == k for k in range(moved.codebook.size)], -1).astype(np.float64)
    root = np.linalg.cholesky(h).T
    design = np.concatenate([root @ row for row in chosen])
    target = np.concatenate([root @ row for row in weights.astype(np.float64)])
    best = np.linalg.lstsq(design, target, rcond=None)[0]
    assert output_error(weights, moved.dequantize(), prior) <= 1.02 * float(
        np.square(design @ best - target).sum()
    )


def test_errors_of_a_row_and_of_a_kernel_nearly_cancel():
    weights = draw(16, 8, 3, 3)
    start = quantize_kmeans(weights, 3, fix_zeros=False)
    rounded = round_to_outputs(weights, start, zeros_stay=False)
    before, after = (t.dequantize() - weights for t in (start, rounded))
    assert np.abs(after.sum((1, 2, 3))).mean() < 0.3 * np.abs(before.sum((1, 2, 3))).mean()
    assert np.abs(after.sum((2, 3))).mean() < 0.5 * np.abs(before.sum((2, 3))).mean()


def test_what_is_exact_stays():
    weights = np.array([[0.5, -1.0, 0.5, 2.0]], np.float32)
    exact = quantize_kmeans(weights, 2, fix_zeros=False)
    assert round_to_outputs(weights, exact, zeros_stay=False) is exact
    empty = np.zeros((0, 3), np.float32)
    assert round_to_outputs(empty, quantize_kmeans(empty, 2)).shape == (0, 3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_and_the_same_twice(dtype):
    weights = draw(6, 4, 3, 3).astype(dtype)
    first, second = (
        round_to_outputs(weights, quantize_kmeans(weights, 3, fix_zeros=False), zeros_stay=False)
        for _ in range(2)
    )
    assert first.codebook.dtype == dtype
    assert np.array_equal(first.indices, second.indices)
    assert np.array_equal(first.codebook, second.codebook)
    assert (np.diff(first.codebook) > 0).all()


def test_what_does_not_fit():
    weights = draw(4, 6)
    start = quantize_kmeans(weights, 2)
    with pytest.raises(TensorError, match="4 inputs does not fit rows of 6 weights"):
        round_to_outputs(weights, start, InputCovariance(np.eye(4)))
    with pytest.raises(TensorError, match="not finite"):
        round_to_outputs(np.full((2, 2), np.nan, np.float32), start)
    with pytest.raises(TensorError, match="square"):
        InputCovariance(np.ones((2, 3)))
    with pytest.raises(TensorError, match="symmetric"):
        InputCovariance(np.array([[1.0, 2.0], [0.0, 1.0]]))
    with pytest.raises(TensorError, match="at least 0"):
        InputCovariance(np.eye(2), -1.0)


# -- against the bits of the coder -------------------------------------------------------------------


def objective(weights, tensor, prior, lagrangian, counts=None):
    """eᵀ H e + λ Σ bits, from the formulas; bits are those of the tensor's own counts unless given."""
    counts = np.bincount(tensor.indices.reshape(-1)) if counts is None else counts
    bits = -np.log2((counts + 0.5) / (counts.sum() + 0.5 * counts.size))
    own = np.diag(prior.within).mean() + prior.between
    scale = lagrangian * own * np.square(weights[weights != 0].astype(np.float64)).mean()
    return output_error(weights, tensor.dequantize(), prior) + scale * bits[tensor.indices].sum()


@pytest.mark.parametrize("pruned", [True, False])
def test_with_bits_no_single_label_would_lower_error_and_bits_together(pruned):
    weights = draw(6, 4, 3, 3)
    if pruned:
        weights[np.abs(weights) < 0.5] = 0
    prior = prior_covariance(weights.shape)
    start = quantize_ecsq(weights, 3, 0.05, init="density")
    found = round_to_outputs_and_bits(weights, start, 0.05, prior, refits=0)
    assert (found.indices[weights == 0] == 0).all()
    assert found.codebook[0] == 0
    assert np.isin(found.codebook, start.codebook).all()
    # Its costs are those of the labels it started from.
    counts = np.bincount(start.indices.reshape(-1), minlength=start.codebook.size)
    where = np.searchsorted(start.codebook[1:], found.codebook[1:]) + 1
    mine = QuantizedTensor(np.r_[0, where].astype(np.uint8)[found.indices], start.codebook)
    least = objective(weights, mine, prior, 0.05, counts)
    assert least < objective(weights, start, prior, 0.05, counts)
    for place in np.argwhere(weights != 0)[::5]:
        for label in range(start.codebook.size):
            indices = mine.indices.copy()
            indices[tuple(place)] = label
            other = objective(weights, QuantizedTensor(indices, start.codebook), prior, 0.05, counts)
            assert other >= least * (1 - 1e-6)


def test_with_bits_that_cost_nothing_it_rounds_to_outputs():
    weights = draw(8, 30)
    start = quantize_ecsq(weights, 3, 0.0, init="density")
    prior = prior_covariance(weights.shape)
    found = round_to_outputs_and_bits(weights, start, 0.0, prior)
    assert output_error(weights, found.dequantize(), prior) < output_error(weights, start.dequantize(), prior)
    dear = round_to_outputs_and_bits(weights, quantize_ecsq(weights, 3, 0.3, init="density"), 0.3, prior)
    assert dear.codebook.size < found.codebook.size
    assert objective(weights, dear, prior, 0.3) < objective(weights, found, prior, 0.3)


def test_at_no_larger_an_output_error_it_takes_fewer_bits_than_kmeans():
    weights = (np.random.default_rng(0).laplace(size=(40, 20, 3, 3)) * 0.1).astype(np.float32)
    prior = prior_covariance(weights.shape)

    def bits(tensor):
        shares = np.bincount(tensor.indices.reshape(-1)) / tensor.indices.size
        return float(-(shares * np.log2(shares, where=shares > 0, out=np.zeros_like(shares))).sum())

    plain = round_to_outputs(
        weights, quantize_kmeans(weights, 3, "optimal", fix_zeros=False), prior, zeros_stay=False
    )
    ours = round_to_outputs_and_bits(weights, quantize_ecsq(weights, 5, 0.06, init="density"), 0.06, prior)
    errors = [output_error(weights, tensor.dequantize(), prior) for tensor in (ours, plain)]
    assert errors[0] <= errors[1]
    assert bits(ours) < 0.95 * bits(plain)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_with_bits_other_dtypes_and_exact_tensors(dtype):
    weights = draw(5, 8).astype(dtype)
    found = round_to_outputs_and_bits(weights, quantize_ecsq(weights, 2, 0.1), 0.1)
    assert found.codebook.dtype == dtype
    again = round_to_outputs_and_bits(found.dequantize(), found, 0.1)
    np.testing.assert_array_equal(again.dequantize(), found.dequantize())
    empty = np.zeros((0, 3), dtype)
    assert round_to_outputs_and_bits(empty, quantize_ecsq(empty, 2, 0.1), 0.1).indices.shape == (0, 3)
