"""Takes .fwt files apart and seals them with right checksums, so that damage reaches the parser."""

import zlib
from dataclasses import replace

import numpy as np

from featherweight.coding import Cursor, encode_varint
from featherweight.coding.adaptive_bytes import AdaptiveBytes
from featherweight.coding.range_coder import RangeEncoder
from featherweight.fileformat.directory import (
    MAGIC,
    Directory,
    decode_directory,
    dtype_code,
    encode_directory,
)
from featherweight.fileformat.trailer import _primer, read_trailer, unpack_directory

HEADER = MAGIC + b"\0"

#: Flags beside a directory's size.
CODED, JOINT = 1 << 31, 1 << 30


def seal(payloads: bytes, directory: bytes, flags: int = 0) -> bytes:
    """A file of these payloads and this directory, as it is stored; flags are those beside its size."""
    size = (len(directory) + flags).to_bytes(4, "little")
    checked = HEADER + (payloads if flags & JOINT else b"") + directory + size
    return HEADER + payloads + directory + size + zlib.crc32(checked).to_bytes(4, "little")


def split(data: bytes) -> tuple[bytes, bytes]:
    """Payloads of a file, and its directory as one that is not coded and has a checksum for each payload."""
    trailer = read_trailer(np.frombuffer(data[-8:], np.uint8))
    start = len(data) - 8 - trailer.stored_bytes
    payloads = data[len(HEADER) : start]
    directory = unpack_directory(np.frombuffer(data[start:-8], np.uint8), trailer)
    entries, start = [], 0
    for entry in directory.entries:
        crc32 = 0 if entry.target is not None else zlib.crc32(payloads[start : start + entry.length])
        entries.append(replace(entry, crc32=crc32))
        start += entry.length
    return payloads, encode_directory(Directory(directory.metadata, tuple(entries)))


def coded(directory: bytes) -> bytes:
    """A directory, be it valid or not, as it is stored when it is coded."""
    coder = RangeEncoder()
    AdaptiveBytes(_primer()).code(coder, len(directory), directory)
    return varints(len(directory)) + coder.finish()


def with_payloads(data: bytes, change) -> bytes:
    """The file after ``change(name, payload)`` has been applied to every payload, each with its checksum."""
    payloads, directory_bytes = split(data)
    directory = decode_directory(Cursor(np.frombuffer(directory_bytes, np.uint8)))
    entries, changed, start = [], b"", 0
    for entry in directory.entries:
        payload = change(entry.name, payloads[start : start + entry.length])
        start += entry.length
        changed += payload
        is_alias = entry.target is not None
        crc32 = 0 if is_alias else zlib.crc32(payload)
        entries.append(replace(entry, length=0 if is_alias else len(payload), crc32=crc32))
    return seal(changed, encode_directory(Directory(directory.metadata, tuple(entries))))


def single(record: bytes, payload: bytes = b"") -> bytes:
    """A file with no metadata and one tensor "a", whose entry goes on with ``record`` after the name."""
    return seal(payload, b"\0\1\0\1a" + record)


def varints(*values: int) -> bytes:
    return b"".join(map(encode_varint, values))


def tensor_file(dtype: str, shape: tuple[int, ...], coder_id: int, payload: bytes) -> bytes:
    """A file of one tensor "a" that claims whatever it is told to, with right checksums."""
    shape_bytes = varints(len(shape), *shape)
    extent = varints(len(payload)) + zlib.crc32(payload).to_bytes(4, "little")
    return single(bytes([dtype_code(dtype)]) + shape_bytes + bytes([coder_id]) + extent, payload)
