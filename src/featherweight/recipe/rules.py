"""Rules in order, matched by tensor name: what a recipe is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from featherweight.coding import CODER_CHOICES, DEFAULT_CODER
from featherweight.errors import RecipeError
from featherweight.recipe.budget import Budget  # noqa: TC001  (`strict.build` reads the annotations)
from featherweight.recipe.patterns import TYPE, check_pattern, pattern_matches
from featherweight.recipe.prune import Prune  # noqa: TC001
from featherweight.recipe.quantize import Quantize  # noqa: TC001
from featherweight.recipe.rule_file import parse_rules, rule_lines
from featherweight.recipe.rule_file_prune import prune_rule
from featherweight.recipe.rule_file_quantize import is_quantize_rule, quantize_rule
from featherweight.recipe.store import Store  # noqa: TC001
from featherweight.strict import build, one_of, plain, read_mapping, write_mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Any


@dataclass(frozen=True)
class Code:
    """How a rule codes.

    Attributes:
        coder: a name in :data:`featherweight.coding.CODER_CHOICES`.
    """

    coder: str = DEFAULT_CODER

    def __post_init__(self) -> None:
        one_of("coder", self.coder, CODER_CHOICES)


@dataclass(frozen=True)
class Rule:
    """What happens to the tensors whose name matches.

    Attributes:
        match: a pattern, or a list of them, any of which will do: a glob on the whole tensor name
            (``conv*.weight``), ``re:`` and a regular expression, or ``type:`` and the class of a layer,
            alone (``type:Conv2d``) or with a parameter's name (``type:Conv2d.weight``). Each pattern of a
            list must match something.
        prune: how to prune, or ``None``.
        quantize: how to quantize, or ``None``.
        code: how to code; the recipe's own ``code`` unless given.
        store: how to round float tensors that are not quantized, or ``None`` to keep every bit.
    """

    match: str | tuple[str, ...]
    prune: Prune | None = None
    quantize: Quantize | None = None
    code: Code | None = None
    store: Store | None = None

    def __post_init__(self) -> None:
        if not self.patterns:
            raise RecipeError("match is an empty list; give at least one name or pattern")
        for pattern in self.patterns:
            check_pattern(pattern)

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns, any of which will do."""
        return (self.match,) if isinstance(self.match, str) else self.match

    @property
    def label(self) -> str:
        """What to call this rule where people read it."""
        return ", ".join(self.patterns)

    def matches(self, name: str, layer_types: Sequence[str] = ()) -> bool:
        """Whether this rule is meant for the tensor ``name``, owned by a layer of one of these classes."""
        return any(pattern_matches(pattern, name, layer_types) for pattern in self.patterns)

    def prunes(self, shapes: Mapping[str, Sequence[int]]) -> list[str]:
        """Which of the tensors that this rule holds for it prunes: biases and norms only when asked.

        Tensors of fewer than two dimensions (biases, weights of normalisation layers) are left alone unless
        the rule says ``biases: true``, gives the tensor's name in full, says ``bias`` in a pattern that
        matches a bias, or holds for nothing else.

        Args:
            shapes: of the tensors that this rule holds for, by name.
        """
        if self.prune is None:
            return []
        small = {name for name, shape in shapes.items() if len(shape) < 2}
        if self.prune.biases or len(small) == len(shapes):
            return list(shapes)
        return [name for name in shapes if name not in small or self._names(name)]

    def _names(self, name: str) -> bool:
        if name in self.patterns:
            return True
        is_bias = name.rpartition(".")[2].endswith("bias")
        return is_bias and any("bias" in p and pattern_matches(p, name) for p in self.patterns)


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
        budget: how large tensors with ``bits: auto`` may be, ``None`` where no rule has them.
        bits: by tensor name, what :func:`featherweight.choose_bits` chose; it needs no choosing again.
        units: hidden units of a network in training, from the input on: pruning removes dead ones with
            all their weights, and the file has them in the order that takes the fewest bytes.
    """

    rules: tuple[Rule, ...] = ()
    code: Code = field(default_factory=Code)
    budget: Budget | None = None
    bits: dict[str, int] = field(default_factory=dict)
    units: tuple[Units, ...] = ()

    def __post_init__(self) -> None:
        if self.automatic and self.budget is None and not self.bits:
            raise RecipeError(
                "bits: auto needs a budget beside the rules, such as budget: {mean_bits: 4} or {size: 100KB}"
            )
        if self.budget is not None and not self.automatic:
            raise RecipeError("budget is for rules with bits: auto, and there is none")
        if self.bits and not self.automatic:
            raise RecipeError("bits of single tensors are for rules with bits: auto, and there is none")
        for name, number in self.bits.items():
            if not isinstance(number, int) or isinstance(number, bool):
                raise RecipeError(f"bits.{name}: expected a whole number, got {number!r}")

    @property
    def automatic(self) -> bool:
        """Whether a rule has ``bits: auto``."""
        return any(rule.quantize is not None and rule.quantize.auto for rule in self.rules)

    @property
    def undecided(self) -> bool:
        """Whether bits are still to be chosen."""
        return self.automatic and not self.bits

    def unit_pairs(self) -> list[tuple[str, str]]:
        """``units`` as pairs of names of layers."""
        return [(units.layer, units.reader) for units in self.units]

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe from YAML, JSON or a rule file that prunes or quantizes.

        Raises:
            RecipeError: for anything that cannot be meant as written, naming the file and the key or line.
        """
        lines = rule_lines(path)
        if lines is None:
            return cls.from_dict(read_mapping(path), str(path))
        if is_quantize_rule(lines[0][1]):
            quantized = parse_rules(path, lines, quantize_rule)
            return cls(tuple(Rule(name, quantize=quantize) for name, quantize in quantized))
        return cls(tuple(Rule(name, prune) for name, prune in parse_rules(path, lines, prune_rule)))

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

    def rule_for(self, name: str, layer_types: Sequence[str] = ()) -> Rule | None:
        """The first rule that matches ``name``, a tensor owned by a layer of one of these classes."""
        return next((rule for rule in self.rules if rule.matches(name, layer_types)), None)

    def assign(
        self, names: Iterable[str], layer_types: Mapping[str, Sequence[str]] | None = None
    ) -> dict[Rule, list[str]]:
        """Which tensors each rule holds for.

        Args:
            names: of the tensors.
            layer_types: the classes of the layer that owns each tensor, as :func:`layer_types_of` finds
                them; ``None`` where there is no module to ask.

        Raises:
            RecipeError: where a rule, or a pattern of its list, matches none of ``names``, or asks for the
                type of layers that are not known.
        """
        names = list(names)
        known = self._known_types(layer_types)
        assigned: dict[Rule, list[str]] = {rule: [] for rule in self.rules}
        for name in names:
            rule = self.rule_for(name, known.get(name, ()))
            if rule is not None:
                assigned[rule].append(name)
        for rule, matched in assigned.items():
            for pattern in rule.patterns:
                able = [name for name in names if pattern_matches(pattern, name, known.get(name, ()))]
                if not able or not matched:
                    why = "only tensors that an earlier rule takes" if able else "no tensor"
                    raise RecipeError(
                        f"the rule for {pattern!r} matches {why}; there are: {_there(names, known)}"
                    )
        return assigned

    def _known_types(self, layer_types: Mapping[str, Sequence[str]] | None) -> Mapping[str, Sequence[str]]:
        asked = [p for rule in self.rules for p in rule.patterns if p.startswith(TYPE)]
        if asked and layer_types is None:
            raise RecipeError(
                f"the rule for {asked[0]!r} needs the types of layers, which a state dict does not tell; "
                f"match tensors by name, or pass the module itself"
            )
        return layer_types or {}


def read_recipe(source: Recipe | str | Path | dict[str, Any]) -> Recipe:
    """A recipe from itself, from its file, or from what YAML or JSON gave.

    Raises:
        RecipeError: for anything that cannot be meant as written.
    """
    if isinstance(source, Recipe):
        return source
    return Recipe.from_dict(source) if isinstance(source, dict) else Recipe.load(source)


def _some(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _there(names: list[str], layer_types: Mapping[str, Sequence[str]]) -> str:
    kinds = list(dict.fromkeys(types[0] for types in layer_types.values() if types))
    return _some(names) + (f" in layers of type {_some(kinds)}" if kinds else "")
