"""How a rule prunes."""

from __future__ import annotations

from dataclasses import dataclass, field

from featherweight.errors import RecipeError
from featherweight.pruning import Schedule, importance_by_name
from featherweight.strict import one_of

GRANULARITIES = ("element",)
SCOPES = ("layer", "global")


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
        rate: how much the bits that a weight costs where it stands count against it: 0 not at all, 1 as
            much as its importance; see :mod:`featherweight.pruning.rate`. For pruning in several steps.
        schedule: when.
    """

    importance: str = "magnitude"
    granularity: str = "element"
    sparsity: float | tuple[float, ...] | None = None
    std: float | None = None
    scope: str = "layer"
    rate: float = 0.0
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        importance_by_name(self.importance)
        one_of("granularity", self.granularity, GRANULARITIES)
        one_of("scope", self.scope, SCOPES)
        if (self.sparsity is None) == (self.std is None):
            raise RecipeError("give either sparsity or std")
        if self.std is not None and not self.std >= 0:
            raise RecipeError(f"std must be at least 0, got {self.std}")
        if not self.rate >= 0:
            raise RecipeError(f"rate must be at least 0, got {self.rate}")
        if self.rate and self.std is not None:
            raise RecipeError("rate needs sparsity; std is a threshold that looks at magnitudes alone")
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
