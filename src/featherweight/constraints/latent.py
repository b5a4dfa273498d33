"""Full-precision weights behind quantized ones: what the optimizer moves is not what the network sees.

The weight itself holds the quantized values, so that the network computes with them. Before the optimizer's
update the full-precision *shadow* takes their place, and afterwards it is quantized again. Its gradient is
that of the quantized weight, straight through the rounding (Y. Bengio, N. Léonard & A. Courville,
"Estimating or propagating gradients through stochastic neurons", 2013), or as the kind says.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch.optim import LBFGS, SGD

from featherweight.errors import CheckpointError, RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.optim import Optimizer

    from featherweight.tensors import QuantizedTensor


#: Every kind by name, for checkpoints.
_KINDS: dict[str, type[Latent]] = {}


@dataclass(eq=False)
class Latent:
    """A weight whose full-precision shadow is trained.

    Attributes:
        shadow: the full-precision weight.
        keep: bool, in the weight's shape; false where pruned, and the weight 0 for good. ``None``: nowhere.
    """

    #: Whether the weight takes a few values that its entries share.
    quantizes: ClassVar[bool] = True

    shadow: torch.Tensor
    keep: torch.Tensor | None = None
    _taken: bool = field(default=False, init=False)

    def __init_subclass__(cls) -> None:
        _KINDS[cls.__name__] = cls

    def nonzero(self) -> torch.Tensor | None:
        """Where the weight may differ from zero; ``None``: anywhere."""
        return self.keep

    def to(self, device: torch.device) -> None:
        """Move to ``device``."""
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor):
                setattr(self, name, value.to(device))

    def before_update(self, weight: torch.nn.Parameter) -> None:
        """Turn the weight's gradient into the shadow's, and put the shadow in the weight's place."""
        assert weight.grad is not None  # noqa: S101  (the caller asks)
        self.constrain_gradient(weight.grad)
        if self.keep is not None:
            weight.grad.masked_fill_(~self.keep, 0)
        if not self._taken:  # LBFGS comes by several times a step, with the shadow on its way
            weight.copy_(self.shadow)
        self._taken = True

    def after_update(self, weight: torch.nn.Parameter, optimizer: Optimizer | None) -> None:
        """Take what the optimizer made of the shadow, and quantize it into the weight."""
        if self._taken:
            self._taken = False
            self.shadow.copy_(weight)
            if self.keep is not None:
                self.shadow.masked_fill_(~self.keep, 0)
            self.updated(weight, optimizer)
        self.constrain_weight(weight)

    def constrain_gradient(self, gradient: torch.Tensor) -> None:
        """The shadow's gradient from the weight's, in place: the same, straight through."""

    def updated(self, weight: torch.nn.Parameter, optimizer: Optimizer | None) -> None:
        """Do what follows from a new shadow."""

    def constrain_weight(self, weight: torch.Tensor) -> None:
        """Set the weight to its quantized values."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it quantizes")

    def clear_pruned(self, state: torch.Tensor) -> None:
        """Zero the entries of an optimizer's state that belong to pruned weights."""
        if self.keep is not None:
            state.masked_fill_(~self.keep, 0)

    def sound(self) -> bool:
        """Whether what a checkpoint held fits together."""
        if not isinstance(self.shadow, torch.Tensor) or not self.shadow.is_floating_point():
            return False
        return self.keep is None or self._is_mask(self.keep)

    def _is_mask(self, mask: torch.Tensor) -> bool:
        return mask.shape == self.shadow.shape and mask.dtype == torch.bool

    def state(self) -> dict[str, Any]:
        """Tensors and plain values, for a checkpoint."""
        state = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        return {"latent": type(self).__name__, **state}


@dataclass(eq=False)
class FixedPoint(Latent):
    """Fixed-point numbers: round(shadow · 2^f) / 2^f, half to even, saturating.

    Attributes:
        bits: i + f.
        integer_bits: i, the sign included.
    """

    bits: int = 8
    integer_bits: int = 1

    def constrain_weight(self, weight: torch.Tensor) -> None:
        """Round the shadow into the weight."""
        units = 2.0 ** (self.bits - self.integer_bits)
        most = 2.0 ** (self.bits - 1)
        # + 0 makes -0 a 0, as it is in the codebook.
        weight.copy_((self.shadow.double() * units).round().clamp(-most, most - 1).div(units) + 0.0)

    def updated(self, weight: torch.nn.Parameter, optimizer: Optimizer | None) -> None:
        """Keep the shadow in range, from where it finds back."""
        largest = 2.0 ** (self.integer_bits - 1)
        self.shadow.clamp_(-largest, largest)


