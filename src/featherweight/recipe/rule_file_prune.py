"""Rule files that prune: a tensor a line, with what is pruned at a time and a list of sparsities.

    conv1.weight element 0.3, 0.5
    conv2.weight kernel 0.4,0.6 l2norm
    fc1.weight filter 0.5

The name may be a glob. Single weights go by magnitude, kernels and filters by their L1 norm, unless the line
ends with ``abs``, ``l1norm``, ``l2norm`` or ``default``. One sparsity is pruned at once, several one after
another, an epoch each. ``#`` starts a comment.
"""

from __future__ import annotations

import re

from featherweight.errors import RecipeError
from featherweight.pruning import GRANULARITIES, Schedule
from featherweight.recipe.patterns import check_pattern
from featherweight.recipe.prune import Prune

#: Importances by the names that these files use.
_IMPORTANCES = {"abs": "magnitude", "l1norm": "l1norm", "l2norm": "l2norm"}
_FORM = "name granularity sparsity[, sparsity …] [importance]"


def prune_rule(text: str) -> tuple[str, Prune]:
    """The name of a tensor and how to prune it, from one line.

    Raises:
        RecipeError: for what cannot be meant as written.
    """
    parts = text.split(maxsplit=2)
    if len(parts) < 3:
        raise RecipeError(f"expected {_FORM}, got {text!r}")
    name, granularity, rest = parts
    if granularity not in GRANULARITIES:
        raise RecipeError(f"unknown granularity {granularity!r}; known: {', '.join(GRANULARITIES)}")
    check_pattern(name)
    words = [word for word in re.split(r"[,\s]+", rest) if word]
    importance = "magnitude" if granularity == "element" else "l1norm"
    if words and not _is_number(words[-1]):
        last = words.pop()
        if last not in (*_IMPORTANCES, "default"):
            raise RecipeError(
                f"expected a sparsity or an importance ({', '.join(_IMPORTANCES)}, default), got {last!r}"
            )
        importance = _IMPORTANCES.get(last, importance)
    stages = tuple(map(_fraction, words))
    if not stages:
        raise RecipeError(f"expected {_FORM}, got {text!r}")
    if len(stages) == 1:
        return name, Prune(importance, granularity, stages[0])
    return name, Prune(importance, granularity, stages, schedule=Schedule("stages"))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _fraction(word: str) -> float:
    if not _is_number(word) or not 0 <= float(word) <= 1:
        raise RecipeError(f"expected a sparsity between 0 and 1, got {word!r}")
    return float(word)
