"""Masks and weight sharing as constraints on the optimizer step.

Training under compression never changes the model. Before a step, the gradients of pruned weights
become zero and those of weights that share a value become their cluster's summed gradient (Han, Mao &
Dally 2015, equation 3); after it, pruned weights are set to zero and the members of a cluster to one
value again. Weights that share a value and a gradient move alike under any optimizer, so SGD, Adam,
gradient accumulation, mixed precision and DDP work as they are, and a checkpoint loads into the plain
model.

Attached to an optimizer, :class:`Constraints` does both from its step hooks::

    constraints = fw.prune(model, recipe, optimizer=optimizer)
    ...                          # train on as before
    fw.share(model, recipe, optimizer=optimizer)
    ...                          # train on as before
    fw.save_model(model, "model.fwt")
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import numpy as np
import torch
from torch.optim import LBFGS, Adagrad

from featherweight import constraint_kernels as kernels
from featherweight.errors import CheckpointError, TensorError
from featherweight.tensors import QuantizedTensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from torch.optim import Optimizer
    from torch.utils.hooks import RemovableHandle

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Mask:
    """Keep some weights, hold the others at zero.

    Attributes:
        keep: bool, in the weight's shape; false where pruned.
    """

    keep: torch.Tensor

    def to(self, device: torch.device) -> None:
        """Move to ``device``."""
        self.keep = self.keep.to(device)

    def constrain_gradient(self, gradient: torch.Tensor) -> None:
        """Set the gradients of pruned weights to zero, in place."""
        self.constrain_weight(gradient)

    def constrain_weight(self, weight: torch.Tensor) -> None:
        """Set pruned weights to zero, in place."""
        if kernels.supports(weight):
            kernels.zero_pruned(weight, self.keep)
        else:
            weight.masked_fill_(~self.keep, 0)

    def clear_pruned(self, state: torch.Tensor) -> None:
        """Zero the entries of an optimizer's state that belong to pruned weights."""
        self.constrain_weight(state)


@dataclass(eq=False)
class Sharing:
    """Hold all weights of a cluster at one value, and train that value.

    Attributes:
        indices: each weight's cluster, uint8 (int32 for more than 256 clusters), in the weight's shape.
        codebook_size: number of clusters.
        fixed_zero: whether cluster 0 is the pruned weights, which stay at zero.
        members: flat position of one weight of each cluster, int64 ``(codebook_size,)``; it carries the
            cluster's value. An empty cluster has none: -1.
    """

    indices: torch.Tensor
    codebook_size: int
    fixed_zero: bool
    members: torch.Tensor

    @classmethod
    def of(cls, indices: np.ndarray[Any, Any], codebook_size: int, fixed_zero: bool) -> Sharing:
        """Make it from NumPy indices, finding a member of each cluster."""
        members = np.full(codebook_size, -1, dtype=np.int64)
        clusters, first = np.unique(indices, return_index=True)
        members[clusters] = first
        dtype = np.uint8 if codebook_size <= 256 else np.int32
        # A copy: the indices must not change when the caller's array does.
        held = torch.from_numpy(np.array(indices, dtype=dtype, order="C"))
        return cls(held, codebook_size, fixed_zero, torch.from_numpy(members))

    def to(self, device: torch.device) -> None:
        """Move to ``device``."""
        self.indices, self.members = self.indices.to(device), self.members.to(device)

    def _fast(self, tensor: torch.Tensor) -> bool:
        return kernels.supports(tensor) and self.indices.dtype == torch.uint8

    def constrain_gradient(self, gradient: torch.Tensor) -> None:
        """Give every weight its cluster's summed gradient, in place; cluster 0 gets 0 if it is fixed."""
        if self._fast(gradient):
            sums = kernels.cluster_sums(gradient, self.indices, self.codebook_size, self.fixed_zero)
            if self.fixed_zero:
                sums[0] = 0
            kernels.spread(gradient, self.indices, sums.astype(np.float32))
            return
        flat = self.indices.reshape(-1).long()
        wide = torch.float32 if gradient.device.type == "mps" else torch.float64
        total = torch.zeros(self.codebook_size, dtype=wide, device=gradient.device)
        total.index_add_(0, flat, gradient.reshape(-1).to(wide))
        if self.fixed_zero:
            total[0] = 0
        gradient.copy_(total.to(gradient.dtype)[flat].reshape(gradient.shape))

    def codebook(self, weight: torch.Tensor) -> torch.Tensor:
        """The clusters' values as ``weight`` holds them, shape ``(codebook_size,)``; 0 for an empty one."""
        if not weight.numel():
            return weight.detach().new_zeros(self.codebook_size)
        values = weight.detach().reshape(-1)[self.members.clamp(min=0)]
        values[self.members < 0] = 0
        if self.fixed_zero:
            values[0] = 0
        return values

    def constrain_weight(self, weight: torch.Tensor) -> None:
        """Set every weight to the value of its cluster, in place.

        Gradients and states of a cluster's members are equal, and so are their updates but for a last
        bit that a vectorised optimizer may round differently; this settles it.
        """
        codebook = self.codebook(weight)
        if self._fast(weight):
            kernels.spread(weight, self.indices, codebook.numpy())
        else:
            weight.copy_(codebook[self.indices.long()])

    def clear_pruned(self, state: torch.Tensor) -> None:
        """Zero the entries of an optimizer's state that belong to pruned weights."""
        if self.fixed_zero:
            state.masked_fill_(self.indices == 0, 0)


