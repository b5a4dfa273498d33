"""How a rule prunes."""

from __future__ import annotations

from dataclasses import dataclass, field

from featherweight.errors import RecipeError
from featherweight.pruning import Schedule, importance_by_name
from featherweight.pruning.channels import METHODS as CHANNEL_METHODS
from featherweight.strict import one_of

GRANULARITIES = ("element", "channel")
SCOPES = ("layer", "global")


@dataclass(frozen=True)
class Prune:
    """How a rule prunes.

    Attributes:
        importance: what to keep: a name such as ``magnitude``, or the import path of a callable; for
            channels ``greedy``, ``lasso``, ``random``, ``l1norm`` or ``l2norm``.
        granularity: what is removed at a time: ``element``, or ``channel``, which leaves the network.
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
        if self.removes_channels:
            self._check_removal()
            return
        importance_by_name(self.importance)
        one_of("granularity", self.granularity, GRANULARITIES)
        if self.granularity == "channel":
            raise RecipeError(
                f"channels are chosen by {', '.join(CHANNEL_METHODS)}; got importance {self.importance!r}"
            )
        one_of("scope", self.scope, SCOPES)
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

    @property
    def removes_channels(self) -> bool:
        """Whether channels leave the network, which gets smaller, rather than weights becoming zero."""
        return self.granularity == "channel" and self.importance in CHANNEL_METHODS

    def _check_removal(self) -> None:
        """Channels go at once, a fraction of each layer's."""
        fraction = isinstance(self.sparsity, float | int) and 0 <= self.sparsity < 1
        if not fraction or self.std is not None:
            raise RecipeError(
                f"channels are removed by sparsity, a fraction below 1 of each layer's; got {self.sparsity}"
            )
        if self.schedule.kind != "one_shot" or self.scope != "layer":
            raise RecipeError("channels are removed at once, layer by layer: leave out schedule and scope")

    def sparsity_at(self, epoch: float | None) -> float:
        """The fraction to have pruned by ``epoch``; in the end, if ``None``."""
        if self.sparsity is None:
            raise RecipeError("a rule with std has a threshold, not a sparsity")
        if epoch is None:
            return self.schedule.final(self.sparsity)
        return self.schedule.sparsity_at(epoch, self.sparsity)
