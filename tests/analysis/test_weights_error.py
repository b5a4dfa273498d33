from __future__ import annotations

import math

import numpy as np
import pytest

from featherweight.analysis import weights_error as module
from featherweight.analysis.weights_error import WeightsError, total_error, weights_error


def test_sqnr_by_hand() -> None:
    error = weights_error(np.array([3.0, 4.0]), np.array([3.0, 3.5]))
    assert (error.signal, error.noise, error.identical) == (25, 0.25, False)
    assert error.sqnr_db == pytest.approx(20)  # a hundred times the power


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.complex64])
def test_sqnr_against_numpy(dtype: type) -> None:
    random = np.random.default_rng(0)
    weights = (10 * random.normal(size=(40, 50))).astype(dtype)
    other = (weights + 2 * random.normal(size=(40, 50))).astype(dtype)
    error = weights_error(weights, other)
    wide = np.complex128 if dtype is np.complex64 else np.float64
    signal = np.linalg.norm(weights.astype(wide)) ** 2
    noise = np.linalg.norm(weights.astype(wide) - other.astype(wide)) ** 2
    assert error.sqnr_db == pytest.approx(10 * math.log10(signal / noise))


def test_a_large_tensor_is_summed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.random.default_rng(1).normal(size=1000)
    whole = weights_error(weights, weights + 0.1)
    monkeypatch.setattr(module, "_CHUNK", 7)
    parts = weights_error(weights, weights + 0.1)
    assert parts.sqnr_db == pytest.approx(whole.sqnr_db)


def test_types_may_differ() -> None:
    weights = np.array([0.1, 0.2], np.float32)
    assert weights_error(weights, weights.astype(np.float64)).identical
    assert weights_error(weights, weights.astype(np.float16)).sqnr_db == pytest.approx(73, abs=3)


def test_equal_weights_have_no_noise_nan_included() -> None:
    weights = np.array([1, np.nan, np.inf, -0.0])
    error = weights_error(weights, np.array([1, np.nan, np.inf, 0.0]))
    assert error.identical
    assert error.sqnr_db == math.inf


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_on_one_side_has_no_sqnr(bad: float) -> None:
    for pair in ((np.array([1, bad]), np.array([1, 2.0])), (np.array([1, 2.0]), np.array([1, bad]))):
        error = weights_error(*pair)
        assert (error.finite, error.identical, error.sqnr_db) == (False, False, None)


def test_nothing_and_zeros() -> None:
    assert weights_error(np.zeros((0, 3)), np.zeros((0, 3))).identical
    assert weights_error(np.zeros(3), np.ones(3)).sqnr_db == -math.inf
    assert weights_error(np.zeros(3), np.zeros(3)).sqnr_db == math.inf


def test_overflow_has_no_sqnr() -> None:
    assert weights_error(np.array([1e200]), np.array([-1e200])).sqnr_db is None


def test_integers_beyond_a_double_are_not_taken_for_equal() -> None:
    error = weights_error(np.array([2**62]), np.array([2**62 + 1]))
    assert not error.identical
    assert error.sqnr_db is None


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        weights_error(np.zeros(3), np.zeros((3, 1)))


def test_several_tensors_together() -> None:
    parts = [WeightsError(10, 1, False), WeightsError(90, 0, True)]
    assert total_error(parts).sqnr_db == pytest.approx(20)
    assert total_error([]).identical
    assert total_error([*parts, WeightsError(1, math.inf, False, False)]).sqnr_db is None