Constraint = Mask | Sharing

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
        return isinstance(self._constraints.get(name), Sharing)

    def mask(self, name: str) -> torch.Tensor | None:
        """Where the weights of ``name`` may differ from zero (bool), or ``None`` if nothing prunes it."""
        constraint = self._constraints.get(name)
        if isinstance(constraint, Mask):
            return constraint.keep
        if isinstance(constraint, Sharing) and constraint.fixed_zero:
            return constraint.indices != 0
        return None

    def quantized(self, name: str) -> QuantizedTensor | None:
        """The shared weights of ``name`` as they stand now, or ``None`` if they are not shared."""
        constraint = self._constraints.get(name)
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
            constraint.constrain_gradient(parameter.grad)

    @torch.no_grad()
    def constrain_weights(self, optimizer: Optimizer | None = None) -> None:
        """Apply masks and sharing to the weights again; call it after the update."""
        for _, parameter, constraint in self._active(optimizer):
            constraint.constrain_weight(parameter)

    def _active(self, optimizer: Optimizer | None) -> Iterator[tuple[str, torch.nn.Parameter, Constraint]]:
        mine = None if optimizer is None else {id(p) for g in optimizer.param_groups for p in g["params"]}
        for name, constraint in self._constraints.items():
            parameter = self._parameters[name]
            if mine is not None and id(parameter) not in mine:
                continue
            held = constraint.keep if isinstance(constraint, Mask) else constraint.indices
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
        self, kind: type[Constraint] | tuple[type[Constraint], ...] = (Mask, Sharing)
    ) -> dict[str, dict[str, Any]]:
        """Masks and indices by parameter name, as tensors and plain values.

        Args:
            kind: :class:`Mask` or :class:`Sharing`, for one kind alone.
        """
        return {name: dict(vars(c)) for name, c in self._constraints.items() if isinstance(c, kind)}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Take masks and indices from :meth:`state_dict`; other names and optimizers stay as they are.

        Raises:
            CheckpointError: where a name or a shape does not fit the model, or the state is damaged;
                nothing is then changed.
        """
        loaded: dict[str, Constraint] = {}
        for name, fields in state.items():
            constraint = _read_constraint(name, fields)
            held = constraint.keep if isinstance(constraint, Mask) else constraint.indices
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


def _read_constraint(name: str, fields: Mapping[str, Any]) -> Constraint:
    """Make a mask or a sharing from a checkpoint, whose indices the kernels will trust."""
    try:
        constraint: Constraint = Mask(**fields) if "keep" in fields else Sharing(**fields)
    except TypeError as error:
        raise CheckpointError(f"{name}: the checkpoint holds no mask and no clusters: {error}") from None
    if isinstance(constraint, Mask):
        sound = constraint.keep.dtype == torch.bool
    else:
        indices, members, size = constraint.indices, constraint.members, constraint.codebook_size
        sound = (
            indices.dtype == (torch.uint8 if size <= 256 else torch.int32)
            and members.dtype == torch.int64
            and members.shape == (size,)
            and _all_within(indices, 0, size)
            and _all_within(members, -1, indices.numel())
        )
    if not sound:
        raise CheckpointError(f"{name}: the checkpoint's mask or clusters are damaged")
    return constraint


def _all_within(tensor: torch.Tensor, start: int, stop: int) -> bool:
    return not tensor.numel() or bool(start <= int(tensor.min()) and int(tensor.max()) < stop)
