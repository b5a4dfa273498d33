"""Find out that a float tensor has few distinct values, and is better told as a codebook and indices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.coding import entropy_bits, histogram
from featherweight.tensors import ITEM_SIZES, MAX_CODEBOOK_SIZE, QuantizedTensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: About so many elements are looked at first.
_SAMPLE_SIZE = 1 << 16

#: A sample is dense if it has this many nonzero elements, and this fraction of them are distinct. The most
#: values that a codebook holds, 65,536 drawn evenly, stay at 0.63.
_SAMPLE_LEAST = 1024
_SAMPLE_DENSE = 0.75

#: What a codebook and two code tables take beside their values, in bits: once, and for every value.
_OVERHEAD_BITS = 64
_TABLE_BITS = 2


def find_codebook(
    data: NDArray[Any], max_size: int = MAX_CODEBOOK_SIZE, *, dtype: str = ""
) -> QuantizedTensor | None:
    """Tell a float array as codebook and indices, if that is exact and takes fewer bytes.

    Values are told apart by their bits, so -0.0 and 0.0 are two, and what is decoded has the same bits. 0.0
    has index 0 if it occurs; other values follow in ascending order.

    Args:
        data: ``float16``, ``float32`` or ``float64``, of any shape and byte order.
        max_size: values that the codebook may have, at most 65,536.
        dtype: ``"bfloat16"`` if a ``float32`` array holds bfloat16 values; else the array's own.

    Returns:
        The quantized tensor, or ``None``: too many values, NaN or infinity among them, or nothing gained.
    """
    native = np.ascontiguousarray(data, data.dtype.newbyteorder("="))
    bits = native.reshape(-1).view(f"u{native.itemsize}")
    if _looks_dense(bits):
        return None
    from featherweight.fileformat.detect_kernel import assign

    max_size = min(max_size, MAX_CODEBOOK_SIZE)
    distinct = np.empty(max_size, bits.dtype)
    order_of_appearance = np.empty(bits.size, np.uint16)
    count = assign(bits, distinct, order_of_appearance)
    if count > max_size:
        return None
    values = distinct[:count].view(native.dtype)
    if not np.isfinite(values).all():
        return None
    order = np.argsort(values, kind="stable")
    is_zero = distinct[:count][order] == 0  # 0.0 alone: -0.0 has its sign bit set
    order = np.concatenate([order[is_zero], order[~is_zero]])
    rank = np.empty(count, np.uint8 if count <= 256 else np.uint16)
    rank[order] = np.arange(count)
    indices = rank[order_of_appearance].reshape(data.shape)
    found = QuantizedTensor(indices, values[order], dtype)
    return found if _is_smaller(found) else None


def _looks_dense(bits: NDArray[Any]) -> bool:
    sample = bits[:: max(1, bits.size // _SAMPLE_SIZE)]
    sample = sample[sample != 0]
    return bool(sample.size >= _SAMPLE_LEAST and np.unique(sample).size > _SAMPLE_DENSE * sample.size)


def _is_smaller(tensor: QuantizedTensor) -> bool:
    """Whether codebook and coded indices take less than the raw elements, with or without the zeros."""
    item_bits = 8 * ITEM_SIZES[tensor.dtype]
    counts = histogram(tensor.indices, tensor.codebook.size)
    size = tensor.codebook.size
    quantized = size * (item_bits + _TABLE_BITS) + entropy_bits(counts) + _OVERHEAD_BITS
    # Only 0.0 is left out of a raw tensor, never -0.0.
    has_zero = size > 0 and tensor.codebook[0] == 0 and not np.signbit(tensor.codebook[0])
    zeros = int(counts[0]) if has_zero else 0
    nonzero = tensor.numel - zeros
    sparse = nonzero * item_bits + entropy_bits(np.array([zeros, nonzero]))
    return bool(quantized < min(sparse, tensor.numel * item_bits))
