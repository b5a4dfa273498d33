"""The recipe: what happens to which tensor.

A recipe is a list of rules, matched by tensor name; the first that matches holds. Each says how to
prune, quantize and code. Recipes are frozen and read from and write to YAML or JSON unchanged.

Example:
    >>> recipe = Recipe(rules=(
    ...     Rule("conv*.weight", Prune(sparsity=0.66), Quantize(bits=8)),
    ...     Rule("fc*.weight", Prune(sparsity=0.92), Quantize(bits=5)),
    ... ))
    >>> recipe.rule_for("fc1.weight").quantize.bits
    5
"""

from featherweight.pruning import GRANULARITIES
from featherweight.recipe.budget import SENSITIVITIES, Budget
from featherweight.recipe.patterns import layer_types_of
from featherweight.recipe.prune import SCOPES, Prune
from featherweight.recipe.quantize import AUTO, QUANTIZERS, Quantize
from featherweight.recipe.rules import Code, Recipe, Rule, Units, read_recipe
from featherweight.recipe.store import Store

__all__ = [
    "AUTO",
    "GRANULARITIES",
    "QUANTIZERS",
    "SCOPES",
    "SENSITIVITIES",
    "Budget",
    "Code",
    "Prune",
    "Quantize",
    "Recipe",
    "Rule",
    "Store",
    "Units",
    "layer_types_of",
    "read_recipe",
]
