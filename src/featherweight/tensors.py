"""What a compressed model is made of: a mapping from tensor name to one of three things.

- :class:`RawTensor`: a dtype, a shape and the bytes, kept as they are;
- :class:`QuantizedTensor`: a small codebook and an array of indices into it;
- :class:`Alias`: the name of another tensor that this one is tied to.

Every floor of the package speaks these types; they need NumPy alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from featherweight.errors import TensorError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Bytes an element of every dtype that a file can hold, by its PyTorch name.
ITEM_SIZES: dict[str, int] = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "complex64": 8,
    "complex128": 16,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    "bool": 1,
}

#: Dtypes that a codebook can decode to.
FLOAT_DTYPES = ("float64", "float32", "float16", "bfloat16")

#: Indices are uint8 or uint16, so a codebook holds at most this many values.
MAX_CODEBOOK_SIZE = 1 << 16


@dataclass(frozen=True, eq=False)
class RawTensor:
    """A tensor kept as it is.

    Attributes:
        dtype: PyTorch's name of the element type, a key of :data:`ITEM_SIZES`.
        shape: the tensor's shape.
        data: its elements as little-endian bytes, C order, ``uint8`` of shape ``(numel * item size,)``.
    """

    dtype: str
    shape: tuple[int, ...]
    data: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.dtype not in ITEM_SIZES:
            raise TensorError(f"dtype {self.dtype!r} cannot be stored; known: {', '.join(ITEM_SIZES)}")
        if self.data.dtype != np.uint8 or self.data.ndim != 1:
            raise TensorError(f"raw data must be a 1-D uint8 array, got {self.data.ndim}-D {self.data.dtype}")
        if self.data.size != self.numel * ITEM_SIZES[self.dtype]:
            raise TensorError(
                f"{self.data.size} bytes do not make a {self.dtype} tensor of shape {self.shape}: "
                f"expected {self.numel * ITEM_SIZES[self.dtype]}"
            )

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """A tensor whose elements share a few values: ``codebook[indices]``.

    A pruned weight is index 0, whose codebook entry is then exactly 0.

    Attributes:
        indices: ``uint8`` or ``uint16``, in the tensor's shape, each below ``len(codebook)``.
        codebook: 1-D ``float16``, ``float32`` or ``float64``, finite, at most 65,536 values.
        dtype: PyTorch's name of the element type that it decodes to; the codebook's own unless given.
            ``"bfloat16"``, which NumPy lacks, goes with a ``float32`` codebook of bfloat16 values.
        coder: name of the coder that a recipe chose for it; ``None`` leaves that to ``save_file``.

    Raises:
        TensorError: where any of this does not hold.
    """

    indices: NDArray[Any]
    codebook: NDArray[Any]
    dtype: str = ""
    coder: str | None = None

    def __post_init__(self) -> None:
        if self.indices.dtype not in (np.uint8, np.uint16):
            raise TensorError(f"indices must be uint8 or uint16, got {self.indices.dtype}")
        if self.codebook.ndim != 1 or self.codebook.dtype not in (np.float16, np.float32, np.float64):
            raise TensorError(
                f"a codebook must be 1-D float16, float32 or float64, "
                f"got {self.codebook.ndim}-D {self.codebook.dtype}"
            )
        if self.codebook.size > MAX_CODEBOOK_SIZE:
            raise TensorError(
                f"a codebook holds at most {MAX_CODEBOOK_SIZE} values, got {self.codebook.size}"
            )
        if not np.isfinite(self.codebook).all():
            raise TensorError("a codebook must be finite, got NaN or infinity")
        if self.indices.size and int(self.indices.max()) >= self.codebook.size:
            raise TensorError(
                f"index {int(self.indices.max())} is outside a codebook of {self.codebook.size} values"
            )
        if not self.dtype:
            object.__setattr__(self, "dtype", self.codebook.dtype.name)
        self._check_dtype()

    def _check_dtype(self) -> None:
        carrier = "float32" if self.dtype == "bfloat16" else self.dtype
        if self.dtype not in FLOAT_DTYPES or self.codebook.dtype.name != carrier:
            raise TensorError(f"a {self.codebook.dtype} codebook cannot decode to {self.dtype!r}")
        if self.dtype == "bfloat16" and (self.codebook.view(np.uint32) & 0xFFFF).any():
            raise TensorError("codebook values are not bfloat16 values; round them first")

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.indices.shape

    @property
    def numel(self) -> int:
        """Number of elements."""
        return self.indices.size

    @property
    def nonzero(self) -> int:
        """Number of elements that decode to something other than zero."""
        counts = np.bincount(self.indices.reshape(-1), minlength=self.codebook.size)
        return int(counts[self.codebook != 0].sum())

    def dequantize(self) -> NDArray[Any]:
        """The tensor's values, in the codebook's dtype and the tensor's shape."""
        values: NDArray[Any] = np.asarray(self.codebook[self.indices])  # of a scalar, NumPy makes no array
        return values


@dataclass(frozen=True)
class Alias:
    """A tensor tied to another one of the same file, stored once under ``target``."""

    target: str


StoredTensor: TypeAlias = RawTensor | QuantizedTensor | Alias
