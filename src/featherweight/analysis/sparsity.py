"""How many weights of a model are nonzero, tensor by tensor and in all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from featherweight.tensors import QuantizedTensor, RawTensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


class TorchLike(Protocol):
    """What is asked of a ``torch.Tensor``, so that PyTorch need not be imported here."""

    @property
    def shape(self) -> Sequence[int]:
        """Sizes of the dimensions."""

    def count_nonzero(self) -> Any:
        """Number of nonzero elements, as a tensor of one element."""


AnyTensor: TypeAlias = "RawTensor | QuantizedTensor | NDArray[Any] | TorchLike"

#: Floats that NumPy lacks: the integer of their width, and the bits of it that are not the sign.
_MAGNITUDE_BITS = {
    "bfloat16": ("<u2", 0x7FFF),
    "float8_e4m3fn": ("<u1", 0x7F),
    "float8_e5m2": ("<u1", 0x7F),
}


@dataclass(frozen=True)
class TensorSparsity:
    """The nonzeros of one tensor.

    Attributes:
        name: the tensor's name.
        shape: its shape.
        nonzero: elements other than zero.
    """

    name: str
    shape: tuple[int, ...]
    nonzero: int

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def pruned(self) -> int:
        """Number of zeros."""
        return self.numel - self.nonzero


@dataclass(frozen=True)
class ModelSparsity:
    """The nonzeros of a model.

    Attributes:
        tensors: one entry a tensor, in the order of the mapping that was measured.
    """

    tensors: tuple[TensorSparsity, ...]

    @property
    def alive(self) -> int:
        """Number of nonzero elements."""
        return sum(tensor.nonzero for tensor in self.tensors)

    @property
    def total(self) -> int:
        """Number of elements."""
        return sum(tensor.numel for tensor in self.tensors)

    @property
    def pruned(self) -> int:
        """Number of zeros."""
        return self.total - self.alive

    @property
    def ratio(self) -> float:
        """Elements over nonzero elements; infinite where nothing is left, 1 for an empty model."""
        if not self.total:
            return 1.0
        return self.total / self.alive if self.alive else math.inf


def measure_sparsity(tensors: Mapping[str, AnyTensor]) -> ModelSparsity:
    """Count the nonzeros of every tensor.

    Args:
        tensors: a state dict, NumPy arrays, or what :func:`featherweight.compress` returns.

    Example:
        >>> measure_sparsity({"fc.weight": np.array([[0.0, 1.0], [0.0, 2.0]])}).pruned
        2
    """
    return ModelSparsity(
        tuple(
            TensorSparsity(name, tuple(int(size) for size in tensor.shape), count_nonzero(tensor))
            for name, tensor in tensors.items()
        )
    )


def count_nonzero(tensor: AnyTensor) -> int:
    """Number of elements other than zero; -0.0 is zero, NaN is not."""
    if isinstance(tensor, QuantizedTensor):
        return tensor.nonzero
    if isinstance(tensor, RawTensor):
        return _count_raw(tensor)
    if isinstance(tensor, np.ndarray):
        return int(np.count_nonzero(tensor))
    return int(tensor.count_nonzero())


def _count_raw(tensor: RawTensor) -> int:
    data = np.ascontiguousarray(tensor.data)
    if tensor.dtype in _MAGNITUDE_BITS:
        integer, magnitude = _MAGNITUDE_BITS[tensor.dtype]
        return int(np.count_nonzero(data.view(integer) & magnitude))
    return int(np.count_nonzero(data.view(np.dtype(tensor.dtype).newbyteorder("<"))))
