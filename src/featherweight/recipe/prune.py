"""How a rule prunes."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from featherweight.errors import RecipeError
from featherweight.pruning import (
    GRANULARITIES,
    NetworkImportance,
    Schedule,
    importance_by_name,
)
from featherweight.pruning.channels import METHODS as CHANNEL_METHODS
from featherweight.pruning.surgery import SurgeryOptions  # noqa: TC001  (read at run time)
from featherweight.strict import one_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featherweight.pruning import Importance

SCOPES = ("layer", "global")

#: The ways to say how much; exactly one of them is given.
AMOUNTS = ("sparsity", "count", "amounts", "std", "threshold", "surgery")

#: The importances whose scores a threshold in standard deviations may be compared with.
_COMPARED_WITH_STD = ("magnitude", "std")


@dataclass(frozen=True)
class Prune:
    """How a rule prunes; one of :data:`AMOUNTS` says how much.

    Attributes:
        importance: what to keep: a name such as ``magnitude``, or the import path of a callable; with
            granularity ``channel`` also ``greedy``, ``lasso`` and ``random``.
        options: of the importance, such as ``{samples: 512}``.
        granularity: what is removed at a time: ``element``, ``kernel``, ``filter`` or ``channel``. Channels
            chosen by ``greedy``, ``lasso``, ``random``, ``l1norm`` or ``l2norm`` leave the network.
        sparsity: fraction of these removed, 0 to 1, or a list of stages.
        count: number of these removed, or a list of stages.
        amounts: one amount for each tensor that the rule matches, as a list in their order or as a mapping
            from name or glob; a whole number is a count, any other a fraction.
        std: the threshold in standard deviations: prune where abs(w) < std · σ(layer).
        threshold: prune what scores at most this.
        surgery: dynamic network surgery: a mask that is revised as the network trains.
        scope: ``layer``, each tensor by itself, or ``global``, over all tensors that the rule matches.
        rate: how much the bits that a weight costs where it stands count against it: 0 not at all, 1 as
            much as its importance; see :mod:`featherweight.pruning.rate`. For pruning in several steps.
        schedule: when.
        biases: whether biases and normalisation weights that the rule matches are pruned as well, which
            else they are only where it names them; see :meth:`featherweight.recipe.Rule.prunes`.
        allow_empty: whether a tensor may be pruned to nothing.
    """

    importance: str = "magnitude"
    granularity: str = "element"
    sparsity: float | tuple[float, ...] | None = None
    std: float | None = None
    scope: str = "layer"
    schedule: Schedule = field(default_factory=Schedule)
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    count: int | tuple[int, ...] | None = None
    amounts: tuple[int | float, ...] | dict[str, int | float] | None = field(default=None, hash=False)
    threshold: float | None = None
    biases: bool = False
    allow_empty: bool = False
    rate: float = 0.0
    surgery: SurgeryOptions | None = None

    def __post_init__(self) -> None:
        if self.removes_channels:
            self._check_removal()
            return
        importance = self.scorer()
        one_of("granularity", self.granularity, GRANULARITIES)
        one_of("scope", self.scope, SCOPES)
        if isinstance(importance, NetworkImportance):
            importance.check_granularity(self.importance, self.granularity)
        if sum(getattr(self, name) is not None for name in AMOUNTS) != 1:
            raise RecipeError(
                "give either sparsity or std, or else count, amounts, threshold or surgery, and only one"
            )
        self._check_surgery()
        self._check_bounded()
        self._check_thresholds()
        self._check_rate()
        self._check_stages()
        self._check_amounts()

    def _check_surgery(self) -> None:
        if self.surgery is None:
            return
        plain = self.importance == "magnitude" and self.granularity == "element" and self.scope == "layer"
        if not plain or self.schedule.kind != "one_shot":
            raise RecipeError(
                "surgery prunes single weights of each layer by magnitude, as it trains: leave out "
                "importance, granularity and scope, and of schedule all but start_epoch"
            )

    def _check_bounded(self) -> None:
        if self.schedule.kind != "accuracy_bounded":
            return
        if not self.has_target or self.scope != "layer":
            raise RecipeError(
                "an accuracy_bounded schedule needs sparsity, count or amounts, how far a layer is pruned at "
                "most, and scope: layer"
            )

    def _check_thresholds(self) -> None:
        if self.std is not None and not self.std >= 0:
            raise RecipeError(f"std must be at least 0, got {self.std}")
        if self.std is not None and self.importance not in _COMPARED_WITH_STD:
            raise RecipeError(
                f"std compares magnitudes, not {self.importance}; leave out importance, "
                f"or give sparsity, count or threshold"
            )
        if self.importance == "std" and self.std is None:
            raise RecipeError(
                "importance std prunes below std standard deviations; give std, such as std: 0.8"
            )
        if self.threshold is not None and self.threshold != self.threshold:
            raise RecipeError("threshold must be a number, got nan")
        for name in ("std", "threshold"):
            if getattr(self, name) is not None and self.schedule.kind == "cubic":
                raise RecipeError(f"a cubic schedule needs sparsity; {name} has no final fraction")

    def _check_rate(self) -> None:
        if not self.rate >= 0:
            raise RecipeError(f"rate must be at least 0, got {self.rate}")
        if self.rate and (self.std is not None or self.threshold is not None):
            raise RecipeError("rate needs an amount, such as sparsity; std and threshold are limits for all")
        if self.rate and self.granularity != "element":
            raise RecipeError(f"rate counts the bits of single weights, not of a {self.granularity}")

    def _check_stages(self) -> None:
        fractions = self.sparsity if isinstance(self.sparsity, tuple) else (self.sparsity or 0.0,)
        for stage in fractions:
            if not 0 <= stage <= 1:
                raise RecipeError(f"sparsity is a fraction between 0 and 1, got {stage}")
        counts = self.count if isinstance(self.count, tuple) else (self.count or 0,)
        if min(counts, default=0) < 0:
            raise RecipeError(f"count must be at least 0, got {min(counts)}")
        what, stages = ("counts", counts) if self.sparsity is None else ("sparsities", fractions)
        if list(stages) != sorted(stages) or not stages:
            raise RecipeError(f"a list of {what} must rise, got {list(stages)}")
        given = self.count if self.sparsity is None else self.sparsity
        if isinstance(given, tuple) != (self.schedule.kind == "stages"):
            raise RecipeError(
                "a list of sparsities goes with a schedule of kind stages, and the other way round; "
                "for one amount a tensor give amounts"
            )
        epochs = self.schedule.epochs
        if self.schedule.kind == "stages" and isinstance(epochs, tuple) and len(epochs) != len(stages):
            raise RecipeError(f"as many epochs as stages are needed, got {len(epochs)} for {len(stages)}")

    def _check_amounts(self) -> None:
        if self.amounts is None:
            return
        if self.scope == "global":
            raise RecipeError("amounts are of single tensors; they need scope: layer")
        if not self.amounts:
            raise RecipeError("amounts is empty; give one for each tensor that the rule matches")
        named = self.amounts.items() if isinstance(self.amounts, dict) else enumerate(self.amounts)
        for name, amount in named:
            number = isinstance(amount, int | float) and not isinstance(amount, bool)
            if not number or not amount >= 0 or (isinstance(amount, float) and amount > 1):
                raise RecipeError(
                    f"amounts[{name}] is a fraction between 0 and 1 or a whole number, got {amount!r}"
                )

    # -- what is asked for -----------------------------------------------------------------------

    def scorer(self) -> Importance:
        """The importance with its options."""
        return importance_by_name(self.importance, self.options)

    @property
    def needs_data(self) -> bool:
        """Whether the importance asks the network what it does with data."""
        return isinstance(self.scorer(), NetworkImportance)

    @property
    def has_target(self) -> bool:
        """Whether it is known beforehand how many groups will be pruned; a threshold tells only then."""
        return self.std is None and self.threshold is None and self.surgery is None

    @property
    def needs_training(self) -> str:
        """What cannot be done at once, but only while the network trains; empty if nothing."""
        if self.surgery is not None:
            return "dynamic network surgery"
        return "an accuracy_bounded schedule" if self.schedule.kind == "accuracy_bounded" else ""

    def amounts_of(self, names: Sequence[str]) -> dict[str, int | float | tuple[int | float, ...]]:
        """The amount for each of the tensors that the rule prunes, in order.

        Raises:
            RecipeError: where there are not as many ``amounts`` as tensors, or one is for none of them.
        """
        if self.amounts is None:
            return dict.fromkeys(names, self._amount())
        if not isinstance(self.amounts, dict):
            if len(self.amounts) != len(names):
                raise RecipeError(f"{len(self.amounts)} amounts for {len(names)} tensors: {', '.join(names)}")
            return dict(zip(names, self.amounts, strict=True))
        return _by_name(self.amounts, names)

    def _amount(self) -> int | float | tuple[int | float, ...]:
        """The one amount for all tensors: fractions are float, counts int."""
        if self.sparsity is None:
            assert self.count is not None  # noqa: S101  (callers ask has_target)
            return self.count
        return tuple(map(float, self.sparsity)) if isinstance(self.sparsity, tuple) else float(self.sparsity)

    @property
    def removes_channels(self) -> bool:
        """Whether channels leave the network, which gets smaller, rather than weights becoming zero."""
        return self.granularity == "channel" and self.importance in CHANNEL_METHODS

    def _check_removal(self) -> None:
        """Channels go at once, a fraction of each layer's."""
        fraction = isinstance(self.sparsity, float | int) and 0 <= self.sparsity < 1
        others = [name for name in AMOUNTS if name != "sparsity" and getattr(self, name) is not None]
        if not fraction or others:
            raise RecipeError(
                f"channels are removed by sparsity, a fraction below 1 of each layer's; "
                f"got {' and '.join(others) or self.sparsity}"
            )
        if self.options:
            raise RecipeError(f"{self.importance} has no options where it removes channels")
        if self.schedule.kind != "one_shot" or self.scope != "layer":
            raise RecipeError("channels are removed at once, layer by layer: leave out schedule and scope")

    def sparsity_at(self, epoch: float | None) -> float:
        """The fraction to have pruned by ``epoch``; in the end, if ``None``."""
        if self.sparsity is None:
            raise RecipeError("a rule with std, count, amounts or threshold has no sparsity")
        return self._fraction_at(epoch, self.sparsity)

    def wanted(self, epoch: float | None, amount: float | tuple[int | float, ...], groups: int) -> int:
        """How many of ``groups`` are to be pruned by ``epoch`` where ``amount`` is asked for.

        Args:
            epoch: epochs since pruning began; ``None`` for the schedule's end.
            amount: a fraction (float), a count (int), or stages of either.
            groups: how many there are: weights, kernels, filters or channels.
        """
        stages = amount if isinstance(amount, tuple) else (amount,)
        if isinstance(stages[0], float):
            return round(self._fraction_at(epoch, amount) * groups)
        if not groups:
            return 0
        if self.schedule.kind in ("iterative", "epochs"):
            return self._counted(epoch, int(stages[0]), groups)
        fractions = tuple(min(count / groups, 1.0) for count in stages)
        return round(
            self._fraction_at(epoch, fractions if isinstance(amount, tuple) else fractions[0]) * groups
        )

    def _fraction_at(self, epoch: float | None, amount: float | tuple[float, ...]) -> float:
        return self.schedule.final(amount) if epoch is None else self.schedule.sparsity_at(epoch, amount)

    def _counted(self, epoch: float | None, count: int, groups: int) -> int:
        """A count with a schedule that prunes again and again: so many more each time."""
        target = self.schedule.target_sparsity
        most = groups if target is None else round(target * groups)
        if epoch is not None:
            return min(count * self.schedule.prunings(epoch), most)
        epochs = self.schedule.epochs
        return min(count * len(epochs), most) if isinstance(epochs, tuple) else most


def _by_name(amounts: dict[str, int | float], names: Sequence[str]) -> dict[str, Any]:
    """Each tensor's amount from a mapping of names and globs, the first that matches."""
    found = {}
    for name in names:
        pattern = name if name in amounts else next((p for p in amounts if fnmatchcase(name, p)), None)
        if pattern is None:
            raise RecipeError(f"amounts has none for {name}; it has: {', '.join(amounts)}")
        found[name] = amounts[pattern]
    for pattern in amounts:
        if not any(name == pattern or fnmatchcase(name, pattern) for name in names):
            raise RecipeError(
                f"amounts[{pattern}]: the rule prunes no such tensor; it has: {', '.join(names)}"
            )
    return found
