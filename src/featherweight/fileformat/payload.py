"""Payloads of single tensors: which coder, and for a quantized tensor its codebook in front."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from featherweight.coding import (
    Cursor,
    LayoutCoder,
    coder_by_id,
    encode_indices,
    encode_raw,
    raw_coder_by_id,
)
from featherweight.errors import FormatError, TensorError
from featherweight.fileformat.codebook import decode_codebook, encode_codebook
from featherweight.tensors import (
    FLOAT_DTYPES,
    ITEM_SIZES,
    QuantizedTensor,
    RawTensor,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.fileformat.directory import Entry

#: A tensor that has a payload.
PayloadTensor: TypeAlias = RawTensor | QuantizedTensor

#: Whoever names this coder wants a file that is read quickly, and pays for it with a few bytes.
FAST_CODER = "rans"

#: Ids below this one are of raw coders.
FIRST_CODER_ID = 16


def encode_tensor(tensor: PayloadTensor, coder: str) -> tuple[int, bytes]:
    """Code a tensor.

    Args:
        tensor: raw or quantized; a quantized one's own coder goes before ``coder``.
        coder: name of the coder for index arrays, or ``"auto"``.

    Returns:
        The coder's id and the payload.
    """
    if isinstance(tensor, RawTensor):
        if not _is_valid(tensor.dtype, tensor.data):
            raise TensorError("is of dtype bool but has bytes other than 0 and 1")
        data = np.ascontiguousarray(tensor.data)
        raw_coder, payload = encode_raw(data, ITEM_SIZES[tensor.dtype], fast=coder == FAST_CODER)
        return raw_coder.id, payload
    index_coder, indices = encode_indices(tensor.indices, tensor.codebook.size, tensor.coder or coder)
    fast = (tensor.coder or coder) == FAST_CODER
    return index_coder.id, encode_codebook(tensor.codebook, tensor.dtype, fast=fast) + indices


def decode_tensor(entry: Entry, payload: NDArray[np.uint8]) -> PayloadTensor:
    """Decode a tensor whose checksum has been found right.

    Raises:
        FormatError: if the payload is anything but a tensor of the entry's dtype and shape.
    """
    if entry.coder_id < FIRST_CODER_ID:
        raw_coder = raw_coder_by_id(entry.coder_id)
        data = raw_coder.decode(payload, entry.numel, ITEM_SIZES[entry.dtype])
        if not _is_valid(entry.dtype, data):
            raise FormatError("is of dtype bool but has bytes other than 0 and 1")
        return RawTensor(entry.dtype, entry.shape, data)
    coder = coder_by_id(entry.coder_id)
    codebook, indices = split_codebook(entry, payload)
    decoded = coder.decode(indices, entry.shape, codebook.size)
    try:
        return QuantizedTensor(decoded, codebook, entry.dtype, coder.name)
    except TensorError as error:
        raise FormatError(f"is no valid quantized tensor: {error}") from None


def decode_values(entry: Entry, payload: NDArray[np.uint8]) -> RawTensor | NDArray[Any]:
    """Decode a tensor to its values, for a quantized one without the detour over an array of indices.

    Returns:
        A raw tensor, or the values of a quantized one in its shape; of bfloat16 as ``float32``.

    Raises:
        FormatError: as :func:`decode_tensor` does.
    """
    coder = coder_by_id(entry.coder_id) if entry.coder_id >= FIRST_CODER_ID else None
    if not isinstance(coder, LayoutCoder):
        tensor = decode_tensor(entry, payload)
        return tensor.dequantize() if isinstance(tensor, QuantizedTensor) else tensor
    codebook, indices = split_codebook(entry, payload)
    _check_codebook(codebook, entry)
    return coder.decode_values(indices, entry.shape, codebook)


def _check_codebook(codebook: NDArray[Any], entry: Entry) -> None:
    try:
        QuantizedTensor(np.zeros(0, np.uint8), codebook, entry.dtype)
    except TensorError as error:
        raise FormatError(f"is no valid quantized tensor: {error}") from None


def _is_valid(dtype: str, data: NDArray[np.uint8]) -> bool:
    return dtype != "bool" or not data.size or int(data.max()) <= 1


def split_codebook(entry: Entry, payload: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """The codebook of a quantized tensor, and the rest of the payload, which is the coder's."""
    if entry.dtype not in FLOAT_DTYPES:
        raise FormatError(f"is quantized but of dtype {entry.dtype}")
    cursor = Cursor(payload)
    codebook = decode_codebook(cursor, entry.dtype)
    return codebook, cursor.rest()
