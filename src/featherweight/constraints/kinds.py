"""The kinds of constraint on one weight: a mask, values that its entries share, or a shadow behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from featherweight.constraints import kernels
from featherweight.constraints.latent import Latent, read_latent
from featherweight.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping


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


Constraint = Mask | Sharing | Latent


def read_constraint(name: str, fields: Mapping[str, Any]) -> Constraint:
    """Make a constraint from a checkpoint, whose indices the kernels will trust.

    Raises:
        CheckpointError: where the checkpoint holds none, or its indices are out of range.
    """
    if "latent" in fields:
        return read_latent(name, fields)
    try:
        constraint: Mask | Sharing = Mask(**fields) if "keep" in fields else Sharing(**fields)
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
