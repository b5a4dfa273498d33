"""Rule files that quantize: one tensor a line, with a method, bits and where to begin.

    conv1.weight k-means 4 k-means++
    fc1.weight fixed_point 6 1
    fc2.weight uniform 8

The last word is the initialization of k-means, or how many of the bits of a fixed-point number are integer
bits, the sign included; it may be left out. The name may be a glob. ``#`` starts a comment.
"""

from __future__ import annotations

from featherweight.errors import RecipeError
from featherweight.recipe.quantize import Quantize

#: Methods by the names that these files use.
METHOD_NAMES = {
    "k-means": "kmeans",
    "kmeans": "kmeans",
    "k_means": "kmeans",
    "fixed_point": "fixed_point",
    "fixed-point": "fixed_point",
    "uniform": "uniform",
    "linear": "uniform",
}

#: Initializations by other names.
_INITS = {"kmeans++": "k-means++", "random": "forgy", "default": "linear"}

_FORM = "name method bits [initialization or integer bits]"


def is_quantize_rule(text: str) -> bool:
    """Whether a line of a rule file gives a method rather than a granularity."""
    words = text.split()
    return len(words) > 1 and words[1] in METHOD_NAMES


def quantize_rule(text: str) -> tuple[str, Quantize]:
    """The name of a tensor and how to quantize it, from one line.

    Raises:
        RecipeError: for what cannot be meant as written.
    """
    words = text.split()
    if not 3 <= len(words) <= 4:
        raise RecipeError(f"expected {_FORM}, got {text!r}")
    name, method, bits, *guess = words
    if method not in METHOD_NAMES:
        raise RecipeError(f"unknown method {method!r}; known: {', '.join(METHOD_NAMES)}")
    kind = METHOD_NAMES[method]
    if kind == "fixed_point":
        whole = _whole("integer bits", guess[0]) if guess else None
        return name, Quantize(kind, _whole("bits", bits), integer_bits=whole)
    if kind == "uniform":
        if guess:
            raise RecipeError(f"uniform takes no fourth word, got {guess[0]!r}")
        return name, Quantize(kind, _whole("bits", bits))
    init = _INITS.get(guess[0], guess[0]) if guess else "linear"
    return name, Quantize(kind, _whole("bits", bits), init=init)


def _whole(what: str, word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise RecipeError(f"{what} must be a whole number, got {word!r}") from None
