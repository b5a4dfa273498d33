"""Rules in order, matched by tensor name: what a recipe is made of."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from featherweight.coding import CODER_CHOICES
from featherweight.errors import RecipeError
from featherweight.recipe.prune import Prune  # noqa: TC001  (`strict.build` reads the annotations)
from featherweight.recipe.quantize import Quantize  # noqa: TC001
from featherweight.strict import build, one_of, plain, read_mapping, write_mapping

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Any


@dataclass(frozen=True)
class Code:
    """How a rule codes.

    Attributes:
        coder: a name in :data:`featherweight.coding.CODER_CHOICES`.
    """

    coder: str = "huffman"

    def __post_init__(self) -> None:
        one_of("coder", self.coder, CODER_CHOICES)


@dataclass(frozen=True)
class Rule:
    """What happens to the tensors whose name matches.

    Attributes:
        match: a glob on the whole tensor name (``conv*.weight``), or ``re:`` and a regular expression.
        prune: how to prune, or ``None``.
        quantize: how to quantize, or ``None``.
        code: how to code; the recipe's own ``code`` unless given.
    """

    match: str
    prune: Prune | None = None
    quantize: Quantize | None = None
    code: Code | None = None

    def __post_init__(self) -> None:
        if self.match.startswith("re:"):
            try:
                re.compile(self.match[3:])
            except (re.error, OverflowError, RecursionError) as error:
                raise RecipeError(f"match {self.match!r} is not a regular expression: {error}") from None

    def matches(self, name: str) -> bool:
        """Whether this rule is meant for the tensor ``name``."""
        if self.match.startswith("re:"):
            return re.fullmatch(self.match[3:], name) is not None
        return fnmatchcase(name, self.match)


@dataclass(frozen=True)
class Units:
    """Hidden units that are free to die and to change places: rows of one layer, inputs of the next.

    Attributes:
        layer: name of the layer whose outputs they are, such as ``fc1``.
        reader: name of the layer that alone reads them. Between the two may stand what treats units alike
            and gives nothing for nothing: activations, pooling, dropout, flattening.
    """

    layer: str
    reader: str


@dataclass(frozen=True)
class Recipe:
    """Rules in order, and how to code what they leave open.

    Attributes:
        rules: the first that matches a tensor's name holds; a tensor that none matches is stored raw.
        code: the coder of every rule that names none.
        units: hidden units of a network in training, from the input on: pruning removes dead ones with
            all their weights, and the file has them in the order that takes the fewest bytes.
    """

    rules: tuple[Rule, ...] = ()
    code: Code = field(default_factory=Code)
    units: tuple[Units, ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe from YAML or JSON.

        Raises:
            RecipeError: for anything that cannot be meant as written, naming the file and the key.
        """
        return cls.from_dict(read_mapping(path), str(path))

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str = "recipe") -> Recipe:
        """Make a recipe from what YAML or JSON gave; ``where`` names it in errors."""
        return build(cls, data, where)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as YAML or JSON hold it."""
        result: dict[str, Any] = plain(self)
        return result

    def save(self, path: str | Path) -> None:
        """Write the recipe as YAML, or as JSON where ``path`` ends in ``.json``."""
        write_mapping(self.to_dict(), path)

    def rule_for(self, name: str) -> Rule | None:
        """The first rule that matches ``name``."""
        return next((rule for rule in self.rules if rule.matches(name)), None)

    def assign(self, names: Iterable[str]) -> dict[Rule, list[str]]:
        """Which tensors each rule holds for.

        Raises:
            RecipeError: where a rule matches none of ``names``.
        """
        names = list(names)
        assigned: dict[Rule, list[str]] = {rule: [] for rule in self.rules}
        for name in names:
            rule = self.rule_for(name)
            if rule is not None:
                assigned[rule].append(name)
        for rule, matched in assigned.items():
            if not matched:
                earlier = any(rule.matches(name) for name in names)
                why = "only tensors that an earlier rule takes" if earlier else "no tensor"
                raise RecipeError(f"the rule for {rule.match!r} matches {why}; there are: {_some(names)}")
        return assigned


def _some(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
