from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from featherweight.errors import RecipeError, TensorError
from featherweight.pruning import (
    IMPORTANCES,
    FunctionImportance,
    NetworkImportance,
    importance_by_name,
    score,
)


def gradient_times_weight(name, weight, gradient):
    return (weight * gradient).abs()


def first_row_only(name, weight, gradient):
    return weight[0]


def not_a_number(name, weight, gradient):
    return torch.full_like(weight, torch.nan)


NOT_CALLABLE = 3


def test_magnitude():
    weight = torch.tensor([[-2.0, 0.5], [0.0, -0.0]], requires_grad=True)
    scores = score(importance_by_name("magnitude"), "w", weight)
    assert scores.tolist() == [[2.0, 0.5], [0.0, 0.0]]
    assert not scores.requires_grad


def test_a_callable_by_its_import_path():
    assert importance_by_name(f"{__name__}.gradient_times_weight") == FunctionImportance(
        gradient_times_weight
    )
    weight = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    weight.grad = torch.tensor([5.0, 1.0, 0.5])
    scores = score(FunctionImportance(gradient_times_weight), "w", weight)
    assert scores.tolist() == [5.0, 2.0, 1.5]
    assert not scores.requires_grad


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("magnitud", "unknown importance 'magnitud'; known: magnitude, std, .*sss, or the import path"),
        ("no_such_module.function", "cannot be imported: No module named 'no_such_module'"),
        (f"{__name__}.no_such_function", "cannot be imported: module .* has no attribute"),
        (f"{__name__}.NOT_CALLABLE", "is not callable"),
        ("..relative.function", "cannot be imported"),
        ("", "unknown importance ''"),
    ],
)
def test_importances_that_there_are_not(name, message):
    with pytest.raises(RecipeError, match=message) as caught:
        importance_by_name(name)
    assert "\n" not in str(caught.value)


def test_wrong_scores_are_refused_by_name():
    weight = torch.ones(3, 2)
    with pytest.raises(TensorError, match=r"fc\.weight: .*shape \(2,\), expected \(3, 2\)"):
        score(FunctionImportance(first_row_only), "fc.weight", weight)
    with pytest.raises(TensorError, match=r"fc\.weight: importance gave NaN"):
        score(FunctionImportance(not_a_number), "fc.weight", weight)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_are_refused_by_name(bad):
    with pytest.raises(TensorError, match=r"fc\.weight: the weights are not finite"):
        score(importance_by_name("magnitude"), "fc.weight", torch.tensor([1.0, bad]))


@dataclass(frozen=True)
class Spread(NetworkImportance):
    """Standard deviation of each weight's gradient over single examples, times a factor."""

    factor: float = 1.0

    def scores(self, weights, granularity, calibration):
        calibration.examples(1)
        return {name: self.factor * weight.detach().abs() for name, weight in weights.items()}


def gives_a_number(name, weight, gradient):
    return 1.0


def test_a_class_of_ones_own_takes_its_options():
    found = importance_by_name(f"{__name__}.Spread", {"factor": 3})
    assert found == Spread(3.0)
    with pytest.raises(RecipeError, match="unknown key 'factr'; did you mean 'factor'"):
        importance_by_name(f"{__name__}.Spread", {"factr": 3})
    with pytest.raises(RecipeError, match="is a function, which takes no options"):
        importance_by_name(f"{__name__}.gradient_times_weight", {"factor": 3})


def test_a_function_that_gives_no_tensor():
    with pytest.raises(TensorError, match=r"fc\.weight: importance gave float, expected a torch.Tensor"):
        score(FunctionImportance(gives_a_number), "fc.weight", torch.ones(2))


def test_every_name_of_the_table_has_its_documented_defaults():
    assert list(IMPORTANCES) == [
        "magnitude", "std", "l1norm", "l2norm", "taylor1", "taylor2", "taylor12", "l1gate", "l2gate",
        "empirical", "nisp", "sss",
    ]  # fmt: skip
    page = (Path(__file__).parents[3] / "docs" / "pruning.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    for name, kind in IMPORTANCES.items():
        for option in vars(kind()):
            assert f"`{option}`" in rows[name] or "as `" in rows[name], (name, option)
