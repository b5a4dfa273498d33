"""What a sensitivity analysis measures: a sweep over layers, sparsities and bits, as single points.

Source: S. Han, J. Pool, J. Tran, W. J. Dally, "Learning both Weights and Connections for Efficient Neural
Networks" (2015), section 3.3: accuracy against sparsity, layer by layer, with and without retraining.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from itertools import product
from typing import TYPE_CHECKING, Any

from featherweight.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: In the place of a layer's name: all layers at once.
NETWORK = "(network)"

DEFAULT_SPARSITIES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
DEFAULT_BITS = (2, 3, 4, 5, 6)
SCOPES = ("layer", "global")


@dataclass(frozen=True)
class Sweep:
    """What to measure; the points are all combinations.

    Attributes:
        layers: names of weights, or globs on them; every weight of two or more dimensions unless given.
        network: also all these layers at once.
        each: each layer by itself; without, only all of them at once.
        sparsities: fractions pruned, 0 to below 1.
        bits: codebooks of 2^bits values.
        importances: names or import paths; as the recipe has it for the layer unless given.
        granularity: likewise.
        scope: how the layers share the sparsity of the whole network: all alike (``layer``), or by
            importance (``global``).
        quantizers: ``METHOD`` or ``METHOD:INIT``, such as ``kmeans:density``; as the recipe has it unless
            given.
        epochs: epochs of retraining after which to measure; 0 is without.
        steps: prunings on the way to a sparsity. With more than one, equal portions are pruned and the
            epochs of retraining, the highest of ``epochs``, are divided among them.
        seeds: of the order of the data, and of methods that draw at random.
        lr: of retraining, constant; a tenth of that of the run's phase unless given.
        limit_batches: batches in an epoch of retraining, at most.
        calibration_batches: training batches for importances that need gradients.
    """

    layers: tuple[str, ...] = ()
    network: bool = True
    each: bool = True
    sparsities: tuple[float, ...] = ()
    bits: tuple[int, ...] = ()
    importances: tuple[str, ...] = ()
    granularity: str | None = None
    scope: str = "global"
    quantizers: tuple[str, ...] = ()
    epochs: tuple[int, ...] = (0,)
    steps: tuple[int, ...] = (1,)
    seeds: tuple[int, ...] = (0,)
    lr: float | None = None
    limit_batches: int | None = None
    calibration_batches: int = 8

    def __post_init__(self) -> None:
        if not self.sparsities and not self.bits:
            object.__setattr__(self, "sparsities", DEFAULT_SPARSITIES)
            object.__setattr__(self, "bits", DEFAULT_BITS)
        for name in ("sparsities", "bits", "importances", "quantizers", "epochs", "steps", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise RecipeError(f"{name} has a value twice: {list(values)}")
        for sparsity in self.sparsities:
            if not 0 <= sparsity < 1:
                raise RecipeError(f"sparsities are fractions from 0 to below 1, got {sparsity}")
        if not self.each and not self.network:
            raise RecipeError("each: false and network: false leave nothing to measure; leave one out")
        if not self.epochs or min(self.epochs) < 0:
            raise RecipeError(f"epochs must be numbers of at least 0, got {list(self.epochs)}")
        if not self.seeds or min(self.seeds) < 0:
            raise RecipeError(f"seeds must be numbers of at least 0, got {list(self.seeds)}")
        if self.scope not in SCOPES:
            raise RecipeError(f"unknown scope {self.scope!r}; known: {', '.join(SCOPES)}")
        if self.lr is not None and not self.lr > 0:
            raise RecipeError(f"lr must be above 0, got {self.lr}")
        if (self.limit_batches is not None and self.limit_batches < 1) or self.calibration_batches < 1:
            raise RecipeError("limit_batches and calibration_batches must be at least 1")
        for steps in self.steps:
            if steps < 1 or (steps > 1 and (max(self.epochs) < 1 or max(self.epochs) % steps)):
                raise RecipeError(
                    f"{steps} steps cannot share {max(self.epochs)} epochs of retraining equally; "
                    f"choose steps that divide the highest of epochs"
                )

    def choose(self, names: Sequence[str]) -> list[str]:
        """Those of a network's weights that are swept, in the network's order.

        Raises:
            RecipeError: where one of ``layers`` fits none.
        """
        if not self.layers:
            return list(names)
        for wanted in self.layers:
            if not any(_fits(wanted, name) for name in names):
                raise RecipeError(
                    f"layers: {wanted!r} is no weight of the network; there are: {_some(names)}"
                )
        return [name for name in names if any(_fits(wanted, name) for wanted in self.layers)]

    def points(self, names: Sequence[str]) -> list[Point]:
        """All points, those of pruning first, layer by layer.

        Args:
            names: the layers as :meth:`choose` chose them.
        """
        targets = list(names)
        if self.network and len(names) > 1:
            targets = [*(names if self.each else []), NETWORK]
        return [*self._pruned(targets), *self._quantized(targets)]

    def _pruned(self, targets: list[str]) -> Iterator[Point]:
        for layer, importance, steps, sparsity, seed in product(
            targets, self.importances or (None,), self.steps, self.sparsities, self.seeds
        ):
            epochs = tuple(sorted(self.epochs)) if steps == 1 else (max(self.epochs),)
            yield Point(layer, seed, epochs, sparsity, importance, self.granularity, steps)

    def _quantized(self, targets: list[str]) -> Iterator[Point]:
        for layer, quantizer, bits, seed in product(
            targets, self.quantizers or (None,), self.bits, self.seeds
        ):
            yield Point(layer, seed, tuple(sorted(self.epochs)), bits=bits, quantizer=quantizer)


@dataclass(frozen=True)
class Point:
    """One thing to try: prune or quantize a layer, measure, retrain, measure.

    Attributes:
        layer: the name of a weight, or :data:`NETWORK`.
        seed: of the order of the data and of random methods.
        epochs: epochs of retraining after which to measure, rising.
        sparsity: fraction pruned; ``None`` where it quantizes.
        importance: ``None`` is as the recipe has it.
        granularity: likewise.
        steps: prunings on the way.
        bits: ``None`` where it prunes.
        quantizer: ``METHOD`` or ``METHOD:INIT``; ``None`` is as the recipe has it.
    """

    layer: str
    seed: int
    epochs: tuple[int, ...]
    sparsity: float | None = None
    importance: str | None = None
    granularity: str | None = None
    steps: int = 1
    bits: int | None = None
    quantizer: str | None = None

    @property
    def key(self) -> str:
        """Tells points apart; the same in every process."""
        return json.dumps(asdict(self), sort_keys=True)

    def __str__(self) -> str:
        done = f"pruned by {self.sparsity:g}" if self.sparsity is not None else f"in {self.bits} bits"
        how = self.importance or self.quantizer
        return f"{self.layer} {done}{f' ({how})' if how else ''}, seed {self.seed}"


@dataclass(frozen=True)
class Row:
    """What was measured after some epochs of retraining: a line of the CSV.

    Attributes:
        layer: the name of a weight, or :data:`NETWORK`.
        sparsity: fraction asked for, or ``None``.
        bits: or ``None``.
        importance: what was used; of the whole network, joined by ``+`` where layers differ.
        granularity: likewise.
        steps: prunings on the way.
        quantizer: what was used.
        epochs: of retraining.
        seed: of the point.
        accuracy_percent: top-1.
        loss: mean cross-entropy in nats; ``None`` where it is not finite.
        zeros: fraction of the layer's weights that are zero.
    """

    layer: str
    sparsity: float | None
    bits: int | None
    importance: str | None
    granularity: str | None
    steps: int
    quantizer: str | None
    epochs: int
    seed: int
    accuracy_percent: float
    loss: float | None
    zeros: float

    def __post_init__(self) -> None:
        if not 0 <= self.accuracy_percent <= 100:
            raise RecipeError(f"accuracy_percent must be from 0 to 100, got {self.accuracy_percent}")

    def to_dict(self) -> dict[str, Any]:
        """As CSV and JSON hold it."""
        return asdict(self)

    @classmethod
    def columns(cls) -> list[str]:
        """The header of the CSV."""
        return [field.name for field in fields(cls)]


def layer_label(layer: str) -> str:
    """A layer as figures and tables call it: ``fc1``, not ``fc1.weight``; the network by that word."""
    return "whole network" if layer == NETWORK else layer.removesuffix(".weight") or layer


def _fits(wanted: str, name: str) -> bool:
    return fnmatchcase(name, wanted) or fnmatchcase(layer_label(name), wanted)


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
