"""What a rule matches tensors by: globs, regular expressions, types of layers."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from featherweight.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.nn import Module

#: What a pattern starts with that is no glob.
REGEX, TYPE = "re:", "type:"


def check_pattern(pattern: str) -> None:
    """Refuse a pattern that cannot be meant as written.

    Raises:
        RecipeError: saying why.
    """
    if pattern.startswith(REGEX):
        try:
            re.compile(pattern[len(REGEX) :])
        except (re.error, OverflowError, RecursionError) as error:
            raise RecipeError(f"match {pattern!r} is not a regular expression: {error}") from None
    if pattern.startswith(TYPE) and not re.fullmatch(r"\w+(\.\w+)?", pattern[len(TYPE) :]):
        raise RecipeError(f"match {pattern!r} is no type of layer; write type:Conv2d, or type:Conv2d.weight")


def pattern_matches(pattern: str, name: str, layer_types: Sequence[str] = ()) -> bool:
    """Whether a pattern means the tensor ``name``, owned by a layer of one of these classes."""
    if pattern.startswith(REGEX):
        return re.fullmatch(pattern[len(REGEX) :], name) is not None
    if pattern.startswith(TYPE):
        kind, _, parameter = pattern[len(TYPE) :].partition(".")
        return kind in layer_types and parameter in ("", name.rpartition(".")[2])
    return fnmatchcase(name, pattern)


def layer_types_of(module: Module) -> dict[str, tuple[str, ...]]:
    """The classes of the layer that owns each tensor of a module, by the tensor's name.

    Returns:
        Names of classes, the layer's own first, then those that it is derived from, up to
        ``torch.nn.Module``.
    """
    found = {}
    for path, layer in module.named_modules(remove_duplicate=False):
        kinds = tuple(kind.__name__ for kind in type(layer).__mro__[:-1] if kind.__name__ != "Module")
        for tensor in [*layer._parameters, *layer._buffers]:
            found[f"{path}.{tensor}".removeprefix(".")] = kinds
    return found
