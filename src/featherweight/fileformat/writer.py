"""Write a mapping of tensors to a ``.fwt`` file, one tensor at a time."""

from __future__ import annotations

import zlib
from bisect import bisect_left
from typing import TYPE_CHECKING

from featherweight.coding import DEFAULT_CODER, check_coder_choice
from featherweight.errors import TensorError
from featherweight.fileformat.atomic import AtomicFile
from featherweight.fileformat.directory import (
    ALIAS_ID,
    HEADER_BYTES,
    MAGIC,
    MAX_JOINT_BYTES,
    TRAILER_BYTES,
    VERSION,
    Directory,
    Entry,
    check_metadata,
    check_name,
    shape_fault,
)
from featherweight.fileformat.payload import encode_tensor
from featherweight.fileformat.trailer import pack_directory
from featherweight.tensors import Alias

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from featherweight.fileformat.payload import PayloadTensor
    from featherweight.tensors import StoredTensor


def write_file(
    path: str | os.PathLike[str],
    tensors: Mapping[str, StoredTensor],
    *,
    coder: str = DEFAULT_CODER,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = True,
) -> int:
    """Write a file that appears whole or not at all.

    The same mapping gives the same bytes, whatever its order. Tensors are fetched one by one in the order of
    their names, so a mapping that loads them when asked never has more than one in memory.

    Args:
        path: where the file shall be.
        tensors: by name; a name is any text of 1 to 65,535 bytes of UTF-8.
        coder: name of the coder for quantized tensors that do not name their own; ``"auto"`` takes for each
            the one that makes it smallest.
        metadata: text to keep with the tensors.
        overwrite: whether to replace a file that is there already.

    Returns:
        The size of the file in bytes.

    Raises:
        OutputError: if the file cannot be written, or is there already and must not be overwritten.
        TensorError: if a tensor, a name or the metadata cannot be stored; it names the tensor.
        UnknownCoderError: if there is no such coder.
    """
    check_coder_choice(coder)
    metadata = dict(metadata or {})
    check_metadata(metadata)
    for name in tensors:
        check_name(name)
    header = MAGIC + bytes([VERSION])
    joint_crc, payload_bytes = zlib.crc32(header), 0
    with AtomicFile(path, overwrite=overwrite) as file:

        def write(payload: bytes) -> None:
            nonlocal joint_crc, payload_bytes
            file.write(payload)
            joint_crc, payload_bytes = zlib.crc32(payload, joint_crc), payload_bytes + len(payload)

        file.write(header)
        entries = describe(tensors, coder, write)
        joint = payload_bytes <= MAX_JOINT_BYTES
        stored, size = pack_directory(Directory(metadata, tuple(entries.values())), joint=joint)
        checksum = zlib.crc32(stored + size, joint_crc if joint else zlib.crc32(header))
        file.write(stored + size + checksum.to_bytes(4, "little"))
    return HEADER_BYTES + payload_bytes + len(stored) + TRAILER_BYTES


def describe(
    tensors: Mapping[str, StoredTensor], coder: str, write: Callable[[bytes], object] = len
) -> dict[str, Entry]:
    """What the directory of a file tells of its tensors, in its order; see :func:`write_file`.

    Args:
        tensors: by name.
        coder: for quantized tensors that do not name their own.
        write: is given each payload, in the directory's order; they are not kept unless it does.

    Raises:
        TensorError: if a tensor cannot be stored; it names the tensor.
    """
    names = sorted(tensors)  # by code point, which is the order of the UTF-8 bytes too
    entries: dict[str, Entry] = {}
    aliases: dict[str, str] = {}
    for name in names:
        tensor = tensors[name]
        if isinstance(tensor, Alias):
            aliases[name] = tensor.target
        else:
            entries[name], payload = encode_entry(name, tensor, coder)
            write(payload)
    for name, target in aliases.items():
        entries[name] = _alias_entry(name, target, names, entries)
    return {name: entries[name] for name in names}


def size_of_file(entries: Iterable[Entry]) -> int:
    """The bytes of a file with these tensors and no metadata, as :func:`write_file` makes it.

    Args:
        entries: of all tensors, from :func:`describe`.
    """
    ordered = tuple(sorted(entries, key=lambda entry: entry.name))
    payload_bytes = sum(entry.length for entry in ordered)
    stored, _ = pack_directory(Directory({}, ordered), joint=payload_bytes <= MAX_JOINT_BYTES)
    return HEADER_BYTES + payload_bytes + len(stored) + TRAILER_BYTES


def encode_entry(name: str, tensor: PayloadTensor, coder: str) -> tuple[Entry, bytes]:
    """What the directory tells of a tensor, and its payload.

    Raises:
        TensorError: if it cannot be stored; it names the tensor.
    """
    if fault := shape_fault(tensor.shape, tensor.dtype):
        raise TensorError(f"tensor {name!r} cannot be stored: it {fault}")
    try:
        coder_id, payload = encode_tensor(tensor, coder)
    except TensorError as error:
        raise TensorError(f"tensor {name!r} cannot be stored: {error}") from None
    shape = tuple(int(size) for size in tensor.shape)
    entry = Entry(name, tensor.dtype, shape, coder_id, len(payload), zlib.crc32(payload))
    return entry, payload


def _alias_entry(name: str, target: str, names: list[str], entries: dict[str, Entry]) -> Entry:
    if target not in entries or entries[target].target is not None:
        raise TensorError(f"tensor {name!r} is tied to {target!r}, which this mapping does not store")
    other = entries[target]
    return Entry(name, other.dtype, other.shape, ALIAS_ID, target=bisect_left(names, target))
