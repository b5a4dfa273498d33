"""Rule files: a tensor a line, with how it is pruned or quantized; ``#`` starts a comment.

What a line says stands in :mod:`featherweight.recipe.rule_file_prune` and
:mod:`featherweight.recipe.rule_file_quantize`; one file holds lines of one kind.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from featherweight.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

#: Their number in the file, and what they say.
Lines = list[tuple[int, str]]

_MAPPINGS = (".yaml", ".yml", ".json")


def rule_lines(path: str | Path) -> Lines | None:
    """The lines of a rule file that say something; ``None`` for YAML or JSON, by name or by first line."""
    path = Path(path)
    if path.suffix in _MAPPINGS:
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None  # reading it as a mapping tells what is wrong
    numbered = enumerate(text.lstrip("\ufeff").splitlines(), 1)
    said = ((number, line.partition("#")[0].strip()) for number, line in numbered)
    lines = [(number, line) for number, line in said if line]
    if not lines or re.match(r"""[{\[-]|%|["']?\w+["']?\s*:(\s|$)""", lines[0][1]):
        return None
    return lines


def parse_rules(
    path: str | Path, lines: Sequence[tuple[int, str]], parse: Callable[[str], tuple[str, T]]
) -> list[tuple[str, T]]:
    """Names of tensors and what ``parse`` makes of their lines, in the file's order.

    Raises:
        RecipeError: for a line that cannot be meant as written, naming the file, the line and the remedy.
    """
    found: dict[str, tuple[int, T]] = {}
    for number, text in lines:
        try:
            name, said = parse(text)
        except RecipeError as error:
            raise RecipeError(f"{path}, line {number}: {error}") from None
        if name in found:
            raise RecipeError(
                f"{path}, line {number}: {name} has a rule in line {found[name][0]}; keep one of them"
            )
        found[name] = (number, said)
    return [(name, said) for name, (_, said) in found.items()]
