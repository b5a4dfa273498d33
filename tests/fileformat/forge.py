"""Takes .fwt files apart and seals them with right checksums, so that damage reaches the parser."""

import zlib
from dataclasses import replace

import numpy as np

from featherweight.coding import Cursor, encode_varint
from featherweight.fileformat.directory import (
    MAGIC,
    Directory,
    decode_directory,
    dtype_code,
    encode_directory,
)

HEADER = MAGIC + b"\0"


def seal(payloads: bytes, directory: bytes) -> bytes:
    """A file of these payloads and this directory."""
    length = len(directory).to_bytes(4, "little")
    return (
        HEADER + payloads + directory + length + zlib.crc32(HEADER + directory + length).to_bytes(4, "little")
    )


def split(data: bytes) -> tuple[bytes, bytes]:
    """Payloads and directory of a file."""
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    return data[len(HEADER) : start], data[start:-8]


def with_payloads(data: bytes, change) -> bytes:
    """The file after ``change(name, payload)`` has been applied to every payload."""
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
