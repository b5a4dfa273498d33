"""What the callbacks that constrain a model have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import lightning

from featherweight.constraints import Constraint, Constraints
from featherweight.errors import RecipeError
from featherweight.training.module import plain_model

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

Result = TypeVar("Result")


class ConstrainedCallback(lightning.Callback):
    """Attaches constraints to the trainer's optimizers and keeps them in checkpoints.

    Several callbacks on one trainer share one set of constraints. Each keeps its own ``kind`` of them
    in its state, so that a resumed run goes on exactly.
    """

    kind: ClassVar[type[Constraint] | tuple[type[Constraint], ...]]

    def __init__(self) -> None:
        self._constraints: Constraints | None = None
        self._restored: dict[str, Any] | None = None

    @property
    def constraints(self) -> Constraints:
        """The constraints; there from the start of training on."""
        if self._constraints is None:
            raise RecipeError(f"{type(self).__name__} has no constraints before training starts")
        return self._constraints

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Attach to the optimizers, taking up what a checkpoint held."""
        optimizers = [o for o in trainer.optimizers if hasattr(o, "register_step_pre_hook")]
        attached = [c for c in map(Constraints.attached_to, optimizers) if c is not None]
        constraints = attached[0] if attached else Constraints(plain_model(pl_module))
        if self._restored is not None:
            constraints.load_state_dict(self._restored)
            self._restored = None
        for optimizer in optimizers:
            # The optimizer's state came from the same checkpoint, or is empty.
            constraints.attach(optimizer, resume=True)
        self._constraints = constraints

    def on_first_rank(
        self, trainer: lightning.Trainer, model: torch.nn.Module, change: Callable[[], Result]
    ) -> Result:
        """Let one process set constraints by the examples it sees, and the others take over what it set.

        Each process of distributed training sees examples of its own; what they prune and share must be
        the same.

        Args:
            trainer: whose processes.
            model: what the constraints are of.
            change: sets constraints; called in the first process alone.

        Returns:
            What ``change`` gave there.
        """
        if trainer.world_size == 1:
            return change()
        made: Any = None
        if trainer.is_global_zero:
            before = {name: self.constraints.constraint(name) for name in self.constraints}
            result = change()
            # What was not set anew keeps the momentum that all processes have of it.
            new = {n for n in self.constraints if self.constraints.constraint(n) is not before.get(n)}
            state = {name: held for name, held in self.constraints.state_dict().items() if name in new}
            made = result, state, {n: p.detach() for n, p in model.named_parameters() if n in new}
        result, state, values = trainer.strategy.broadcast(made)
        if not trainer.is_global_zero:
            self.constraints.take_over(state, values)
        return result

    def state_dict(self) -> dict[str, Any]:
        """Masks or indices, as tensors and plain values."""
        return {} if self._constraints is None else self._constraints.state_dict(self.kind)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until training starts and the model is known."""
        self._restored = state_dict


def select_parameters(
    model: torch.nn.Module,
    parameter_names: list[str],
    filter_layers: list[str] | None,
    parameters: list[tuple[torch.nn.Module, str]] | None = None,
) -> dict[str, torch.nn.Parameter]:
    """The parameters that seed-style options choose, by full name, in the model's order.

    Args:
        model: where to look.
        parameter_names: names within a layer, such as ``weight``.
        filter_layers: class names of layers, such as ``Linear``; all layers unless given.
        parameters: pairs of a layer and a parameter's name within it, in place of the two others.

    Raises:
        RecipeError: where nothing is chosen, or a layer is not part of the model.
    """
    if parameters is not None:
        names = {id(module): name for name, module in model.named_modules()}
        chosen = {}
        for module, attribute in parameters:
            if id(module) not in names:
                raise RecipeError(f"parameters_to_prune: {type(module).__name__} is not a layer of the model")
            if getattr(module, attribute, None) is None:
                raise RecipeError(f"parameters_to_prune: {names[id(module)]} has no parameter {attribute!r}")
            chosen[f"{names[id(module)]}.{attribute}".lstrip(".")] = getattr(module, attribute)
        return chosen
    chosen = {
        f"{path}.{name}".lstrip("."): parameter
        for path, module in model.named_modules()
        if filter_layers is None or type(module).__name__ in filter_layers
        for name, parameter in module.named_parameters(recurse=False)
        if name in parameter_names
    }
    if not chosen:
        layers = "any layer" if filter_layers is None else f"layers of class {', '.join(filter_layers)}"
        there = sorted({type(m).__name__ for m in model.modules() if list(m.parameters(recurse=False))})
        raise RecipeError(
            f"no parameter named {' or '.join(parameter_names)} in {layers}; "
            f"the model has layers of class {', '.join(there)}"
        )
    return chosen
