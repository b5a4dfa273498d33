"""The sizes of a ``.fwt`` file: its bytes, and beside them the two other counts of the literature.

*H* is Han's accounting (weight codes, position codes and codebooks, Huffman-coded; a tensor that is not
quantized at its own size), *N* is weights over nonzero weights. Whatever coder the file uses, H is counted
from its indices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from featherweight.analysis.sparsity import count_nonzero
from featherweight.coding import PaperSizes, paper_sizes
from featherweight.tensors import ITEM_SIZES, QuantizedTensor, RawTensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from featherweight.fileformat import FileReader, TensorInfo


@dataclass(frozen=True)
class TensorSizes:
    """The sizes of one tensor of a file.

    Attributes:
        name: the tensor's name.
        shape: its shape.
        dtype: PyTorch's name of the element type that it decodes to.
        nonzero: elements other than zero.
        coder: the coder of its bytes in the file.
        bytes: its bytes in the file, codebook and tables included; 0 if it is tied to another tensor.
        codebook_size: values in the codebook; ``None`` for a tensor that is not quantized.
        paper: Han's accounting of a quantized tensor.
        alias_of: name of the tensor that it is tied to.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    nonzero: int
    coder: str
    bytes: int
    codebook_size: int | None = None
    paper: PaperSizes | None = None
    alias_of: str | None = None

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def dense_bytes(self) -> int:
        """Bytes of the decoded tensor, at its own dtype."""
        return self.numel * ITEM_SIZES[self.dtype]

    @property
    def bits_per_weight(self) -> float:
        """Bits in the file an element; 0 for an empty tensor."""
        return 8 * self.bytes / self.numel if self.numel else 0.0

    @property
    def bits_p(self) -> int:
        """Bits after pruning alone: values of their own width, and where they are; dense if that is less."""
        if self.paper is not None and self.paper.nonzero == self.nonzero:
            return self.paper.total_bits_p
        # Not quantized, or index 0 is no zero: a bit says of each weight whether it is there.
        dense = 8 * self.dense_bytes
        return min(dense, self.nonzero * 8 * ITEM_SIZES[self.dtype] + self.numel)

    @property
    def bits_pq(self) -> int:
        """Bits after pruning and quantization, by Han's accounting."""
        return self.paper.total_bits_pq if self.paper is not None else 8 * self.dense_bytes

    @property
    def bits_pqh(self) -> int:
        """Bits after pruning, quantization and Huffman coding, by Han's accounting."""
        return self.paper.total_bits_pqh if self.paper is not None else 8 * self.dense_bytes


@dataclass(frozen=True)
class ModelSizes:
    """The sizes of a file.

    Attributes:
        file_bytes: bytes on disk.
        coder: the coder of all quantized tensors, ``"mixed"`` if they have several, ``"none"`` if there are
            none.
        tensors: every tensor of the file, in its order.
    """

    file_bytes: int
    coder: str
    tensors: tuple[TensorSizes, ...]

    @property
    def stored(self) -> tuple[TensorSizes, ...]:
        """The tensors without those tied to another one: every weight once."""
        return tuple(tensor for tensor in self.tensors if tensor.alias_of is None)

    @property
    def quantized(self) -> tuple[TensorSizes, ...]:
        """The stored tensors that are a codebook and indices."""
        return tuple(tensor for tensor in self.stored if tensor.paper is not None)

    @property
    def dense_bytes(self) -> int:
        """Bytes of the decoded model, every tensor at its own dtype, tied ones once."""
        return sum(tensor.dense_bytes for tensor in self.stored)

    @property
    def ratio(self) -> float:
        """The headline: dense bytes over the bytes of the file on disk."""
        return self.dense_bytes / self.file_bytes

    @property
    def ratio_h(self) -> float:
        """Dense size over Han's accounting after pruning, quantization and Huffman coding."""
        return _ratio(8 * self.dense_bytes, sum(tensor.bits_pqh for tensor in self.stored))

    @property
    def ratio_n(self) -> float:
        """Weights over nonzero weights, of tensors that are quantized or have two dimensions or more."""
        weights = [tensor for tensor in self.stored if tensor.paper is not None or len(tensor.shape) > 1]
        return _ratio(sum(w.numel for w in weights), sum(w.nonzero for w in weights))

    def to_dict(self) -> dict[str, Any]:
        """The sizes as ``featherweight inspect --json`` prints them."""
        return {
            "bytes": self.file_bytes,
            "dense_bytes": self.dense_bytes,
            "ratio": self.ratio,
            "coder": self.coder,
            "tensors": [
                {
                    "name": tensor.name,
                    "shape": list(tensor.shape),
                    "dtype": tensor.dtype,
                    "numel": tensor.numel,
                    "nonzero": tensor.nonzero,
                    "codebook_size": tensor.codebook_size,
                    "coder": tensor.coder,
                    "bytes": tensor.bytes,
                    "bits_per_weight": tensor.bits_per_weight,
                }
                for tensor in self.tensors
            ],
        }


def measure_file(
    reader: FileReader,
    *,
    each: Callable[[], None] = lambda: None,
    look: Callable[[TensorSizes, RawTensor | QuantizedTensor], None] | None = None,
) -> ModelSizes:
    """Decode an open file tensor by tensor and tell its sizes.

    Args:
        reader: the open file.
        each: called after every tensor, to show progress.
        look: called with every tensor that is not tied to another, and its sizes, while it is in memory.

    Raises:
        FormatError: if a tensor is damaged.
    """
    measured: dict[str, TensorSizes] = {}
    for info in map(reader.info, reader.names):
        if info.alias_of is None:
            tensor = reader.read(info.name)
            measured[info.name] = measure_tensor(info, tensor)
            if look is not None:
                look(measured[info.name], tensor)
            each()
    tied = [info for info in map(reader.info, reader.names) if info.alias_of is not None]
    for info in tied:
        measured[info.name] = replace(
            measured[str(info.alias_of)], name=info.name, bytes=0, alias_of=info.alias_of
        )
    return ModelSizes(reader.file_bytes, reader.coder, tuple(measured[name] for name in reader.names))


def measure_tensor(info: TensorInfo, tensor: RawTensor | QuantizedTensor) -> TensorSizes:
    """The sizes of one tensor, from what the file says of it and the tensor itself."""
    common = (info.name, info.shape, info.dtype, count_nonzero(tensor), info.coder, info.bytes)
    if not isinstance(tensor, QuantizedTensor):
        return TensorSizes(*common)
    size = tensor.codebook.size
    paper = paper_sizes(tensor.indices, size, 8 * ITEM_SIZES[tensor.dtype])
    return TensorSizes(*common, codebook_size=size, paper=paper)


def fraction(parts: Iterable[int], wholes: Iterable[int]) -> float:
    """A sum over another one; 1 where both are empty, as nothing of nothing is lost."""
    part, whole = sum(parts), sum(wholes)
    return part / whole if whole else 1.0


def _ratio(before: int, after: int) -> float:
    if not before:
        return 1.0
    return before / after if after else math.inf
