"""Bits of a weight by its place, against counting by hand."""

from __future__ import annotations

import math

import pytest
import torch

from featherweight import Prune, Recipe, Rule
from featherweight.errors import RecipeError
from featherweight.pruning import per_bit, weight_bits
from featherweight.pruning.rate import PRIOR, VALUE_BITS
from featherweight.training_steps import prune


def by_hand(mask):
    """The same in plain Python, a matrix."""
    rows, columns = len(mask), len(mask[0])
    mean = (sum(map(sum, mask)) + 1) / (rows * columns + 2)
    result = []
    for r in range(rows):
        line = []
        for c in range(columns):
            row = (sum(mask[r]) + PRIOR * mean) / (columns + PRIOR)
            column = (sum(line_[c] for line_ in mask) + PRIOR * mean) / (rows + PRIOR)
            p = min(max(row * column / mean, 1e-5), 0.9)
            line.append(VALUE_BITS + max(math.log2((1 - p) / p), 0.0))
        result.append(line)
    return result


def test_a_matrix_as_counted_by_hand():
    mask = [[1, 1, 1, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]
    torch.testing.assert_close(
        weight_bits(torch.tensor(mask).bool()), torch.tensor(by_hand(mask)), rtol=1e-5, atol=1e-5
    )


def test_a_lonely_weight_costs_more_than_one_in_company():
    mask = torch.zeros(100, 100, dtype=torch.bool)
    mask[0, :50] = True
    mask[60, 70] = True
    bits = weight_bits(mask)
    assert bits[0, 10] < 4 < 8 < bits[60, 70]


def test_weights_of_a_full_kernel_cost_less_than_those_of_an_empty_one():
    mask = torch.zeros(20, 10, 5, 5, dtype=torch.bool)
    mask[3, 4] = True
    mask[3, :, 0, 0] = True
    mask[:, 5, 1, 1] = True
    bits = weight_bits(mask)
    assert bits.shape == mask.shape
    assert bits[3, 4, 2, 2] < bits[3, 5, 2, 2] < bits[9, 9, 2, 2]


def test_full_tensors_and_vectors_cost_the_same_everywhere():
    for shape in ((4, 6), (4, 6, 3, 3), (7,), (0, 5), ()):
        bits = weight_bits(torch.ones(shape, dtype=torch.bool))
        assert bits.shape == shape
        assert torch.equal(bits, torch.full(shape, VALUE_BITS))


def test_rate_zero_leaves_scores_as_they_are_and_one_divides_squares_by_bits():
    scores, mask = torch.rand(6, 8), torch.rand(6, 8) < 0.3
    assert torch.equal(per_bit(scores, mask, 0.0), scores)
    torch.testing.assert_close(per_bit(scores, mask, 1.0).square(), scores.square() / weight_bits(mask))


def test_of_equal_magnitudes_those_in_full_rows_stay():
    model = torch.nn.Linear(40, 40, bias=False)
    recipe = lambda sparsity, rate: Recipe((Rule("weight", Prune(sparsity=sparsity, rate=rate)),))  # noqa: E731
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch.no_grad():
        model.weight.fill_(0.01)
        model.weight[5] = 1.0  # a full row
        model.weight[10:20, 3] = 1.0
        model.weight[torch.arange(20, 30), torch.arange(20, 30)] = 1.1  # larger, but each alone
    prune(model, recipe(1 - 60 / 1600, 1.0), optimizer=optimizer)
    assert int((model.weight != 0).sum()) == 60
    prune(model, recipe(1 - 50 / 1600, 1.0), optimizer=optimizer)
    assert bool((model.weight[5] != 0).all())
    assert int((model.weight[20:30] != 0).sum()) < 10
    assert int((model.weight[10:20] != 0).sum()) == 10


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sparsity": 0.5, "rate": -1.0}, "rate must be at least 0"),
        ({"std": 0.5, "rate": 1.0}, "rate needs an amount"),
        ({"threshold": 0.5, "rate": 1.0}, "rate needs an amount"),
        ({"sparsity": 0.5, "rate": 1.0, "granularity": "filter"}, "single weights, not of a filter"),
    ],
)
def test_a_rate_that_cannot_be_meant_is_refused(fields, message):
    with pytest.raises(RecipeError, match=message):
        Prune(**fields)
