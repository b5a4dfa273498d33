"""Compressed files of NumPy arrays, with no torch installed.

    >>> import numpy as np
    >>> from featherweight.numpy import load_file, save_file
    >>> save_file({"weight": np.zeros((300, 784), np.float32)}, "model.fwt")
    >>> load_file("model.fwt")["weight"].shape
    (300, 784)

Types that NumPy lacks come back widened to ``float32``, which holds each of their values: ``bfloat16``,
``float8_e4m3fn`` and ``float8_e5m2``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from featherweight.coding import DEFAULT_CODER
from featherweight.coding.numba_when_it_pays import expect
from featherweight.errors import TensorError
from featherweight.fileformat import FileReader, TensorInfo, find_codebook, write_file
from featherweight.tensors import ITEM_SIZES, QuantizedTensor, RawTensor

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from featherweight.tensors import StoredTensor

__all__ = ["OpenFile", "QuantizedTensor", "load_file", "open_file", "save_file"]


def save_file(
    tensors: Mapping[str, NDArray[Any] | QuantizedTensor],
    path: str | os.PathLike[str],
    *,
    coder: str = DEFAULT_CODER,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = True,
) -> None:
    """Write arrays to a ``.fwt`` file, without loss.

    A float array of few distinct values is stored as a codebook and indices where that is smaller.

    Args:
        tensors: arrays or quantized tensors by name, fetched one at a time.
        path: where the file shall be; it appears whole or not at all.
        coder: name of the coder for indices.
        metadata: text to keep with the tensors.
        overwrite: whether to replace a file that is there already.

    Raises:
        TensorError: if a tensor cannot be stored; it names the tensor.
        OutputError: if the file cannot be written, or is there already and must not be overwritten.
        UnknownCoderError: if there is no such coder.
    """
    write_file(path, _StoredTensors(tensors), coder=coder, metadata=metadata, overwrite=overwrite)


def load_file(path: str | os.PathLike[str], *, max_bytes: int | None = None) -> dict[str, NDArray[Any]]:
    """Read all arrays of a ``.fwt`` file.

    Args:
        path: the file.
        max_bytes: bytes that all arrays together may decode to; 16 GiB unless given.

    Returns:
        Arrays by name; names that are tied to one another share one array.

    Raises:
        FormatError: if the file is damaged, or its arrays are larger than ``max_bytes``.
        FeatherweightError: if it cannot be opened.
    """
    with FileReader(path, max_bytes=max_bytes) as reader:
        reader.check_total()
        infos = [reader.info(name) for name in reader.names]
        expect(sum(info.bytes for info in infos if info.coder != "plain"))
        aliases = {name: reader.info(name).alias_of for name in reader.names}
        stored = {
            name: to_array(reader.read_values(name)) for name, target in aliases.items() if target is None
        }
        return {name: stored[target or name] for name, target in aliases.items()}


def open_file(path: str | os.PathLike[str], max_bytes: int | None = None) -> OpenFile:
    """Open a ``.fwt`` file to read single tensors from; raises as :func:`load_file` does.

    Args:
        path: the file.
        max_bytes: bytes that one tensor may decode to; 16 GiB unless given.
    """
    return OpenFile(FileReader(path, max_bytes=max_bytes))


class OpenFile:
    """An open ``.fwt`` file; a context manager. Its methods raise :class:`KeyError` for an unknown name."""

    def __init__(self, reader: FileReader) -> None:
        self._reader = reader

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._reader.close()

    def keys(self) -> list[str]:
        """Names of the tensors, ascending."""
        return list(self._reader.names)

    @property
    def metadata(self) -> dict[str, str]:
        """The file's metadata."""
        return dict(self._reader.metadata)

    def info(self, name: str) -> TensorInfo:
        """Shape, dtype, coder and size of a tensor, without decoding it."""
        return self._reader.info(name)

    def get_tensor(self, name: str) -> NDArray[Any]:
        """Decode a tensor to an array; raises :class:`FormatError` if it is damaged."""
        return to_array(self._reader.read_values(name))

    def get_quantized(self, name: str) -> QuantizedTensor:
        """Decode a tensor to codebook and indices.

        Raises:
            TensorError: if it is stored raw.
            FormatError: if it is damaged.
        """
        if not self._reader.info(name).quantized:
            raise TensorError(f"tensor {name!r} is stored raw, it has no codebook; use get_tensor")
        tensor = self._reader.read(name)
        assert isinstance(tensor, QuantizedTensor)  # noqa: S101 - its info has just said so
        return tensor


class _StoredTensors(Mapping[str, "StoredTensor"]):
    """The same mapping with arrays turned into what a file holds, each when it is asked for."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> StoredTensor:
        tensor = self._tensors[name]
        if isinstance(tensor, QuantizedTensor):
            return tensor
        try:
            return from_array(tensor)
        except TensorError as error:
            raise TensorError(f"tensor {name!r}: {error}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def from_array(array: NDArray[Any]) -> RawTensor | QuantizedTensor:
    """What a file holds of an array: its bytes, or codebook and indices where that is exact and smaller.

    Raises:
        TensorError: if it is no array of a type that can be stored.
    """
    if not isinstance(array, (np.ndarray, np.generic)):
        raise TensorError(f"expected a NumPy array or a QuantizedTensor, got {type(array).__name__}")
    if array.dtype.kind not in "biufc" or array.dtype.name not in ITEM_SIZES:
        raise TensorError(f"dtype {array.dtype} cannot be stored; convert it to a number type")
    if array.dtype.kind == "f":
        quantized = find_codebook(np.asarray(array))
        if quantized is not None:
            return quantized
    little = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    return RawTensor(array.dtype.name, array.shape, little.reshape(-1).view(np.uint8))


def to_array(tensor: RawTensor | QuantizedTensor | NDArray[Any]) -> NDArray[Any]:
    """The array of a stored tensor, in native byte order; see the module on types that NumPy lacks."""
    if isinstance(tensor, np.ndarray):
        return tensor
    if isinstance(tensor, QuantizedTensor):
        return tensor.dequantize()
    return _decode_elements(tensor.dtype, tensor.data).reshape(tensor.shape)


def _decode_elements(dtype: str, data: NDArray[np.uint8]) -> NDArray[Any]:
    if dtype == "bfloat16":
        return (data.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype == "float8_e5m2":  # the high byte of a float16
        return (data.astype(np.uint16) << np.uint16(8)).view(np.float16).astype(np.float32)
    if dtype == "float8_e4m3fn":
        return _E4M3FN_VALUES[data]
    return data.view(np.dtype(dtype).newbyteorder("<")).astype(dtype, copy=False)


def _e4m3fn_values() -> NDArray[np.float32]:
    """Every float8_e4m3fn by its bits: 4 exponent bits, bias 7; 3 mantissa bits; NaN but no infinity."""
    bits = np.arange(256)
    exponent, mantissa = bits >> 3 & 15, bits & 7
    magnitude = np.where(exponent > 0, np.ldexp(8.0 + mantissa, exponent - 10), np.ldexp(mantissa, -9))
    magnitude[bits & 0x7F == 0x7F] = np.nan
    values: NDArray[np.float32] = np.where(bits >> 7, -magnitude, magnitude).astype(np.float32)
    return values


_E4M3FN_VALUES = _e4m3fn_values()
