"""Constraints on the parameters of a model, obeyed by the step of an optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import numpy as np
import torch
from torch.optim import LBFGS, Adagrad

from featherweight.constraints.kinds import Constraint, Mask, Sharing, read_constraint
from featherweight.constraints.latent import Latent
from featherweight.errors import CheckpointError, TensorError
from featherweight.tensors import QuantizedTensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from torch.optim import Optimizer
    from torch.utils.hooks import RemovableHandle

#: Weak both ways: an optimizer's hooks keep its constraints alive, and those keep the optimizer.
_attached: WeakKeyDictionary[Optimizer, ref[Constraints]] = WeakKeyDictionary()


class Constraints:
    """What holds for the parameters of one model, by parameter name.

    Args:
        model: the module whose parameters are constrained; it is not changed in any way but the values
            of its weights.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._parameters: dict[str, torch.nn.Parameter] = dict(model.named_parameters())
        self._constraints: dict[str, Constraint] = {}
        self._handles: list[RemovableHandle] = []
        self._optimizers: list[Optimizer] = []

    @classmethod
    def attached_to(cls, optimizer: Optimizer) -> Constraints | None:
        """The constraints that ``optimizer`` already obeys, if any."""
        attached = _attached.get(optimizer)
        return attached() if attached is not None else None

    # -- setting ---------------------------------------------------------------------------------

    def set_mask(self, name: str, keep: torch.Tensor) -> None:
        """Prune the weights of ``name`` where ``keep`` (bool, the weight's shape) is false."""
        parameter = self._parameter(name, keep.shape)
        self._set(name, Mask(keep.to(device=parameter.device, dtype=torch.bool).contiguous().clone()))

    def set_sharing(self, name: str, tensor: QuantizedTensor, *, fixed_zero: bool) -> None:
        """Set ``name`` to the values of ``tensor`` and let the weights of a cluster share theirs.

        Args:
            name: the parameter.
            tensor: indices in the parameter's shape and a codebook.
            fixed_zero: whether index 0 stands for the pruned weights and stays at 0.
        """
        parameter = self._parameter(name, tensor.shape)
        sharing = Sharing.of(tensor.indices, tensor.codebook.size, fixed_zero)
        sharing.to(parameter.device)
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(tensor.dequantize()))
        self._set(name, sharing)

    def set_latent(self, name: str, latent: Latent) -> None:
        """Let the optimizer train the full-precision shadow of ``name``, and quantize it after every step."""
        latent.to(self._parameter(name, tuple(latent.shadow.shape)).device)
        self._set(name, latent)

    def latent(self, name: str) -> Latent | None:
        """What stands behind the quantized weights of ``name``, or ``None`` if nothing does."""
        constraint = self._constraints.get(name)
        return constraint if isinstance(constraint, Latent) else None

    def _parameter(self, name: str, shape: tuple[int, ...]) -> torch.nn.Parameter:
        if name not in self._parameters:
            raise TensorError(f"{name}: the model has no such parameter")
        parameter = self._parameters[name]
        if tuple(parameter.shape) != tuple(shape):
            raise TensorError(f"{name}: expected shape {tuple(parameter.shape)}, got {tuple(shape)}")
        return parameter

    def _set(self, name: str, constraint: Constraint) -> None:
        self._constraints[name] = constraint
        with torch.no_grad():
            constraint.constrain_weight(self._parameters[name])
        for optimizer in self._optimizers:
            self._clear_state(optimizer, [name])

    # -- reading ---------------------------------------------------------------------------------

    def __contains__(self, name: object) -> bool:
        return name in self._constraints

    def __iter__(self) -> Iterator[str]:
        return iter(self._constraints)

    def __len__(self) -> int:
        return len(self._constraints)

    def is_shared(self, name: str) -> bool:
        """Whether the weights of ``name`` share values."""
        constraint = self._constraints.get(name)
        return isinstance(constraint, Sharing) or (isinstance(constraint, Latent) and constraint.quantizes)

    def constraint(self, name: str) -> Constraint | None:
        """What holds for ``name``, another object whenever that is set anew; ``None`` if nothing does."""
        return self._constraints.get(name)

    def mask(self, name: str) -> torch.Tensor | None:
        """Where the weights of ``name`` may differ from zero (bool), or ``None`` if nothing prunes it."""
        constraint = self._constraints.get(name)
        if isinstance(constraint, Mask):
            return constraint.keep
        if isinstance(constraint, Sharing) and constraint.fixed_zero:
            return constraint.indices != 0
        return constraint.nonzero() if isinstance(constraint, Latent) else None

    def quantized(self, name: str) -> QuantizedTensor | None:
        """The shared weights of ``name`` as they stand now, or ``None`` if they are not shared."""
        constraint = self._constraints.get(name)
        if isinstance(constraint, Latent):
            return shared_values(self._parameters[name]) if constraint.quantizes else None
        if not isinstance(constraint, Sharing):
            return None
        codebook = constraint.codebook(self._parameters[name]).cpu()
        dtype = str(codebook.dtype).removeprefix("torch.")
        values = (codebook.float() if codebook.dtype == torch.bfloat16 else codebook).numpy()
        indices = constraint.indices.cpu().numpy()
        return QuantizedTensor(
            indices.astype(np.uint8 if codebook.numel() <= 256 else np.uint16), values, dtype=dtype
        )

    # -- the two halves of a step ----------------------------------------------------------------

    @torch.no_grad()
    def constrain_gradients(self, optimizer: Optimizer | None = None) -> None:
        """Mask and sum the gradients; call it once a step, after backward and before the update."""
        for name, parameter, constraint in self._active(optimizer):
            if parameter.grad is None:
                continue
            if parameter.grad.layout != torch.strided:
                raise TensorError(f"{name}: a sparse gradient cannot be constrained; make it dense")
            if isinstance(constraint, Latent):
                constraint.before_update(parameter)
            else:
                constraint.constrain_gradient(parameter.grad)

    @torch.no_grad()
    def constrain_weights(self, optimizer: Optimizer | None = None) -> None:
        """Apply masks and sharing to the weights again; call it after the update."""
        for _, parameter, constraint in self._active(optimizer):
            if isinstance(constraint, Latent):
                constraint.after_update(parameter, optimizer)
            else:
                constraint.constrain_weight(parameter)

    @torch.no_grad()
    def constrain_weight(self, name: str) -> None:
        """Apply the constraint of one weight to its values."""
        self._constraints[name].constrain_weight(self._parameters[name])

    def _active(self, optimizer: Optimizer | None) -> Iterator[tuple[str, torch.nn.Parameter, Constraint]]:
        mine = None if optimizer is None else {id(p) for g in optimizer.param_groups for p in g["params"]}
        for name, constraint in self._constraints.items():
            parameter = self._parameters[name]
            if mine is not None and id(parameter) not in mine:
                continue
            held = _held(constraint)
            if held.device != parameter.device:
                constraint.to(parameter.device)
            yield name, parameter, constraint

    # -- optimizers ------------------------------------------------------------------------------

    def attach(self, optimizer: Optimizer, *, resume: bool = False) -> Constraints:
        """Let ``optimizer`` obey from its next step on; its state of the weights concerned is cleared.

        Any optimizer will do, with or without a closure (Lightning and LBFGS pass one). Attaching
        twice is the same as once; constraints that another object attached are replaced.

        Args:
            optimizer: steps on parameters of the model.
            resume: leave the optimizer's state as it is, where both come from one checkpoint.
        """
        previous = self.attached_to(optimizer)
        if previous is self:
            return self
        if previous is not None:
            previous.detach(optimizer)
        self._handles += [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
            optimizer.register_load_state_dict_post_hook(self._clear_pruned_state),
        ]
        self._optimizers.append(optimizer)
        _attached[optimizer] = ref(self)
        if not resume:
            self._clear_state(optimizer, self._constraints)
        return self

    def detach(self, optimizer: Optimizer | None = None) -> None:
        """Free ``optimizer``, or all of them; the weights stay as they are."""
        for handle in self._handles:
            handle.remove()
        left = [o for o in self._optimizers if optimizer is not None and o is not optimizer]
        for gone in self._optimizers:
            _attached.pop(gone, None)
        self._handles, self._optimizers = [], []
        for other in left:
            self.attach(other, resume=True)

    def _before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        closure = kwargs.get("closure") or (args[1] if len(args) > 1 else None)
        if closure is None:
            self.constrain_gradients(optimizer)
            return None
        # Backward runs inside the step: constrain after it, each time that the closure is called.
        wrapped = self._wrap(closure, optimizer)
        if kwargs.get("closure"):
            return args, {**kwargs, "closure": wrapped}
        return (args[0], wrapped, *args[2:]), kwargs

    def _wrap(self, closure: Callable[[], Any], optimizer: Optimizer) -> Callable[[], Any]:
        def constrained() -> Any:
            loss = closure()
            self.constrain_gradients(optimizer)
            return loss

        return constrained

    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.constrain_weights(optimizer)

    @torch.no_grad()
    def _clear_state(self, optimizer: Optimizer, names: Iterable[str]) -> None:
        """Forget what the optimizer knows of weights that were pruned or shared just now."""
        if isinstance(optimizer, LBFGS):
            optimizer.state.clear()  # its history is of all parameters together
        for name in names:
            constraint = self._constraints[name]
            if isinstance(constraint, Mask):
                for value in self._states(optimizer, name):
                    constraint.clear_pruned(value)
            else:
                self._start_again(optimizer, self._parameters[name])

    def _start_again(self, optimizer: Optimizer, parameter: torch.nn.Parameter) -> None:
        """Forget all of a parameter's state: it belonged to weights that moved on their own.

        Adam's count of steps goes with the moments, whose bias must be corrected again.
        """
        if isinstance(optimizer, Adagrad):  # makes its state when it is made, and only then
            for value in optimizer.state[parameter].values():
                value.zero_()
        else:
            optimizer.state.pop(parameter, None)

    @torch.no_grad()
    def _clear_pruned_state(self, optimizer: Optimizer) -> None:
        """Momentum that is loaded must not revive a pruned weight."""
        for name, constraint in self._constraints.items():
            for value in self._states(optimizer, name):
                constraint.clear_pruned(value)

    def _states(self, optimizer: Optimizer, name: str) -> list[torch.Tensor]:
        """The optimizer's state tensors that have an entry for each weight of ``name``."""
        parameter = self._parameters[name]
        values = optimizer.state.get(parameter, {}).values()
        return [v for v in values if isinstance(v, torch.Tensor) and v.shape == parameter.shape]

    # -- checkpoints -----------------------------------------------------------------------------

    def state_dict(
        self, kind: type[Constraint] | tuple[type[Constraint], ...] = (Mask, Sharing, Latent)
    ) -> dict[str, dict[str, Any]]:
        """Masks and indices by parameter name, as tensors and plain values.

        Args:
            kind: :class:`Mask`, :class:`Sharing`, :class:`Latent` or one derived from it, for that alone.
        """
        chosen = {name: c for name, c in self._constraints.items() if isinstance(c, kind)}
        return {name: c.state() if isinstance(c, Latent) else dict(vars(c)) for name, c in chosen.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Take masks and indices from :meth:`state_dict`; other names and optimizers stay as they are.

        Raises:
            CheckpointError: where a name or a shape does not fit the model, or the state is damaged;
                nothing is then changed.
        """
        loaded: dict[str, Constraint] = {}
        for name, fields in state.items():
            constraint = read_constraint(name, fields)
            held = _held(constraint)
            expected = self._parameters.get(name)
            if expected is None or expected.shape != held.shape:
                found = "no such parameter" if expected is None else f"shape {tuple(expected.shape)}"
                raise CheckpointError(
                    f"{name}: the checkpoint constrains a weight of shape {tuple(held.shape)}, "
                    f"the model has {found}"
                )
            constraint.to(expected.device)
            loaded[name] = constraint
        self._constraints.update(loaded)

    @torch.no_grad()
    def take_over(self, state: Mapping[str, Mapping[str, Any]], weights: Mapping[str, torch.Tensor]) -> None:
        """Take what another process that trains the same model has just set.

        Args:
            state: its :meth:`state_dict`, or a part of it.
            weights: their values there.

        Raises:
            CheckpointError: as :meth:`load_state_dict`.
        """
        self.load_state_dict(state)
        for name in state:
            self._parameters[name].copy_(weights[name])
        for optimizer in self._optimizers:
            self._clear_state(optimizer, state)


def _held(constraint: Constraint) -> torch.Tensor:
    """The tensor of a constraint that has the weight's shape."""
    if isinstance(constraint, Latent):
        return constraint.shadow
    return constraint.keep if isinstance(constraint, Mask) else constraint.indices


def shared_values(weight: torch.Tensor) -> QuantizedTensor:
    """A tensor of few values as indices and codebook: 0 at index 0 if it occurs, the others ascending."""
    narrow = weight.dtype == torch.bfloat16  # NumPy has no bfloat16
    array = (weight.detach().float() if narrow else weight.detach()).cpu().numpy()
    values, indices = np.unique(array, return_inverse=True)
    order = np.argsort(values != 0, kind="stable")
    rank = np.empty(order.size, np.uint8 if order.size <= 256 else np.uint16)
    rank[order] = np.arange(order.size)
    return QuantizedTensor(
        rank[indices].reshape(array.shape), values[order], dtype="bfloat16" if narrow else ""
    )
