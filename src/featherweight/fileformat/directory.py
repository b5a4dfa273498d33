"""The directory of a ``.fwt`` file: metadata, and for every tensor its name, type, shape and payload.

It stands at the end, so that a writer can send off tensor after tensor without knowing the sizes of those to
come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from featherweight.coding import encode_varint
from featherweight.errors import FormatError, TensorError
from featherweight.tensors import ITEM_SIZES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featherweight.coding import Cursor

MAGIC = b"\x89FWT"
VERSION = 0

#: Bytes before the first payload, and after the directory.
HEADER_BYTES = len(MAGIC) + 1
TRAILER_BYTES = 8

#: Limits that keep a small hostile file from filling the memory. Names are front-coded and so can be longer
#: than the directory that they come from.
MAX_DIRECTORY_BYTES = 16 << 20
MAX_NAME_BYTES = (1 << 16) - 1
MAX_ALL_NAMES_BYTES = 64 << 20
MAX_DIMENSIONS = 32
MAX_TENSOR_BYTES = (1 << 63) - 1

#: Payloads of at most so many bytes together may share the file's checksum, so that it is read as a whole.
MAX_JOINT_BYTES = 1 << 20

#: In place of a coder: the tensor is tied to another one.
ALIAS_ID = 255

_DTYPE_CODES = {
    "float64": 0,
    "float32": 1,
    "float16": 2,
    "bfloat16": 3,
    "float8_e4m3fn": 4,
    "float8_e5m2": 5,
    "complex64": 6,
    "complex128": 7,
    "int8": 8,
    "int16": 9,
    "int32": 10,
    "int64": 11,
    "uint8": 12,
    "uint16": 13,
    "uint32": 14,
    "uint64": 15,
    "bool": 16,
}
_DTYPES = {code: dtype for dtype, code in _DTYPE_CODES.items()}


@dataclass(frozen=True)
class Entry:
    """What the directory tells of one tensor.

    Attributes:
        name: the tensor's name.
        dtype: PyTorch's name of its element type.
        shape: its shape.
        coder_id: of the raw coder (0 to 15) or coder (16 to 254) of its payload; :data:`ALIAS_ID` for an
            alias.
        length: bytes of its payload, 0 for an alias.
        crc32: of its payload, 0 for an alias and where all payloads share the file's.
        target: an alias's other tensor, as a number in the directory.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    coder_id: int
    length: int = 0
    crc32: int = 0
    target: int | None = None

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def dense_bytes(self) -> int:
        """Bytes of the decoded tensor."""
        return self.numel * ITEM_SIZES[self.dtype]


@dataclass(frozen=True)
class Directory:
    """All that a file says beside its payloads; entries are in ascending order of their names."""

    metadata: dict[str, str] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()


def dtype_code(dtype: str) -> int:
    """A dtype's number in files."""
    return _DTYPE_CODES[dtype]


def dtype_by_code(code: int) -> str:
    """The dtype of a number in a file; raises :class:`FormatError` if this version does not know it."""
    if code not in _DTYPES:
        raise FormatError(
            f"has dtype {code}, which this version does not know; upgrade Featherweight to read it"
        )
    return _DTYPES[code]


def encode_text(text: str, what: str) -> bytes:
    """UTF-8 of a name or of metadata; raises :class:`TensorError` for what UTF-8 cannot hold."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise TensorError(f"{what} {text!r} is not valid Unicode text; remove the lone surrogate") from None


def check_name(name: object) -> None:
    """Refuse with :class:`TensorError` what cannot be a tensor's name in a file."""
    if not isinstance(name, str):
        raise TensorError(f"tensor names must be strings, got {name!r}")
    size = len(encode_text(name, "tensor name"))
    if not 1 <= size <= MAX_NAME_BYTES:
        raise TensorError(
            f"tensor name {name[:40]!r} has {size} bytes; a name has 1 to {MAX_NAME_BYTES} bytes of UTF-8"
        )


def shape_fault(shape: tuple[int, ...], dtype: str) -> str:
    """Why a shape cannot be stored; empty if it can."""
    if len(shape) > MAX_DIMENSIONS:
        return f"has {len(shape)} dimensions, at most {MAX_DIMENSIONS} are allowed"
    # Zeros count as ones: NumPy refuses a shape whose other dimensions overflow even if nothing is in it.
    if math.prod(max(size, 1) for size in shape) * ITEM_SIZES[dtype] > MAX_TENSOR_BYTES:
        return f"has a shape, {shape}, of more than 2^63 bytes"
    return ""


