"""Pruning as far as the accuracy allows: a layer a little further, retrain, keep it or take it back.

Source: circular pruning of layers in turn under a bound, an iterative form of S. Han et al., "Learning
both weights and connections for efficient neural networks" (2015).
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from featherweight.errors import CheckpointError, RecipeError
from featherweight.pruning import any_in_group, prune_groups
from featherweight.selection import score_groups, targets_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch.optim import Optimizer

    from featherweight.constraints import Constraints
    from featherweight.pruning import Calibration
    from featherweight.recipe import Prune, Rule

#: Points of accuracy that are no more than rounding.
_ROUNDING = 1e-9


def is_bounded(rules: Sequence[Rule]) -> bool:
    """Whether rules prune as far as the accuracy allows.

    Raises:
        RecipeError: where only some of those that prune do: one would take back what the other did.
    """
    kinds = {rule.label: rule.prune.schedule.kind for rule in rules if rule.prune is not None}
    bounded = [label for label, kind in kinds.items() if kind == "accuracy_bounded"]
    if bounded and len(bounded) < len(kinds):
        other = next(label for label in kinds if label not in bounded)
        raise RecipeError(
            f"the rule for {bounded[0]!r} has an accuracy_bounded schedule and that for {other!r} has not; "
            f"give it to all rules that prune, or to none"
        )
    return bool(bounded)


@dataclass
class Layer:
    """How far a layer has come.

    Attributes:
        name: of its weight.
        groups: what the rule prunes at a time, how many there are.
        most: how many of them may be pruned.
        pruned: how many are.
        kept: steps that were kept.
        taken_back: steps that cost too much: 0 or 1, as the layer then gives no more.
        closed: why it gives no more; empty as long as it may.
    """

    name: str
    groups: int
    most: int
    pruned: int = 0
    kept: int = 0
    taken_back: int = 0
    closed: str = ""


@dataclass(frozen=True)
class Step:
    """One step that was tried.

    Attributes:
        layer: name of the weight.
        round: visits to the layer before this one.
        pruned_before: of its groups.
        pruned: in this step.
        groups: of the layer.
        accuracy_percent: after retraining.
        lost_points: since before any pruning; negative where accuracy rose.
        limit_points: what may be lost.
        kept: whether the step was kept.
    """

    layer: str
    round: int
    pruned_before: int
    pruned: int
    groups: int
    accuracy_percent: float
    lost_points: float
    limit_points: float
    kept: bool

    def __str__(self) -> str:
        share = f"{100 * self.pruned_before / self.groups:.1f} → {100 * self.pruned / self.groups:.1f} %"
        loss = f"{self.lost_points:+.2f} of {self.limit_points:g} points lost"
        return f"{self.layer} {share}: {loss}, {'kept' if self.kept else 'taken back'}"


class BoundedPruning:
    """The layers of a network, pruned in turn while the accuracy holds.

    Call :meth:`begin` with the accuracy before pruning; then, as long as :meth:`propose` prunes a layer
    further, train for ``retrain_epochs`` and call :meth:`judge` with the accuracy that is left.

    Args:
        model: the network; weights, buffers and what optimizers know are taken back with the masks.
        rules: with an ``accuracy_bounded`` schedule, and the weights that each prunes.
        constraints: of the model, attached to the optimizers.
        optimizers: that train it.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        rules: Sequence[tuple[Rule, Mapping[str, torch.nn.Parameter]]],
        constraints: Constraints,
        optimizers: Sequence[Optimizer],
    ) -> None:
        self._model, self._constraints, self._optimizers = model, constraints, list(optimizers)
        self._weights = {name: weight for _, weights in rules for name, weight in weights.items()}
        self._specs: dict[str, Prune] = {}
        layers = []
        for rule, weights in rules:
            assert rule.prune is not None  # noqa: S101  (rules that prune)
            spec = rule.prune
            shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
            for (name,), most in targets_of(spec, shapes, None):
                groups = any_in_group(torch.ones_like(weights[name], dtype=torch.bool), spec.granularity)
                least_left = 0 if spec.allow_empty else 1
                layers.append(Layer(name, groups.numel(), max(0, min(most, groups.numel() - least_left))))
                self._specs[name] = spec
        position = {name: i for i, (name, _) in enumerate(model.named_parameters())}
        by_size = any(spec.schedule.order == "size" for spec in self._specs.values())
        layers.sort(key=lambda one: (-one.groups if by_size else 0, position[one.name]))
        self.layers = layers
        self.steps: list[Step] = []
        self.reference = 0.0
        self._next = 0
        self._trial: dict[str, Any] | None = None
        self._good: dict[str, Any] = {}

    # -- a step ----------------------------------------------------------------------------------

    def begin(self, accuracy_percent: float) -> None:
        """Take note of the network as it is before anything is pruned."""
        self.reference = accuracy_percent
        for layer in self.layers:
            if self._constraints.mask(layer.name) is None:
                everything = torch.ones_like(self._weights[layer.name], dtype=torch.bool)
                self._constraints.set_mask(layer.name, everything)
            layer.pruned = self._pruned(layer.name)
        self._good = self._snapshot()

    @property
    def retrain_epochs(self) -> int:
        """Epochs to train before the next step is judged; 0 if no layer gives any more."""
        layer = self._coming()
        return 0 if layer is None else self._specs[layer.name].schedule.retrain_epochs

    def propose(self, calibration: Calibration | None = None) -> bool:
        """Prune the next layer a step further; whether there is one.

        Args:
            calibration: the network with data, for an importance that needs them.
        """
        layer = self._coming()
        if layer is None:
            return False
        spec = self._specs[layer.name]
        further = max(1, round(spec.schedule.step * (layer.groups - layer.pruned)))
        wanted = min(layer.pruned + further, layer.most)
        weights = {layer.name: self._weights[layer.name]}
        scores = score_groups(spec, weights, calibration)
        masks = {layer.name: self._mask(layer.name)}
        mask = prune_groups(scores, masks, wanted, spec.granularity)[layer.name]
        self._constraints.set_mask(layer.name, mask)
        self._trial = {"layer": layer.name, "pruned": self._pruned(layer.name)}
        return True

    def judge(self, accuracy_percent: float) -> Step:
        """Keep the step that is being tried, or take back weights, masks and optimizer state, bit for bit."""
        assert self._trial is not None, "propose() comes before judge()"  # noqa: S101
        layer = next(one for one in self.layers if one.name == self._trial["layer"])
        limit = self._specs[layer.name].schedule.limit_points
        assert limit is not None  # noqa: S101  (the schedule makes sure)
        lost = self.reference - accuracy_percent
        step = Step(
            layer=layer.name,
            round=layer.kept + layer.taken_back,
            pruned_before=layer.pruned,
            pruned=self._trial["pruned"],
            groups=layer.groups,
            accuracy_percent=accuracy_percent,
            lost_points=lost,
            limit_points=limit,
            kept=lost <= limit + _ROUNDING,
        )
        self._trial = None
        self.steps.append(step)
        if step.kept:
            layer.pruned, layer.kept = step.pruned, layer.kept + 1
            self._good = self._snapshot()
        else:
            layer.taken_back, layer.closed = 1, "costs too much"
            self._restore()
        self._next = self.layers.index(layer) + 1
        return step

    def _coming(self) -> Layer | None:
        """The layer whose turn it is, of those that may give more."""
        for layer in self.layers:
            most_rounds = self._specs[layer.name].schedule.most_rounds
            if not layer.closed and layer.pruned >= layer.most:
                layer.closed = "as far as asked"
            elif not layer.closed and most_rounds is not None and layer.kept >= most_rounds:
                layer.closed = "most rounds"
        turned = self.layers[self._next :] + self.layers[: self._next]
        return next((layer for layer in turned if not layer.closed), None)

    def _mask(self, name: str) -> torch.Tensor:
        mask = self._constraints.mask(name)
        assert mask is not None  # noqa: S101  (begin has set one)
        return mask

    def _pruned(self, name: str) -> int:
        return int((~any_in_group(self._mask(name), self._specs[name].granularity)).sum())

    # -- back to what was good -------------------------------------------------------------------

    def _snapshot(self) -> dict[str, Any]:
        return {
            "weights": {name: tensor.detach().clone() for name, tensor in self._model.state_dict().items()},
            "masks": {name: self._mask(name).clone() for name in self._specs},
            "optimizers": [copy.deepcopy(optimizer.state_dict()["state"]) for optimizer in self._optimizers],
        }

    def _restore(self) -> None:
        for name, mask in self._good["masks"].items():
            self._constraints.set_mask(name, mask)
        state = self._model.state_dict()
        with torch.no_grad():
            for name, tensor in self._good["weights"].items():
                state[name].copy_(tensor)
        for optimizer, known in zip(self._optimizers, self._good["optimizers"], strict=True):
            # Learning rates go on as their schedule has them.
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": copy.deepcopy(known), "param_groups": groups})

    # -- what it has come to ---------------------------------------------------------------------

    def journal(self) -> dict[str, Any]:
        """Every step and every layer, as JSON has them."""
        return {
            "accuracy_before_percent": self.reference,
            "finished": self._trial is None and self._coming() is None,
            "steps": [asdict(step) for step in self.steps],
            "layers": [asdict(layer) for layer in self.layers],
        }

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on, as tensors and plain values; the model and its constraints aside."""
        return {
            **{key: value for key, value in self.journal().items() if key in ("steps", "layers")},
            "reference": self.reference,
            "next": self._next,
            "trial": self._trial,
            "good": self._good,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken.

        Raises:
            CheckpointError: where it is of other layers.
        """
        layers = [Layer(**layer) for layer in state["layers"]]
        if [(a.name, a.groups) for a in layers] != [(b.name, b.groups) for b in self.layers]:
            raise CheckpointError(
                "the checkpoint's accuracy_bounded pruning is of other layers than the recipe's"
            )
        self.layers = layers
        self.steps = [Step(**step) for step in state["steps"]]
        self.reference, self._next = state["reference"], state["next"]
        self._trial, self._good = state["trial"], state["good"]


def prune_within(
    bounded: BoundedPruning,
    accuracy: Callable[[], float],
    retrain: Callable[[int], object],
    calibration: Calibration | None = None,
    tell: Callable[[str], object] | None = None,
) -> None:
    """Go on until no layer gives any more.

    Args:
        bounded: the network and its rules.
        accuracy: validation accuracy of the network as it is, in percent.
        retrain: trains it for so many epochs.
        calibration: the network with data, for an importance that needs them.
        tell: takes a line about every step.
    """
    bounded.begin(accuracy())
    while epochs := bounded.retrain_epochs:
        bounded.propose(calibration)
        retrain(epochs)
        step = bounded.judge(accuracy())
        if tell is not None:
            tell(str(step))
