"""Mappings of tensors that are made when they are asked for, and what is known of them before.

A checkpoint larger than memory goes through the package as one of these: whoever writes a file asks for one
tensor at a time and lets it go before the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from featherweight.errors import TensorError
from featherweight.tensors import QuantizedTensor

T_co = TypeVar("T_co", covariant=True, bound=torch.Tensor | QuantizedTensor)


@dataclass(frozen=True)
class TensorSpec:
    """What a tensor will be.

    Attributes:
        dtype: PyTorch's name of its element type.
        shape: its shape.
        dense: whether it has memory of the usual kind; sparse and meta tensors have not.
    """

    dtype: str
    shape: tuple[int, ...]
    dense: bool = True

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory."""
        item_size: int = getattr(torch, self.dtype).itemsize
        return math.prod(self.shape) * item_size


class LazyTensors(Mapping[str, T_co]):
    """Tensors by name, each made when it is asked for, every time anew.

    Attributes:
        specs: what each tensor will be, by name, in order.
        owners: of each name the one that stands for all names of a tied tensor; itself for most.
    """

    def __init__(self, specs: Mapping[str, TensorSpec], owners: Mapping[str, str] | None = None) -> None:
        self.specs = dict(specs)
        self.owners = {name: name for name in specs} if owners is None else dict(owners)

    def __iter__(self) -> Iterator[str]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)

    def __contains__(self, name: object) -> bool:
        return name in self.specs  # Mapping's own would make the tensor

    @property
    def distinct(self) -> list[str]:
        """A name for each tensor, tied ones once."""
        return list(dict.fromkeys(self.owners.values()))

    @property
    def dense_bytes(self) -> int:
        """Bytes of all tensors at their own dtypes, tied ones once."""
        return sum(self.specs[name].nbytes for name in self.distinct)


class HeldTensors(LazyTensors[T_co]):
    """Tensors that are in memory anyway; names of the same memory are tied."""

    def __init__(self, tensors: Mapping[str, T_co]) -> None:
        # Held, so that no two tensors that the mapping makes when asked have the same memory in turn.
        self._tensors = dict(tensors)
        first: dict[Any, str] = {}
        owners = {name: first.setdefault(identity(name, t), name) for name, t in self._tensors.items()}
        super().__init__({name: spec_of(tensor) for name, tensor in self._tensors.items()}, owners)

    def __getitem__(self, name: str) -> T_co:
        return self._tensors[name]


class WatchedTensors(LazyTensors[T_co]):
    """The same tensors, telling ``watch`` the name of each that has been made."""

    def __init__(self, tensors: LazyTensors[T_co], watch: Callable[[str], object]) -> None:
        super().__init__(tensors.specs, tensors.owners)
        self._tensors = tensors
        self._watch = watch

    def __getitem__(self, name: str) -> T_co:
        tensor = self._tensors[name]
        self._watch(name)
        return tensor


def as_lazy(tensors: Mapping[str, T_co]) -> LazyTensors[T_co]:
    """Any mapping as a lazy one; the tensors of one that is not are all held in memory."""
    return tensors if isinstance(tensors, LazyTensors) else HeldTensors(tensors)


def spec_of(tensor: torch.Tensor | QuantizedTensor) -> TensorSpec:
    """What a tensor is."""
    if isinstance(tensor, QuantizedTensor):
        return TensorSpec(tensor.dtype, tensor.shape)
    return TensorSpec(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), _is_dense(tensor))


def identity(name: str, tensor: torch.Tensor | QuantizedTensor) -> Any:
    """What tied tensors have in common and others have not."""
    if isinstance(tensor, QuantizedTensor):
        return id(tensor)
    if not isinstance(tensor, torch.Tensor):
        raise TensorError(f"{name}: expected a torch.Tensor or QuantizedTensor, got {type(tensor).__name__}")
    if not _is_dense(tensor) or tensor.numel() == 0:
        return name
    # A lazy conjugate or negative has the memory of its origin, but other values.
    lazy = tensor.is_conj(), tensor.is_neg()
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device, lazy


def _is_dense(tensor: torch.Tensor) -> bool:
    return tensor.device.type != "meta" and tensor.layout == torch.strided
