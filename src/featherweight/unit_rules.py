"""A recipe's ``units`` applied to a network: hidden units that are dead go, the others change places."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from featherweight.pruning import arrange_units, check_units, without_dead_units

if TYPE_CHECKING:
    from featherweight.constraints import Constraints
    from featherweight.recipe import Recipe


def remove_dead_units(recipe: Recipe, constraints: Constraints) -> None:
    """Prune the weights of hidden units that nothing feeds or nothing reads; see ``Recipe.units``."""
    names = [f"{name}.weight" for units in recipe.units for name in (units.layer, units.reader)]
    masks = {name: mask for name in names if (mask := constraints.mask(name)) is not None}
    for name, mask in without_dead_units(masks, recipe.unit_pairs()).items():
        if not torch.equal(mask, masks[name]):
            constraints.set_mask(name, mask)


def arrange(model: torch.nn.Module, recipe: Recipe) -> None:
    """Put a network's hidden units into the order in which they take the fewest bytes.

    What it computes stays the same, but for the order in which sums are taken.

    Args:
        model: changed in place.
        recipe: its ``units`` say which may change places; without any, nothing happens.

    Raises:
        RecipeError: where they do not fit the network.
    """
    check_recipe_units(model, recipe)
    if recipe.units:
        model.load_state_dict(arrange_units(model.state_dict(), recipe.unit_pairs()))


def check_recipe_units(model: torch.nn.Module, recipe: Recipe) -> None:
    """Make sure that a recipe's ``units`` fit a network.

    Raises:
        RecipeError: naming the layers that do not.
    """
    check_units({name: tuple(t.shape) for name, t in model.state_dict().items()}, recipe.unit_pairs())
