"""The end of a ``.fwt`` file: its directory, plain or coded, the size of that, and the checksum.

Names and shapes of a small network take as much room as some payloads, and are like those of other networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from featherweight.coding import Cursor, encode_varint
from featherweight.coding.adaptive_bytes import AdaptiveBytes
from featherweight.coding.range_coder import RangeDecoder, RangeEncoder
from featherweight.errors import FormatError
from featherweight.fileformat.directory import (
    MAX_DIRECTORY_BYTES,
    Directory,
    Entry,
    decode_directory,
    encode_directory,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Longer directories would take plain Python too long.
MAX_CODED_BYTES = 1 << 12

#: Flags beside the directory's size.
_CODED, _JOINT = 1 << 31, 1 << 30
_SIZE_MASK = (1 << 25) - 1

#: What a coded directory is expected to look like: names and shapes that are common.
_COMMON = (
    ("bn1.bias", (64,)),
    ("bn1.num_batches_tracked", ()),
    ("bn1.running_mean", (64,)),
    ("bn1.running_var", (64,)),
    ("bn1.weight", (64,)),
    ("classifier.bias", (10,)),
    ("classifier.weight", (10, 128)),
    ("conv1.bias", (20,)),
    ("conv1.weight", (20, 1, 5, 5)),
    ("conv2.bias", (50,)),
    ("conv2.weight", (50, 20, 5, 5)),
    ("fc1.bias", (300,)),
    ("fc1.weight", (300, 784)),
    ("fc2.bias", (100,)),
    ("fc2.weight", (100, 300)),
    ("fc3.bias", (10,)),
    ("fc3.weight", (10, 100)),
    ("head.bias", (1000,)),
    ("layer1.0.conv1.weight", (64, 64, 3, 3)),
    ("linear.bias", (10,)),
    ("linear.weight", (10, 64)),
)
_COMMON_VECTOR_CODER, _COMMON_MATRIX_CODER = 3, 19


@dataclass(frozen=True)
class Trailer:
    """What the last bytes of a file say of those before.

    Attributes:
        stored_bytes: of the directory as it is stored.
        coded: whether it is coded.
        joint: whether the checksum is that of the payloads, too.
        crc32: the checksum.
    """

    stored_bytes: int
    coded: bool
    joint: bool
    crc32: int


def pack_directory(directory: Directory, *, joint: bool) -> tuple[bytes, bytes]:
    """A directory as it is stored, and its size and flags as the trailer has them.

    Raises:
        TensorError: if it is too large to be read back.
    """
    plain = encode_directory(directory, joint=joint)
    stored, flags = plain, _JOINT * joint
    if len(plain) <= MAX_CODED_BYTES:
        coder = RangeEncoder()
        AdaptiveBytes(_primer()).code(coder, len(plain), plain)
        coded = encode_varint(len(plain)) + coder.finish()
        if len(coded) < len(plain):
            stored, flags = coded, flags | _CODED
    return stored, (len(stored) | flags).to_bytes(4, "little")


def unpack_directory(stored: NDArray[np.uint8], trailer: Trailer) -> Directory:
    """Read a directory back; raises :class:`FormatError` if it is anything else."""
    data = _decode(Cursor(stored)) if trailer.coded else stored
    return decode_directory(Cursor(data), joint=trailer.joint)


def read_trailer(data: NDArray[np.uint8]) -> Trailer:
    """Read the last bytes of a file; raises :class:`FormatError` for sizes and flags that are not known."""
    cursor = Cursor(data)
    word = cursor.uint32()
    size, flags = word & _SIZE_MASK, word & ~_SIZE_MASK
    if flags & ~(_CODED | _JOINT) or size > MAX_DIRECTORY_BYTES:
        raise FormatError(
            f"claims a directory of {size} bytes with flags {flags:#x}, which this version cannot read; "
            "the file is damaged, or it was written by a newer Featherweight: upgrade"
        )
    return Trailer(size, bool(flags & _CODED), bool(flags & _JOINT), cursor.uint32())


def _decode(cursor: Cursor) -> NDArray[np.uint8]:
    size = cursor.varint()
    if size > MAX_CODED_BYTES:
        raise FormatError(f"has a coded directory of {size} bytes; at most {MAX_CODED_BYTES} are allowed")
    coder = RangeDecoder(cursor.rest().tobytes())
    data = AdaptiveBytes(_primer()).code(coder, size, None)
    coder.finish()
    return np.frombuffer(data, np.uint8)


@cache
def _primer() -> bytes:
    entries = [
        Entry(name, "float32", shape, _COMMON_MATRIX_CODER if len(shape) > 1 else _COMMON_VECTOR_CODER)
        for name, shape in _COMMON
    ]
    return encode_directory(Directory({}, tuple(entries)), joint=True)
