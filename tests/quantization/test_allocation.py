"""Bits shared out among layers, against all there is to choose from."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from featherweight.quantization.allocation import allocate


def brute_force(sizes: list[list[int]], costs: list[list[float]], capacity: int) -> float | None:
    """The least cost of all choices that fit."""
    found = [
        sum(cost[i] for cost, i in zip(costs, chosen, strict=True))
        for chosen in product(*(range(len(layer)) for layer in sizes))
        if sum(size[i] for size, i in zip(sizes, chosen, strict=True)) <= capacity
    ]
    return min(found, default=None)


@pytest.mark.parametrize("seed", range(40))
def test_no_choice_that_fits_costs_less(seed: int) -> None:
    draw = np.random.default_rng(seed)
    layers = int(draw.integers(1, 6))
    sizes = [draw.integers(1, 60, draw.integers(1, 5)).tolist() for _ in range(layers)]
    costs = [draw.random(len(layer)).tolist() for layer in sizes]
    for capacity in (0, 20, 60, 100, 150, 10**6):
        chosen = allocate(sizes, costs, capacity)
        best = brute_force(sizes, costs, capacity)
        if best is None:
            assert chosen is None
            continue
        assert chosen is not None
        assert sum(size[i] for size, i in zip(sizes, chosen, strict=True)) <= capacity
        assert sum(cost[i] for cost, i in zip(costs, chosen, strict=True)) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(10))
def test_rounding_to_cells_fits_and_costs_little_more(seed: int) -> None:
    draw = np.random.default_rng(seed)
    sizes = [np.sort(draw.integers(100, 5000, 5)).tolist() for _ in range(5)]
    costs = [np.sort(draw.random(5))[::-1].tolist() for _ in range(5)]
    capacity = sum(layer[0] for layer in sizes) + 4000
    best = brute_force(sizes, costs, capacity)
    chosen = allocate(sizes, costs, capacity, max_cells=200)
    assert best is not None
    assert chosen is not None
    assert sum(size[i] for size, i in zip(sizes, chosen, strict=True)) <= capacity
    spent = sum(cost[i] for cost, i in zip(costs, chosen, strict=True))
    assert best - 1e-12 <= spent <= 1.1 * best + 1e-12


def test_bytes_that_rounding_leaves_over_are_spent() -> None:
    # One cell alone: everything but the smallest candidate rounds up to more than it holds, or to it.
    assert allocate([[10, 13], [10, 14]], [[1.0, 0.0], [1.0, 0.0]], 27, max_cells=1) == [1, 1]
