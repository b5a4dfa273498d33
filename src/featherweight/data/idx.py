"""IDX, the format of MNIST's files.

Two zero bytes, a code for the element type, the number of dimensions, each dimension as a big-endian
uint32, then the elements, big-endian, the last dimension fastest.

Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.data.gzipped import REMEDY, read_uncompressed
from featherweight.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

#: Element types by their code in the third byte.
IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

# Of the part before the dimensions.
_PREFIX_BYTES = 4
_DIMENSION_BYTES = 4


def read_idx(path: Path) -> NDArray[Any]:
    """Read an IDX file, gzipped or not.

    Args:
        path: an existing file.

    Returns:
        Its array, of its own shape, in native byte order.

    Raises:
        DataError: if the file is damaged, cut short, too long or no IDX file.
    """
    contents = read_uncompressed(path)
    array = parse_idx(contents.data, str(path))
    if not contents.complete:
        raise DataError(f"{path} is cut short: the end of its gzip stream is missing; {REMEDY}")
    return array


def parse_idx(data: bytes, name: str) -> NDArray[Any]:
    """Decode the contents of an IDX file.

    Args:
        data: the uncompressed contents.
        name: what to call it in errors.

    Returns:
        The array, of its own shape, in native byte order.

    Raises:
        DataError: if the contents are not exactly one IDX array.
    """
    if len(data) < _PREFIX_BYTES:
        raise DataError(f"{name} has {len(data)} bytes, too few for an IDX header; {REMEDY}")
    zeros, code, ndim = struct.unpack(">HBB", data[:_PREFIX_BYTES])
    if zeros != 0 or code not in IDX_DTYPES or ndim == 0:
        raise DataError(
            f"{name} is no IDX file: it must start with 00 00, a type of 08 to 0E and a number of "
            f"dimensions, and starts with {data[:_PREFIX_BYTES].hex(' ')}; {REMEDY}"
        )
    header_bytes = _PREFIX_BYTES + ndim * _DIMENSION_BYTES
    if len(data) < header_bytes:
        raise DataError(f"{name} has {len(data)} bytes of an IDX header of {header_bytes}; {REMEDY}")

    shape = struct.unpack(f">{ndim}I", data[_PREFIX_BYTES:header_bytes])
    dtype = np.dtype(IDX_DTYPES[code])
    expected = header_bytes + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise DataError(
            f"{name} is {'cut short' if len(data) < expected else 'too long'}: an IDX array of shape {shape} "
            f"takes {expected:,} bytes, there are {len(data):,}; {REMEDY}"
        )
    elements = np.frombuffer(data, dtype, offset=header_bytes).reshape(shape)
    return elements.astype(dtype.newbyteorder("="))