@dataclass(eq=False)
class Ternary(Latent):
    """Trained ternary quantization: +W_p, 0 or −W_n (Zhu et al. 2017).

    W_p where the shadow is above Δ = t · max abs(shadow), −W_n where it is below −Δ. The shadow's gradient is
    the weight's times W_p, 1 or W_n (the paper's equation 8); those of W_p and −W_n are the sums over
    their members (equation 7), and an optimizer of the same class and settings trains them.

    Attributes:
        scales: W_p and W_n, neither negative, ``(2,)``.
        threshold: t.
        scale_lr: their learning rate over the weight's.
        indices: uint8 in the weight's shape: 0 zero, 1 negative, 2 positive; as of the last rounding.
        optimizer_state: of the optimizer that trains the scales.
    """

    scales: torch.Tensor = field(default_factory=lambda: torch.ones(2))
    threshold: float = 0.05
    scale_lr: float = 1.0
    indices: torch.Tensor | None = None
    optimizer_state: dict[str, Any] | None = None
    _trainer: Optimizer | None = field(default=None, init=False)

    def _sides(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self.indices is None:
            delta = self.threshold * self.shadow.abs().max() if self.shadow.numel() else 0.0
            self.indices = ((self.shadow > delta) * 2 + (self.shadow < -delta) * 1).to(torch.uint8)
        return self.indices == 2, self.indices == 1

    def constrain_gradient(self, gradient: torch.Tensor) -> None:
        """Gradients of the scales, kept; and the shadow's, in place."""
        positive, negative = self._sides()
        self.scales.grad = torch.stack([gradient[positive].sum(), -gradient[negative].sum()])
        scale = torch.ones_like(gradient)
        scale[positive], scale[negative] = self.scales[0], self.scales[1]
        gradient.mul_(scale)

    def constrain_weight(self, weight: torch.Tensor) -> None:
        """Set the weight to its three values."""
        positive, negative = self._sides()
        weight.zero_()
        weight[positive] = self.scales[0].to(weight.dtype)
        weight[negative] = -self.scales[1].to(weight.dtype)

    def updated(self, weight: torch.nn.Parameter, optimizer: Optimizer | None) -> None:
        """Train the scales by one step, and find anew which weight takes which value."""
        self.indices = None
        if optimizer is None:
            raise RecipeError("ternary weights are trained by an optimizer; attach the constraints to it")
        group = next(g for g in optimizer.param_groups if any(p is weight for p in g["params"]))
        if self._trainer is None or self._trainer.param_groups[0]["params"][0] is not self.scales:
            self._trainer = _like(optimizer, group, self.scales)
            if self.optimizer_state:
                self._trainer.load_state_dict(self.optimizer_state)
        self._trainer.param_groups[0]["lr"] = group["lr"] * self.scale_lr
        self._trainer.step()
        self.scales.grad = None
        self.scales.clamp_(min=0)

    def sound(self) -> bool:
        """Whether what a checkpoint held fits together: two scales, indices in the weight's shape."""
        shaped = self.indices is None or self.indices.shape == self.shadow.shape
        return super().sound() and shaped and self.scales.shape == (2,)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values, for a checkpoint."""
        if self._trainer is not None:
            self.optimizer_state = self._trainer.state_dict()
        return super().state()


def _like(optimizer: Optimizer, group: dict[str, Any], scales: torch.Tensor) -> Optimizer:
    """An optimizer of the same class and settings for the scales, which do not decay."""
    if isinstance(optimizer, LBFGS):
        raise RecipeError("LBFGS computes the loss several times a step and cannot train ternary weights")
    known = inspect.signature(type(optimizer)).parameters
    settings = {k: v for k, v in group.items() if k in known and k != "params"}
    if "weight_decay" in settings:
        settings["weight_decay"] = 0.0
    try:
        return type(optimizer)([scales], **settings)
    except TypeError:
        return SGD([scales], lr=group["lr"])


@dataclass(eq=False)
class Relabelled(Latent):
    """Shared values whose members may change: a value is the mean of its members' shadows.

    Attributes:
        indices: each weight's cluster, int64 in the weight's shape.
        codebook: the clusters' values, ``(k,)``.
        fixed_zero: whether cluster 0 is the pruned weights, which stay at zero.
    """

    indices: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    codebook: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    fixed_zero: bool = True

    def updated(self, weight: torch.nn.Parameter, optimizer: Optimizer | None) -> None:
        """Move the values to the means of their members."""
        flat = self.indices.reshape(-1)
        sums = torch.zeros(self.codebook.numel(), dtype=torch.float64, device=flat.device)
        sums.index_add_(0, flat, self.shadow.reshape(-1).double())
        counts = torch.bincount(flat, minlength=self.codebook.numel())
        means = (sums / counts.clamp(min=1)).to(self.codebook.dtype)
        self.codebook = torch.where(counts > 0, means, self.codebook)
        if self.fixed_zero:
            self.codebook[0] = 0

    def constrain_weight(self, weight: torch.Tensor) -> None:
        """Set every weight to the value of its cluster."""
        weight.copy_(self.codebook[self.indices])

    def sound(self) -> bool:
        """Whether what a checkpoint held fits together: indices within the codebook."""
        if not super().sound() or self.indices.shape != self.shadow.shape:
            return False
        if not self.indices.numel():
            return True
        return int(self.indices.min()) >= 0 and int(self.indices.max()) < self.codebook.numel()

    def relabel(self, shared: QuantizedTensor) -> None:
        """Take clusters and values from a new quantization of the shadow."""
        device = self.shadow.device
        self.indices = torch.from_numpy(shared.indices.astype(np.int64)).to(device)
        self.codebook = torch.from_numpy(shared.codebook.copy()).to(device=device, dtype=self.shadow.dtype)


def read_latent(name: str, state: Mapping[str, Any]) -> Latent:
    """Make one from a checkpoint.

    Raises:
        CheckpointError: where it is damaged.
    """
    values = dict(state)
    kind = _KINDS.get(str(values.pop("latent", None)))
    try:
        if kind is None:
            raise TypeError("it holds no kind that is known")
        latent = kind(**values)
    except TypeError as error:
        raise CheckpointError(f"{name}: the checkpoint's quantized weights are damaged: {error}") from None
    if not latent.sound():
        raise CheckpointError(f"{name}: the checkpoint's quantized weights are damaged")
    return latent
