"""Entropy-constrained quantization: choices against brute force, bits against the coder's bytes."""

from __future__ import annotations

import numpy as np
import pytest

from featherweight.coding import coder_by_name
from featherweight.errors import RecipeError, TensorError
from featherweight.quantization import quantize_ecsq, quantize_kmeans
from featherweight.quantization.ecsq import assign, position_bits


def pruned(shape=(60, 80), seed=0, share=0.8):
    generator = np.random.default_rng(seed)
    weights = generator.laplace(size=shape) * generator.exponential(size=(shape[0], 1))
    weights[np.abs(weights) < np.quantile(np.abs(weights), share)] = 0
    return weights.astype(np.float32)


def coded_bytes(shared):
    return len(coder_by_name("context").encode(shared.indices, shared.codebook.size))


def test_each_weight_takes_the_cheapest_codeword():
    generator = np.random.default_rng(0)
    values, h = generator.normal(size=200), generator.exponential(size=200)
    centroids = np.sort(generator.normal(size=7))
    zero, nonzero, code = generator.uniform(size=200), generator.uniform(size=200), generator.uniform(size=7)
    found = assign(values, h, centroids, zero, nonzero, code)
    for i, w in enumerate(values):
        costs = [h[i] * w**2 + zero[i]]
        costs += [h[i] * (w - c) ** 2 + nonzero[i] + bits for c, bits in zip(centroids, code, strict=True)]
        assert found[i] == int(np.argmin(costs))


@pytest.mark.parametrize("weighted", [False, True])
def test_without_lambda_it_is_kmeans(weighted):
    weights = pruned()
    h = np.random.default_rng(1).exponential(size=weights.shape) if weighted else None
    constrained = quantize_ecsq(weights, 3, 0.0, h)
    plain = quantize_kmeans(weights, 3, "density", sample_weights=h)
    np.testing.assert_allclose(constrained.codebook, plain.codebook, rtol=1e-6)
    np.testing.assert_array_equal(constrained.indices, plain.indices)


@pytest.mark.parametrize("rate", ["context", "entropy"])
def test_a_bit_that_is_worth_more_error_saves_bytes(rate):
    weights = pruned()
    sizes, errors, zeros = [], [], []
    for lagrangian in (0.0, 0.02, 0.08, 0.3):
        shared = quantize_ecsq(weights, 4, lagrangian, rate=rate)
        assert shared.codebook[0] == 0
        assert not shared.indices[weights == 0].any()
        assert set(np.unique(shared.indices)) == set(range(shared.codebook.size))
        assert (np.diff(shared.codebook[1:]) > 0).all()
        sizes.append(coded_bytes(shared))
        errors.append(np.square(weights - shared.dequantize()).sum())
        zeros.append(int((shared.indices == 0).sum()))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.6 * sizes[0]
    assert errors == sorted(errors)
    assert zeros[0] == (weights == 0).sum()
    assert zeros[-1] > zeros[0]


def test_at_equal_error_it_takes_fewer_bytes_than_kmeans():
    weights = pruned((200, 150))
    plain = quantize_kmeans(weights, 3, "optimal")
    allowed = np.square(weights - plain.dequantize()).sum()
    fewest = None
    for lagrangian in (0.003, 0.006, 0.01, 0.015, 0.02, 0.03):
        shared = quantize_ecsq(weights, 5, lagrangian, init="optimal")
        if np.square(weights - shared.dequantize()).sum() <= allowed:
            fewest = coded_bytes(shared)
    assert fewest is not None
    assert fewest < 0.95 * coded_bytes(plain)


def test_its_bits_are_about_those_of_the_coder():
    weights = pruned((300, 400), share=0.9)
    weights[:100] *= np.random.default_rng(3).uniform(size=(100, 400)) < 0.3  # rows of another density
    live = np.flatnonzero(weights)
    everywhere = np.arange(weights.size)
    nonzero = weights.reshape(-1) != 0
    counted = {}
    for rate in ("context", "entropy"):
        zero_bits, nonzero_bits = position_bits(300, weights.size, everywhere, nonzero, rate)
        counted[rate] = np.where(nonzero, nonzero_bits, zero_bits).sum() / 8
    coded = len(coder_by_name("context").encode((weights != 0).astype(np.uint8), 2))
    assert abs(counted["context"] - coded) < 0.05 * coded
    assert counted["context"] < counted["entropy"]
    part = position_bits(300, weights.size, live, np.ones(live.size, bool))
    whole = position_bits(300, weights.size, everywhere, nonzero)
    np.testing.assert_allclose(part[0], whole[0][live])


def test_importance_is_kept_where_it_matters():
    weights = pruned()
    h = np.where(np.arange(weights.shape[0])[:, None] < 30, 10.0, 0.1) * np.ones_like(weights)
    shared = quantize_ecsq(weights, 4, 0.05, h)
    errors = np.square(weights - shared.dequantize())
    assert (
        errors[:30].sum() / np.square(weights[:30]).sum() < errors[30:].sum() / np.square(weights[30:]).sum()
    )


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -2.0, 0.0, 1.0], np.array(3.0), np.zeros((0, 2))])
def test_few_distinct_values_stay(weights):
    weights = np.array(weights, np.float32)
    np.testing.assert_array_equal(quantize_ecsq(weights, 2, 0.5).dequantize(), weights)


def test_what_cannot_be_meant():
    with pytest.raises(RecipeError, match="lagrangian"):
        quantize_ecsq(np.arange(4.0), 2, -1.0)
    with pytest.raises(RecipeError, match="unknown rate 'x'; known: context, entropy"):
        quantize_ecsq(np.arange(4.0), 2, 1.0, rate="x")
    with pytest.raises(TensorError, match="not finite"):
        quantize_ecsq(np.array([np.nan]), 2, 1.0)
