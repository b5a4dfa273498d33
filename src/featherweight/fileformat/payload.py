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
    encode_varint,
    raw_coder_by_id,
)
from featherweight.errors import FormatError, TensorError
from featherweight.fileformat.directory import dtype_by_code, dtype_code
from featherweight.tensors import (
    FLOAT_DTYPES,
    ITEM_SIZES,
    MAX_CODEBOOK_SIZE,
    QuantizedTensor,
    RawTensor,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.fileformat.directory import Entry

#: A tensor that has a payload.
PayloadTensor: TypeAlias = RawTensor | QuantizedTensor

#: Ids below this one are of raw coders.
FIRST_CODER_ID = 16

#: Types that a codebook may be stored in, by the type that the tensor decodes to; the smallest first.
_CODEBOOK_STORAGE = {
    "float64": ("float16", "float32", "float64"),
    "float32": ("float16", "bfloat16", "float32"),
    "float16": ("float16",),
    "bfloat16": ("bfloat16",),
}


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
        raw_coder, payload = encode_raw(np.ascontiguousarray(tensor.data), ITEM_SIZES[tensor.dtype])
        return raw_coder.id, payload
    index_coder, indices = encode_indices(tensor.indices, tensor.codebook.size, tensor.coder or coder)
    return index_coder.id, _encode_codebook(tensor.codebook, tensor.dtype) + indices


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
    size = cursor.varint()
    if size > MAX_CODEBOOK_SIZE:
        raise FormatError(f"has a codebook of {size} values; at most {MAX_CODEBOOK_SIZE} are allowed")
    storage = dtype_by_code(cursor.byte())
    if storage not in _CODEBOOK_STORAGE[entry.dtype]:
        raise FormatError(f"has a codebook stored as {storage} for elements of {entry.dtype}")
    stored = cursor.take(size * ITEM_SIZES[storage])
    return _widen(stored, storage, _carrier(entry.dtype)), cursor.rest()


def _encode_codebook(codebook: NDArray[Any], dtype: str) -> bytes:
    """Store a codebook in the smallest type that keeps every bit of it."""
    for storage in _CODEBOOK_STORAGE[dtype]:
        stored = _narrow(codebook, storage)
        widened = _widen(np.frombuffer(stored, np.uint8), storage, codebook.dtype)
        if widened.tobytes() == codebook.tobytes():
            return encode_varint(codebook.size) + bytes([dtype_code(storage)]) + stored
    raise TensorError(f"has a codebook that cannot be stored as {dtype}")


def _carrier(dtype: str) -> np.dtype[Any]:
    """NumPy's type for the values of a dtype; bfloat16, which it lacks, is carried by float32."""
    return np.dtype("float32" if dtype == "bfloat16" else dtype)


def _narrow(codebook: NDArray[Any], storage: str) -> bytes:
    if storage == "bfloat16":
        high = np.ascontiguousarray(codebook).view(np.uint32) >> np.uint32(16)
        return high.astype("<u2").tobytes()
    with np.errstate(over="ignore", under="ignore"):  # the caller compares bits, and so sees what is lost
        return codebook.astype(np.dtype(storage).newbyteorder("<")).tobytes()


def _widen(stored: NDArray[np.uint8], storage: str, carrier: np.dtype[Any]) -> NDArray[Any]:
    data = stored.tobytes()
    if storage == "bfloat16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    with np.errstate(invalid="ignore"):  # a signalling NaN, which the caller refuses in its own words
        return np.frombuffer(data, np.dtype(storage).newbyteorder("<")).astype(carrier)
