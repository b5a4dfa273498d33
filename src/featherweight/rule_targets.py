"""Which tensors of a model each rule of a recipe is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featherweight.accuracy_bounded import is_bounded
from featherweight.lazy import spec_of
from featherweight.recipe.patterns import layer_types_of
from featherweight.tensors import FLOAT_DTYPES

if TYPE_CHECKING:
    import torch

    from featherweight.lazy import TensorSpec
    from featherweight.recipe import Recipe, Rule


def rules_for(model: torch.nn.Module, recipe: Recipe) -> list[tuple[Rule, dict[str, torch.nn.Parameter]]]:
    """Each rule of a recipe with the floating-point parameters that it is for, by name.

    A tied parameter goes by the first of its names, and to the first rule that matches any of them.

    Raises:
        RecipeError: where a rule matches no tensor of the model.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    owners = {parameter: name for name, parameter in model.named_parameters()}
    left = set(owners)
    result = []
    for rule, matched in recipe.assign(model.state_dict(), layer_types_of(model)).items():
        weights = {}
        for name in matched:
            parameter = parameters.get(name)
            if parameter in left and can_compress(spec_of(parameter)):
                left.remove(parameter)
                weights[owners[parameter]] = parameter
        result.append((rule, weights))
    return result


def rules_to_prune(
    model: torch.nn.Module, recipe: Recipe
) -> list[tuple[Rule, dict[str, torch.nn.Parameter]]]:
    """The rules of a recipe that mask weights, each with the parameters that it prunes, by name.

    Rules that remove channels are checked, and left out.

    Raises:
        RecipeError: where a rule matches no tensor of the model.
    """
    result = []
    for rule, weights in rules_for(model, recipe):
        if rule.prune is not None and not rule.prune.removes_channels:
            names = rule.prunes({name: tuple(weight.shape) for name, weight in weights.items()})
            result.append((rule, {name: weights[name] for name in names}))
    is_bounded([rule for rule, _ in result])  # refuses a mixture
    return result


def can_compress(spec: TensorSpec) -> bool:
    """Whether a tensor can be pruned and quantized; integers, 8-bit floats and the like are left alone."""
    return spec.dtype in FLOAT_DTYPES and spec.dense