def encode_directory(directory: Directory, *, joint: bool = False) -> bytes:
    """Store a directory; raises :class:`TensorError` if it is too large to be read back.

    Args:
        directory: what to store.
        joint: whether payloads have no checksums of their own.
    """
    out = [encode_varint(len(directory.metadata))]
    for key in sorted(directory.metadata):
        out += [_sized(encode_text(key, "metadata key"))]
        out += [_sized(encode_text(directory.metadata[key], "metadata value"))]
    out.append(encode_varint(len(directory.entries)))
    names = [entry.name.encode() for entry in directory.entries]
    for before, name, entry in zip([b"", *names], names, directory.entries, strict=False):
        shared = _shared_prefix(before, name)
        out += [encode_varint(shared), _sized(name[shared:]), _encode_entry(entry, joint)]
    data = b"".join(out)
    if len(data) > MAX_DIRECTORY_BYTES or sum(map(len, names)) > MAX_ALL_NAMES_BYTES:
        raise TensorError(
            f"{len(names)} names, shapes and the metadata take {len(data)} bytes; "
            f"at most {MAX_DIRECTORY_BYTES} can be stored: shorten the metadata or the names"
        )
    return data


def _shared_prefix(a: bytes, b: bytes) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _sized(data: bytes) -> bytes:
    return encode_varint(len(data)) + data


def _encode_entry(entry: Entry, joint: bool) -> bytes:
    numbers = [len(entry.shape), *entry.shape]
    head = bytes([dtype_code(entry.dtype)]) + b"".join(map(encode_varint, numbers)) + bytes([entry.coder_id])
    if entry.target is not None:
        return head + encode_varint(entry.target)
    return head + encode_varint(entry.length) + (b"" if joint else entry.crc32.to_bytes(4, "little"))


def decode_directory(cursor: Cursor, *, joint: bool = False) -> Directory:
    """Read a directory back.

    Args:
        cursor: at its first byte.
        joint: whether payloads have no checksums of their own.

    Raises:
        FormatError: if it is anything but the directory of a valid file.
    """
    metadata = _decode_metadata(cursor)
    entries: list[Entry] = []
    before, names_bytes = b"", 0
    for _ in range(cursor.varint()):
        name = _decode_name(cursor, before)
        names_bytes += len(name)
        if names_bytes > MAX_ALL_NAMES_BYTES:
            raise FormatError(f"has names of more than {MAX_ALL_NAMES_BYTES} bytes in all")
        text = _decode_text(name)
        try:
            entries.append(_decode_entry(cursor, text, joint))
        except FormatError as error:
            raise FormatError(f"has an entry for tensor {text!r} that {error}") from None
        before = name
    cursor.finish()
    _check_aliases(entries)
    return Directory(metadata, tuple(entries))


def _decode_metadata(cursor: Cursor) -> dict[str, str]:
    metadata: dict[str, str] = {}
    before = None
    for _ in range(cursor.varint()):
        key = _decode_text(cursor.take(cursor.varint()).tobytes())
        if before is not None and key <= before:
            raise FormatError(f"has metadata keys that are not in ascending order, at {key!r}")
        metadata[key] = _decode_text(cursor.take(cursor.varint()).tobytes())
        before = key
    return metadata


def _decode_name(cursor: Cursor, before: bytes) -> bytes:
    shared, size = cursor.varint(), cursor.varint()
    if shared > len(before):
        raise FormatError("has a name that shares more with the one before than there is")
    if shared + size > MAX_NAME_BYTES:
        raise FormatError(f"has a name of {shared + size} bytes; at most {MAX_NAME_BYTES} are allowed")
    name = before[:shared] + cursor.take(size).tobytes()
    if name <= before:
        raise FormatError("has an empty name, or names that are not in ascending order")
    return name


def _decode_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise FormatError("has text that is not UTF-8") from None


def _decode_entry(cursor: Cursor, name: str, joint: bool) -> Entry:
    dtype = dtype_by_code(cursor.byte())
    dimensions = cursor.varint()
    if dimensions > MAX_DIMENSIONS:
        raise FormatError(f"has {dimensions} dimensions, at most {MAX_DIMENSIONS} are allowed")
    shape = tuple(cursor.varint() for _ in range(dimensions))
    if fault := shape_fault(shape, dtype):
        raise FormatError(fault)
    coder_id = cursor.byte()
    if coder_id == ALIAS_ID:
        return Entry(name, dtype, shape, coder_id, target=cursor.varint())
    length = cursor.varint()
    return Entry(name, dtype, shape, coder_id, length=length, crc32=0 if joint else cursor.uint32())


def _check_aliases(entries: Sequence[Entry]) -> None:
    for entry in entries:
        if entry.target is None:
            continue
        if entry.target >= len(entries) or entries[entry.target].target is not None:
            raise FormatError(f"ties tensor {entry.name!r} to something that is not a stored tensor")
        target = entries[entry.target]
        if (entry.dtype, entry.shape) != (target.dtype, target.shape):
            raise FormatError(f"ties tensor {entry.name!r} to {target.name!r}, which is of another kind")


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Refuse with :class:`TensorError` metadata that is not text."""
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TensorError(f"metadata must map strings to strings, got {key!r}: {value!r}")
