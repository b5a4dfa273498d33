"""How much a weight matters: scores that decide what is pruned, the higher the longer kept.

One file a method, or a family of methods; :data:`IMPORTANCES` has them by the name that a recipe uses.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, TypeAlias

from featherweight.errors import RecipeError
from featherweight.pruning.importance.calibration import Batch, Calibration, Loss, Progress, evaluating
from featherweight.pruning.importance.empirical import Empirical
from featherweight.pruning.importance.function import FunctionImportance, ScoreFunction
from featherweight.pruning.importance.gates import L1Gate, L2Gate
from featherweight.pruning.importance.magnitude import Magnitude, Std
from featherweight.pruning.importance.nisp import NISP
from featherweight.pruning.importance.norms import L1Norm, L2Norm
from featherweight.pruning.importance.protocol import (
    NetworkImportance,
    WeightImportance,
    check_finite,
    check_scores,
)
from featherweight.pruning.importance.sss import SSS
from featherweight.pruning.importance.taylor import Taylor1, Taylor2, Taylor12
from featherweight.strict import build

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

Importance: TypeAlias = WeightImportance | NetworkImportance

#: Importances by the name that a recipe uses; their fields are its ``options``.
IMPORTANCES: dict[str, type[Importance]] = {
    "magnitude": Magnitude,
    "std": Std,
    "l1norm": L1Norm,
    "l2norm": L2Norm,
    "taylor1": Taylor1,
    "taylor2": Taylor2,
    "taylor12": Taylor12,
    "l1gate": L1Gate,
    "l2gate": L2Gate,
    "empirical": Empirical,
    "nisp": NISP,
    "sss": SSS,
}

__all__ = [
    "IMPORTANCES",
    "Batch",
    "Calibration",
    "FunctionImportance",
    "Importance",
    "Loss",
    "NetworkImportance",
    "Progress",
    "ScoreFunction",
    "WeightImportance",
    "check_finite",
    "check_scores",
    "evaluating",
    "importance_by_name",
    "score",
]


def importance_by_name(name: str, options: Mapping[str, Any] | None = None) -> Importance:
    """Find an importance by its name or as ``package.module.attribute``, and give it its options.

    A path leads to a function ``(name, weight, gradient) -> scores``, which has no options, or to a frozen
    dataclass derived from :class:`WeightImportance` or :class:`NetworkImportance`.

    Raises:
        RecipeError: where there is none, naming those that there are, or it does not have these options.
    """
    found = IMPORTANCES.get(name) or _import(name)
    options = dict(options or {})
    if isinstance(found, type) and issubclass(found, WeightImportance | NetworkImportance):
        if options and not getattr(found, "__dataclass_fields__", None):
            raise RecipeError(f"importance {name} has no options, got {', '.join(map(str, options))}")
        return build(found, options, f"options of {name}") if options else found()
    if options:
        raise RecipeError(f"importance {name!r} is a function, which takes no options; leave them out")
    return FunctionImportance(found)


def _import(name: str) -> Any:
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
    return found


def score(
    importance: WeightImportance, name: str, weight: torch.Tensor, granularity: str = "element"
) -> torch.Tensor:
    """Score a weight by itself and check what came back.

    Returns:
        Scores in the shape of the weight's groups.

    Raises:
        TensorError: for weights that are not finite, scores of a wrong shape or NaN, naming the tensor.
    """
    check_finite(name, weight)
    return check_scores(name, importance.score(name, weight, granularity), weight.shape, granularity)
