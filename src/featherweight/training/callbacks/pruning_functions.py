"""Pruning functions in the form of ``torch.nn.utils.prune``, by name or class.

Only their choice of mask is used: parameters are never re-parametrised, the model stays as it is.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable  # noqa: TC003  (the alias of Lightning's command line reads it at run time)
from typing import Any, TypeAlias

import torch
from torch.nn.utils import prune as torch_prune

from featherweight.errors import RecipeError

PruningMethod: TypeAlias = type[torch_prune.BasePruningMethod]


class L1Threshold(torch_prune.BasePruningMethod):
    """Prune where abs(w) < amount · std of the weights (Han et al. 2015).

    Args:
        amount: the quality parameter, at least 0.
    """

    PRUNING_TYPE = "unstructured"

    def __init__(self, amount: float) -> None:
        if amount < 0:
            raise RecipeError(f"a threshold must be at least 0, got {amount}")
        self.amount = amount

    def compute_mask(self, t: torch.Tensor, default_mask: torch.Tensor) -> torch.Tensor:
        """1 where kept, in the dtype of ``default_mask``."""
        keep = t.abs() >= self.amount * t.std(correction=0)
        return default_mask * keep.to(default_mask.dtype)


METHODS: dict[str, PruningMethod] = {
    "l1_threshold": L1Threshold,
    "l1_unstructured": torch_prune.L1Unstructured,
    "random_unstructured": torch_prune.RandomUnstructured,
    "ln_structured": torch_prune.LnStructured,
    "random_structured": torch_prune.RandomStructured,
}


def pruning_method(pruning_fn: str | PruningMethod | Callable[..., Any]) -> PruningMethod:
    """Find a pruning function by name, import path, class or function of ``torch.nn.utils.prune``.

    Raises:
        RecipeError: where there is none.
    """
    known = ", ".join(METHODS)
    found: Any = METHODS.get(pruning_fn, pruning_fn) if isinstance(pruning_fn, str) else pruning_fn
    if isinstance(found, str):
        module, _, attribute = found.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError):
            raise RecipeError(
                f"unknown pruning_fn {pruning_fn!r}; known: {known}, or the import path of a class"
            ) from None
    if getattr(found, "__module__", None) == torch_prune.__name__ and not isinstance(found, type):
        # torch.nn.utils.prune.l1_unstructured and the like, which apply the class of that name.
        found = METHODS.get(getattr(found, "__name__", ""), found)
    if not (isinstance(found, type) and issubclass(found, torch_prune.BasePruningMethod)):
        raise RecipeError(f"pruning_fn must be one of {known} or a BasePruningMethod, got {pruning_fn!r}")
    return found


def further_mask(
    method: PruningMethod, amount: float, weight: torch.Tensor, mask: torch.Tensor, options: dict[str, Any]
) -> torch.Tensor:
    """Prune a further ``amount`` of what a mask has left.

    Args:
        method: chooses what goes.
        amount: fraction (float), count (int) or threshold, as the method understands it.
        weight: any shape.
        mask: bool, true where kept so far.
        options: further arguments of the method, such as ``dim`` and ``n``.

    Returns:
        The new mask, bool.
    """
    # PyTorch's container knows for each type of method what "left" means: weights, or whole channels.
    container = torch_prune.PruningContainer()
    container._tensor_name = "weight"
    further = method(**{"amount": amount, **options})
    further._tensor_name = "weight"
    container.add_pruning_method(further)
    result: torch.Tensor = container.compute_mask(  # type: ignore[no-untyped-call]
        weight.detach(), mask.to(weight.dtype)
    )
    return result.bool()


def further_masks_global(
    method: PruningMethod,
    amount: float,
    weights: dict[str, torch.Tensor],
    masks: dict[str, torch.Tensor],
    options: dict[str, Any],
) -> dict[str, torch.Tensor]:
    """The same over several weights as if they were one."""
    flat = torch.cat([w.detach().reshape(-1) for w in weights.values()])
    old = torch.cat([masks[name].reshape(-1) for name in weights])
    new = further_mask(method, amount, flat, old, options)
    parts = torch.split(new, [w.numel() for w in weights.values()])
    return {name: part.reshape(weights[name].shape) for name, part in zip(weights, parts, strict=True)}
