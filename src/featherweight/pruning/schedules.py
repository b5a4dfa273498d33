"""How sparsity grows while a network trains: pure functions of the epoch.

Epochs are counted from 0 and may be fractional: 2.5 is halfway through the third.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from featherweight.errors import RecipeError
from featherweight.strict import one_of

KINDS = ("one_shot", "iterative", "epochs", "stages", "cubic", "accuracy_bounded")

#: In which order ``accuracy_bounded`` visits the layers.
ORDERS = ("model", "size")

#: Options of ``accuracy_bounded`` and of no other kind, with what they are unless given.
_BOUNDED = {"limit_points": None, "step": 0.2, "retrain_epochs": 1, "most_rounds": None, "order": "model"}


@dataclass(frozen=True)
class Schedule:
    """When a rule prunes, and how far.

    Attributes:
        kind: one of

            - ``one_shot``: all at ``start_epoch``;
            - ``iterative``: every ``prune_every`` epochs from ``start_epoch`` on, a further fraction of
              what is left, until ``target_sparsity`` (Han et al. 2015);
            - ``epochs``: the same at each of the listed ``epochs``;
            - ``stages``: the sparsities that the rule lists, one after another, every ``prune_every``
              epochs or at the listed ``epochs``;
            - ``cubic``: s_t = s_f + (s_i − s_f) (1 − t/T)³ with T = ``epochs`` and s_i =
              ``initial_sparsity`` (Zhu & Gupta 2017), every ``every_steps`` optimizer steps;
            - ``accuracy_bounded``: layer by layer a ``step`` further, retrained for ``retrain_epochs`` and
              taken back where it costs more than ``limit_points``, until no layer gives any more or all
              are pruned as far as the rule says.
        epochs: T for ``cubic`` (a number), the list for ``epochs`` and ``stages``.
        start_epoch: first epoch in which it prunes.
        prune_every: epochs between two prunings.
        target_sparsity: fraction at which ``iterative`` and ``epochs`` stop.
        every_steps: optimizer steps between two updates of ``cubic``.
        initial_sparsity: of ``cubic``, what it prunes at once at ``start_epoch``.
        limit_points: percentage points of validation accuracy that ``accuracy_bounded`` may lose in all.
        step: fraction of what is left of a layer that it takes at a time.
        retrain_epochs: epochs of training after each such step.
        most_rounds: how often it visits a layer, at most; without end unless given.
        order: ``model`` visits layers as the model has them, ``size`` the largest first.
    """

    kind: str = "one_shot"
    epochs: float | tuple[float, ...] | None = None
    start_epoch: float = 0
    prune_every: float = 1
    target_sparsity: float | None = None
    every_steps: int = 50
    initial_sparsity: float = 0.0
    limit_points: float | None = None
    step: float = 0.2
    retrain_epochs: int = 1
    most_rounds: int | None = None
    order: str = "model"

    def __post_init__(self) -> None:
        one_of("schedule", self.kind, KINDS)
        self._check_epochs()
        self._check_bounded()

    def _check_epochs(self) -> None:
        listed = isinstance(self.epochs, tuple)
        if self.kind == "cubic" and (
            self.epochs is None or isinstance(self.epochs, tuple) or not self.epochs > 0
        ):
            raise RecipeError(f"a cubic schedule needs epochs, a number above 0, got {self.epochs!r}")
        if self.kind == "epochs" and not listed:
            raise RecipeError(f"a schedule of kind epochs needs epochs, a list, got {self.epochs!r}")
        if self.kind == "stages" and self.epochs is not None and not listed:
            raise RecipeError(f"epochs of a schedule in stages is a list, got {self.epochs!r}")
        if self.epochs == ():
            raise RecipeError("the list of epochs is empty; give at least one")
        if isinstance(self.epochs, tuple) and list(self.epochs) != sorted(self.epochs):
            raise RecipeError(f"epochs must rise, got {list(self.epochs)}")
        if self.kind == "iterative" and self.target_sparsity is None:
            raise RecipeError("an iterative schedule needs target_sparsity, the fraction at which it stops")
        if self.target_sparsity is not None and not 0 <= self.target_sparsity <= 1:
            raise RecipeError(f"target_sparsity must be between 0 and 1, got {self.target_sparsity}")
        if not 0 <= self.initial_sparsity < 1:
            raise RecipeError(
                f"initial_sparsity is a fraction from 0 to below 1, got {self.initial_sparsity}"
            )
        if self.initial_sparsity and self.kind != "cubic":
            raise RecipeError(f"initial_sparsity goes with a cubic schedule, not with {self.kind}")
        if not (self.prune_every > 0 and self.every_steps > 0 and self.start_epoch >= 0):
            raise RecipeError("prune_every and every_steps must be above 0 and start_epoch at least 0")

    def _check_bounded(self) -> None:
        if self.kind != "accuracy_bounded":
            given = [name for name, default in _BOUNDED.items() if getattr(self, name) != default]
            if given:
                raise RecipeError(
                    f"{given[0]} belongs to a schedule of kind accuracy_bounded, not {self.kind}"
                )
            return
        if self.epochs is not None or self.start_epoch or self.target_sparsity is not None:
            raise RecipeError(
                "an accuracy_bounded schedule takes no epochs, start_epoch or target_sparsity: it goes on "
                "until no layer gives any more; the rule's sparsity says how far at most"
            )
        if self.limit_points is None or not self.limit_points >= 0:
            raise RecipeError(
                f"an accuracy_bounded schedule needs limit_points, the points of accuracy that may be "
                f"lost, at least 0; got {self.limit_points}"
            )
        if not 0 < self.step <= 1:
            raise RecipeError(f"step is a fraction of what is left, above 0 and at most 1, got {self.step}")
        for name, value in (("retrain_epochs", self.retrain_epochs), ("most_rounds", self.most_rounds)):
            if value is not None and value < 1:
                raise RecipeError(f"{name} must be at least 1, got {value}")
        one_of("order", self.order, ORDERS)

    def prunings(self, epoch: float) -> int:
        """How many times it has pruned by ``epoch`` (all kinds but ``cubic``)."""
        if isinstance(self.epochs, tuple):
            return bisect_right(self.epochs, epoch)
        if epoch < self.start_epoch:
            return 0
        if self.kind in ("one_shot", "accuracy_bounded"):
            return 1
        return math.floor((epoch - self.start_epoch) / self.prune_every) + 1

    def sparsity_at(self, epoch: float, sparsity: float | tuple[float, ...]) -> float:
        """The fraction to have pruned by ``epoch``.

        Args:
            epoch: epochs trained since pruning began.
            sparsity: the rule's: the final one, the fraction of what is left that each pruning removes
                (``iterative``, ``epochs``), or the list of ``stages``.
        """
        if isinstance(sparsity, tuple):
            done = self.prunings(epoch)
            return sparsity[min(done, len(sparsity)) - 1] if done else 0.0
        if self.kind == "cubic":
            assert isinstance(self.epochs, int | float)  # noqa: S101  (checked in __post_init__)
            t = min(max((epoch - self.start_epoch) / self.epochs, 0.0), 1.0)
            begun = min(self.initial_sparsity, sparsity) if epoch >= self.start_epoch else 0.0
            return sparsity * (1.0 - (1.0 - t) ** 3) + begun * (1.0 - t) ** 3
        if self.kind in ("iterative", "epochs"):
            reached = 1.0 - (1.0 - sparsity) ** self.prunings(epoch)
            return reached if self.target_sparsity is None else min(reached, self.target_sparsity)
        return sparsity if self.prunings(epoch) else 0.0

    def final(self, sparsity: float | tuple[float, ...]) -> float:
        """The fraction pruned in the end."""
        if isinstance(sparsity, tuple):
            return sparsity[-1]
        if self.kind == "iterative" and self.target_sparsity is not None:
            return self.target_sparsity
        last = self.epochs[-1] if isinstance(self.epochs, tuple) else self.start_epoch + (self.epochs or 0)
        return self.sparsity_at(last, sparsity)
