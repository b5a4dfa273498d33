"""Rule files that quantize: one tensor a line, with a method, bits and where to begin.

    conv1.weight k-means 4 k-means++
    fc1.weight fixed_point 6 1
    fc2.weight uniform 8

The last word is the initialization of k-means, or how many of the bits of a fixed-point number are integer
bits, the sign included; it may be left out. The name may be a glob. ``#`` starts a comment.
"""

from __future__ import annotations

from pathlib import Path

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
_MAPPINGS = (".yaml", ".yml", ".json")


def is_quantize_rule_file(path: str | Path) -> bool:
    """Whether a file is one of these: neither YAML nor JSON, and its first line gives a method."""
    path = Path(path)
    if path.suffix in _MAPPINGS:
        return False
    try:
        lines = _lines(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # reading it as something else tells what is wrong
    words = lines[0][1].split() if lines else []
    return len(words) > 1 and words[1] in METHOD_NAMES


def read_quantize_rules(path: str | Path) -> list[tuple[str, Quantize]]:
    """Names of tensors and how to quantize them, in the file's order.

    Raises:
        RecipeError: for a line that cannot be meant as written, naming the file and the line.
    """
    path = Path(path)
    found: list[tuple[str, Quantize]] = []
    seen: dict[str, int] = {}
    for number, text in _lines(path.read_text(encoding="utf-8")):
        try:
            name, quantize = _rule(text)
        except RecipeError as error:
            raise RecipeError(f"{path}, line {number}: {error}") from None
        if name in seen:
            raise RecipeError(
                f"{path}, line {number}: {name} has a rule in line {seen[name]}; keep one of them"
            )
        seen[name] = number
        found.append((name, quantize))
    return found


def _lines(text: str) -> list[tuple[int, str]]:
    """Lines that say something, with their numbers."""
    stripped = [
        (i, line.partition("#")[0].strip()) for i, line in enumerate(text.lstrip("\ufeff").splitlines(), 1)
    ]
    return [(number, line) for number, line in stripped if line]


def _rule(text: str) -> tuple[str, Quantize]:
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
