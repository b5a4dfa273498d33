"""How much a weight matters: scores that decide which weights are pruned, the higher the longer kept."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TypeAlias

import torch

from featherweight.errors import RecipeError, TensorError

#: ``(name, weight, gradient or None) -> scores`` in the weight's shape.
Importance: TypeAlias = Callable[[str, torch.Tensor, torch.Tensor | None], torch.Tensor]


def magnitude(name: str, weight: torch.Tensor, gradient: torch.Tensor | None = None) -> torch.Tensor:
    """abs(w) (Han et al. 2015, "Learning both weights and connections")."""
    return weight.detach().abs()


#: Importances by the name that a recipe uses.
IMPORTANCES: dict[str, Importance] = {"magnitude": magnitude}


def importance_by_name(name: str) -> Importance:
    """Find an importance by its name or as ``package.module.function``.

    Raises:
        RecipeError: where there is none, naming those that there are.
    """
    if name in IMPORTANCES:
        return IMPORTANCES[name]
    module, _, attribute = name.rpartition(".")
    known = ", ".join(IMPORTANCES)
    if not module:
        raise RecipeError(f"unknown importance {name!r}; known: {known}, or the import path of a callable")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever the user's module raises
        why = " ".join(str(error).split())
        raise RecipeError(f"importance {name!r} cannot be imported: {why}; known by name: {known}") from error
    if not callable(found):
        raise RecipeError(f"importance {name!r} is not callable")
    result: Importance = found
    return result


def check_finite(name: str, weight: torch.Tensor) -> None:
    """Refuse weights that are not finite.

    Raises:
        TensorError: naming the tensor.
    """
    if not torch.isfinite(weight).all():
        raise TensorError(
            f"{name}: the weights are not finite; training has diverged, lower its learning rate"
        )


def score(importance: Importance, name: str, weight: torch.Tensor) -> torch.Tensor:
    """Score a weight and check what came back.

    Returns:
        Scores in the weight's shape, float.

    Raises:
        TensorError: for weights that are not finite, scores of a wrong shape or NaN, naming the tensor.
    """
    check_finite(name, weight)
    scores = importance(name, weight, weight.grad)
    if scores.shape != weight.shape:
        raise TensorError(
            f"{name}: importance gave scores of shape {tuple(scores.shape)}, expected {tuple(weight.shape)}"
        )
    if torch.isnan(scores).any():
        raise TensorError(f"{name}: importance gave NaN scores")
    return scores.detach()
