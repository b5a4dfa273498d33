"""Budgets of ``bits: auto``, and what recipes say of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from featherweight import Budget, Quantize, Recipe, RecipeError, Rule
from featherweight.recipe.budget import parse_size

if TYPE_CHECKING:
    from pathlib import Path

AUTO = {"match": "*.weight", "quantize": {"bits": "auto"}}


@pytest.mark.parametrize(
    ("text", "size"),
    [(1000, 1000), ("100KB", 100_000), ("64KiB", 65_536), ("1.5 MB", 1_500_000), ("12", 12), ("9 b", 9)],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "KB", "-1KB", "1 stone", "1e3", "1,000"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(RecipeError, match="size is a number of bytes"):
        Budget(size=text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either size"),
        ({"size": 1000, "mean_bits": 4.0}, "either size"),
        ({"mean_bits": 0.0}, "above 0"),
        ({"mean_bits": float("inf")}, "above 0"),
        ({"size": 0}, "at least 1 byte"),
        ({"mean_bits": 4.0, "min_bits": 5, "max_bits": 4}, "min_bits"),
        ({"mean_bits": 4.0, "max_bits": 17}, "max_bits"),
        ({"mean_bits": 4.0, "sensitivity": "guess"}, "unknown sensitivity 'guess'"),
    ],
)
def test_bad_budgets(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Budget(**options)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"rules": [AUTO]}, "bits: auto needs a budget"),
        ({"rules": [{"match": "*"}], "budget": {"mean_bits": 4}}, "there is none"),
        ({"rules": [{"match": "*"}], "bits": {"a": 4}}, "there is none"),
        ({"rules": [AUTO], "bits": {"a": "four"}}, "bits.a: expected a whole number"),
        ({"rules": [AUTO], "budget": {"mean_bit": 4}}, "did you mean 'mean_bits'"),
        ({"rules": [{"match": "*", "quantize": {"bits": "some"}}]}, "between 1 and 8, or auto, got 'some'"),
        ({"rules": [{"match": "*", "quantize": {"bits": 4.5}}]}, "expected a whole number, got 4.5"),
        (
            {"rules": [{"match": "*", "quantize": {"method": "ttq", "bits": "auto"}}]},
            "ttq has three values, 2 bits",
        ),
        (
            {
                "rules": [
                    {"match": "*", "quantize": {"method": "fixed_point", "bits": "auto", "integer_bits": 2}}
                ]
            },
            "not with auto",
        ),
    ],
)
def test_bad_recipes(recipe: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.from_dict(recipe)


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_a_recipe_with_a_budget_and_bits_is_read_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    rules = (Rule("*.weight", quantize=Quantize(bits="auto")),)
    recipe = Recipe(rules, budget=Budget(size="10KB", sensitivity="loss"), bits={"a.weight": 3})
    assert recipe.automatic
    assert not recipe.undecided
    recipe.save(tmp_path / f"r.{suffix}")
    assert Recipe.load(tmp_path / f"r.{suffix}") == recipe


def test_bits_of_single_tensors() -> None:
    spec = Quantize(bits="auto", init="density")
    assert spec.settled("a", {"a": 3}) == Quantize(bits=3, init="density")
    with pytest.raises(RecipeError, match="b: bits: auto, and the recipe's bits do not name it"):
        spec.settled("b", {"a": 3})
    with pytest.raises(RecipeError, match="a: bits must be between 1 and 8, got 9"):
        spec.settled("a", {"a": 9})
    with pytest.raises(RecipeError, match="are not chosen yet"):
        _ = spec.width
