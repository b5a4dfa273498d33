"""Selection against brute force and scikit-learn on the contributions themselves."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from sklearn.linear_model import lars_path

from featherweight.pruning.channels import at_random, greedy, lasso, lowest


def contributions(channels, seed, size=60):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(channels, channels)) * rng.uniform(0.2, 2, size=(channels, 1))
    return mixing @ rng.normal(size=(channels, size))


def objective(Z, chosen):
    return float(np.square(Z[list(chosen)].sum(axis=0)).sum())


@pytest.mark.parametrize("seed", range(5))
def test_each_greedy_step_is_the_best_by_brute_force(seed):
    Z = contributions(12, seed)
    removed = greedy(Z @ Z.T, 8)
    for step in range(8):
        before = removed[:step]
        costs = {c: objective(Z, [*before, c]) for c in range(12) if c not in before}
        assert removed[step] == min(costs, key=costs.get)


def test_greedy_finds_the_best_set_where_channels_are_independent():
    rng = np.random.default_rng(3)
    Z = np.linalg.qr(rng.normal(size=(40, 8)))[0].T * rng.uniform(1, 3, size=(8, 1))
    best = min(combinations(range(8), 4), key=lambda chosen: objective(Z, chosen))
    assert sorted(greedy(Z @ Z.T, 4)) == list(best)


def test_greedy_removes_channels_that_cancel_each_other():
    Z = np.zeros((3, 4))
    Z[0], Z[1], Z[2] = [5, 5, 5, 5], [-5, -5, -5, -5], [4, 4, 4, 4]
    # One alone: the smallest; then the two that cancel stay cheaper than any other pair.
    assert greedy(Z @ Z.T, 1) == [2]
    assert sorted(greedy(Z @ Z.T, 2)) == [1, 2]


@pytest.mark.parametrize(("seed", "count"), [(0, 3), (1, 6), (2, 9)])
def test_lasso_keeps_what_scikit_learn_keeps_on_the_whole_problem(seed, count):
    Z = contributions(12, seed, size=200)
    kept = set(range(12)) - set(lasso(Z @ Z.T, count))
    knots = lars_path(Z.T, Z.sum(axis=0), method="lasso")[2].T  # another algorithm, exact between knots
    active = [set(np.flatnonzero(a + b)) for a, b in pairwise(knots)]
    assert kept in [found for found in active if len(found) == 12 - count]


def test_lasso_keeps_the_wanted_number_even_of_equal_channels():
    Z = np.repeat(np.eye(3, 10), 2, axis=0)  # three pairs of twins
    assert len(set(lasso(Z @ Z.T, 3))) == 3
    assert lasso(np.zeros((4, 4)), 2) == [0, 1]


def test_random_channels_depend_on_the_seed():
    assert at_random(50, 20, seed=1) == at_random(50, 20, seed=1)
    assert at_random(50, 20, seed=1) != at_random(50, 20, seed=2)
    assert len(set(at_random(50, 20, seed=1))) == 20


def test_lowest_scores_leave_and_of_equals_the_first():
    assert lowest(np.array([3.0, 1.0, 2.0, 1.0]), 2) == [1, 3]
    assert lowest(np.array([3.0, 1.0, 1.0, 1.0]), 2) == [1, 2]


@pytest.mark.parametrize("choose", [greedy, lasso])
def test_as_many_channels_leave_each_block(choose):
    Z = contributions(12, 4)
    Z[:6] *= 0.01
    blocks = [0] * 6 + [1] * 6
    removed = choose(Z @ Z.T, 4, blocks)
    assert sorted(blocks[c] for c in removed) == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="equal parts"):
        choose(Z @ Z.T, 3, blocks)
