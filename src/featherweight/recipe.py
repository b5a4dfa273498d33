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

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from featherweight.coding import CODER_CHOICES
from featherweight.errors import RecipeError
from featherweight.pruning import Schedule, importance_by_name
from featherweight.quantization import INITIALIZATIONS
from featherweight.strict import build, plain, read_mapping, write_mapping

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Any

GRANULARITIES = ("element",)
SCOPES = ("layer", "global")
QUANTIZERS = ("kmeans",)


@dataclass(frozen=True)
class Prune:
    """How a rule prunes.

    Attributes:
        importance: what to keep: a name such as ``magnitude``, or the import path of a callable.
        granularity: what is removed at a time: ``element``.
        sparsity: fraction removed, 0 to 1, or a list of stages.
        std: in place of a sparsity, the threshold in standard deviations: prune where
            abs(w) < std · σ(layer).
        scope: ``layer``, each tensor by itself, or ``global``, over all tensors that the rule matches.
        schedule: when.
    """

    importance: str = "magnitude"
    granularity: str = "element"
    sparsity: float | tuple[float, ...] | None = None
    std: float | None = None
    scope: str = "layer"
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        importance_by_name(self.importance)
        _one_of("granularity", self.granularity, GRANULARITIES)
        _one_of("scope", self.scope, SCOPES)
        if (self.sparsity is None) == (self.std is None):
            raise RecipeError("give either sparsity or std")
        if self.std is not None and not self.std >= 0:
            raise RecipeError(f"std must be at least 0, got {self.std}")
        stages = self.sparsity if isinstance(self.sparsity, tuple) else (self.sparsity or 0.0,)
        for stage in stages:
            if not 0 <= stage <= 1:
                raise RecipeError(f"sparsity is a fraction between 0 and 1, got {stage}")
        if list(stages) != sorted(stages) or not stages:
            raise RecipeError(f"a list of sparsities must rise, got {list(stages)}")
        if isinstance(self.sparsity, tuple) != (self.schedule.kind == "stages"):
            raise RecipeError(
                "a list of sparsities goes with a schedule of kind stages, and the other way round"
            )
        epochs = self.schedule.epochs
        if self.schedule.kind == "stages" and isinstance(epochs, tuple) and len(epochs) != len(stages):
            raise RecipeError(f"as many epochs as stages are needed, got {len(epochs)} for {len(stages)}")
        if self.std is not None and self.schedule.kind == "cubic":
            raise RecipeError("a cubic schedule needs sparsity; std has no final fraction")

    def sparsity_at(self, epoch: float | None) -> float:
        """The fraction to have pruned by ``epoch``; in the end, if ``None``."""
        if self.sparsity is None:
            raise RecipeError("a rule with std has a threshold, not a sparsity")
        if epoch is None:
            return self.schedule.final(self.sparsity)
        return self.schedule.sparsity_at(epoch, self.sparsity)


@dataclass(frozen=True)
class Quantize:
    """How a rule quantizes.

    Attributes:
        method: ``kmeans``.
        bits: the codebook holds at most 2^bits values, 1 to 8.
        init: where k-means starts: ``linear``, ``density`` or ``forgy``.
        fix_zeros: pruned weights stay exactly zero, beside 2^bits − 1 centroids.
        seed: for the random initializations.
    """

    method: str = "kmeans"
    bits: int = 5
    init: str = "linear"
    fix_zeros: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        _one_of("method", self.method, QUANTIZERS)
        _one_of("init", self.init, tuple(INITIALIZATIONS))
        if not 1 <= self.bits <= 8:
            raise RecipeError(f"bits must be between 1 and 8, got {self.bits}")


@dataclass(frozen=True)
class Code:
    """How a rule codes.

    Attributes:
        coder: a name in :data:`featherweight.coding.CODER_CHOICES`.
    """

    coder: str = "huffman"

    def __post_init__(self) -> None:
        _one_of("coder", self.coder, CODER_CHOICES)


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
class Recipe:
    """Rules in order, and how to code what they leave open.

    Attributes:
        rules: the first that matches a tensor's name holds; a tensor that none matches is stored raw.
        code: the coder of every rule that names none.
    """

    rules: tuple[Rule, ...] = ()
    code: Code = field(default_factory=Code)

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


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise RecipeError(f"unknown {what} {value!r}; known: {', '.join(known)}")


def _some(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
