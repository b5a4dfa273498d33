"""Read a ``.fwt`` file, one tensor at a time; every error is a :class:`FormatError` that says where."""

from __future__ import annotations

import contextlib
import os
import zlib
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from featherweight.coding import coder_by_id, raw_coder_by_id
from featherweight.errors import FeatherweightError, FormatError
from featherweight.fileformat.directory import (
    HEADER_BYTES,
    MAGIC,
    MAX_JOINT_BYTES,
    TRAILER_BYTES,
    VERSION,
    Directory,
)
from featherweight.fileformat.payload import FIRST_CODER_ID, decode_tensor, decode_values, split_codebook
from featherweight.fileformat.trailer import read_trailer, unpack_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from featherweight.coding import StreamSizes
    from featherweight.fileformat.directory import Entry
    from featherweight.fileformat.payload import PayloadTensor
    from featherweight.fileformat.trailer import Trailer
    from featherweight.tensors import RawTensor

#: Bytes of decoded tensors that a file may claim unless the caller says otherwise.
DEFAULT_MAX_BYTES = 16 << 30

_DAMAGED = "the file is damaged or incomplete, get or write it again"


@dataclass(frozen=True)
class TensorInfo:
    """What a file says of a tensor before it is decoded.

    Attributes:
        name: its name.
        shape: its shape.
        dtype: PyTorch's name of its element type.
        numel: number of elements.
        coder: name of the coder or raw coder of its payload; of its target's for an alias.
        bytes: size of its payload, codebook included; 0 for an alias.
        alias_of: name of the tensor that it is tied to, if any.
        quantized: whether it is a codebook and indices.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    numel: int
    coder: str
    bytes: int
    alias_of: str | None
    quantized: bool


class FileReader:
    """An open ``.fwt`` file; a context manager.

    Opening reads and checks the directory, and the rest of a file that has one checksum for all of it, as
    small ones have. Decoded sizes are held against ``max_bytes`` before anything is allocated; a decoder's
    own working arrays, of at most twice the tensor's size, come on top.

    Args:
        path: the file.
        max_bytes: bytes of decoded tensors to allow; 16 GiB unless given.

    Attributes:
        names: names of the tensors, ascending.
        metadata: the file's metadata.
        file_bytes: size of the file.

    Raises:
        FormatError: naming the file, if it is anything but a valid ``.fwt`` file.
        FeatherweightError: naming the file, if there is none or it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: int | None = None) -> None:
        self._path = Path(path)
        self._max_bytes = DEFAULT_MAX_BYTES if max_bytes is None else max_bytes
        if self._path.exists() and not self._path.is_file():
            raise FormatError(f"{path}: is not a file but a directory or a device; name a .fwt file")
        try:
            self._file = self._path.open("rb")
        except OSError as error:
            raise FeatherweightError(f"{path}: cannot be opened: {error.strerror}") from error
        try:
            self.file_bytes = os.fstat(self._file.fileno()).st_size
            with self._errors_at(str(path)):
                directory, payloads_end = self._read_directory()
                self._entries = {entry.name: entry for entry in directory.entries}
                self._starts = self._locate(directory, payloads_end)
        except BaseException:
            self._file.close()
            raise
        self.names = list(self._entries)
        self.metadata = directory.metadata

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def coder(self) -> str:
        """The coder of all quantized tensors; ``"mixed"`` if they have several, ``"none"`` without any."""
        names = {info.coder for info in map(self.info, self.names) if info.quantized}
        return "none" if not names else names.pop() if len(names) == 1 else "mixed"

    def info(self, name: str) -> TensorInfo:
        """What the directory says of a tensor; raises :class:`KeyError` if there is none of this name."""
        entry, stored = self._entries[name], self._resolve(name)
        quantized = stored.coder_id >= FIRST_CODER_ID
        with self._errors_at(f"{self._path}: tensor {name!r}"):
            coder = coder_by_id(stored.coder_id) if quantized else raw_coder_by_id(stored.coder_id)
        alias_of = stored.name if entry.target is not None else None
        return TensorInfo(
            name, entry.shape, entry.dtype, entry.numel, coder.name, entry.length, alias_of, quantized
        )

    def read(self, name: str) -> PayloadTensor:
        """Read, check and decode one tensor; an alias gives the tensor that it is tied to.

        Raises:
            KeyError: if there is none of this name.
            FormatError: if it is damaged, or larger than ``max_bytes``.
        """
        entry = self._resolve(name)
        with self._errors_at(f"{self._path}: tensor {name!r}"):
            self._check_budget(entry.dense_bytes)
            return decode_tensor(entry, self._read_payload(entry))

    def read_values(self, name: str) -> RawTensor | NDArray[Any]:
        """As :meth:`read`, but a quantized tensor comes as its values, of bfloat16 as ``float32``."""
        entry = self._resolve(name)
        with self._errors_at(f"{self._path}: tensor {name!r}"):
            self._check_budget(entry.dense_bytes)
            return decode_values(entry, self._read_payload(entry))

    def describe(self, name: str) -> StreamSizes | None:
        """What a quantized tensor's payload spends its bits on; ``None`` for a raw one.

        Raises as :meth:`read` does.
        """
        entry = self._resolve(name)
        if entry.coder_id < FIRST_CODER_ID:
            return None
        with self._errors_at(f"{self._path}: tensor {name!r}"):
            self._check_budget(entry.dense_bytes)
            codebook, indices = split_codebook(entry, self._read_payload(entry))
            return coder_by_id(entry.coder_id).describe(indices, entry.shape, codebook.size)

    def verify(self, *, each: Callable[[], object] = lambda: None) -> None:
        """Check every checksum and decode every tensor; raises :class:`FormatError` at the first fault.

        Args:
            each: called after each tensor.
        """
        for name, entry in self._entries.items():
            if entry.target is None:
                self.read(name)
            each()

    def check_total(self) -> None:
        """Refuse with :class:`FormatError` a file whose tensors together decode to more than ``max_bytes``.

        For a caller who will keep them all; tensors tied to one another count once.
        """
        with self._errors_at(str(self._path)):
            self._check_budget(sum(e.dense_bytes for e in self._entries.values() if e.target is None))

    def _resolve(self, name: str) -> Entry:
        entry = self._entries[name]
        return entry if entry.target is None else self._entries[self.names[entry.target]]

    def _check_budget(self, claimed: int) -> None:
        if claimed > self._max_bytes:
            raise FormatError(
                f"decodes to {claimed} bytes, over the limit of {self._max_bytes}; "
                "raise max_bytes if you trust the file"
            )

    def _read_directory(self) -> tuple[Directory, int]:
        """The directory, and the position where it starts, which is where the payloads end."""
        header = self._read_bytes(0, min(HEADER_BYTES, self.file_bytes)).tobytes()
        if header[: len(MAGIC)] != MAGIC[: len(header)] or not header:
            raise FormatError("is not a .fwt file; check the path")
        if self.file_bytes < HEADER_BYTES + TRAILER_BYTES:
            raise FormatError(f"is too short, {self.file_bytes} bytes")
        if header[-1] != VERSION:
            raise FormatError(
                f"has format version {header[-1]}, this Featherweight reads version {VERSION}; "
                "it was written by a newer Featherweight: upgrade"
            )
        trailer_bytes = self._read_bytes(self.file_bytes - TRAILER_BYTES, TRAILER_BYTES)
        trailer = read_trailer(trailer_bytes)
        start = self.file_bytes - TRAILER_BYTES - trailer.stored_bytes
        if start < HEADER_BYTES:
            raise FormatError(f"claims a directory of {trailer.stored_bytes} bytes, which it cannot hold")
        stored = self._read_bytes(start, trailer.stored_bytes)
        self._payloads = self._read_joint_payloads(start) if trailer.joint else None
        self._check_crc(header, stored, trailer_bytes, trailer)
        return unpack_directory(stored, trailer), start

    def _read_joint_payloads(self, end: int) -> NDArray[np.uint8]:
        """All payloads of a file that has one checksum; they are kept, as nothing would check them later."""
        if end - HEADER_BYTES > MAX_JOINT_BYTES:
            raise FormatError(
                f"has one checksum for {end - HEADER_BYTES} bytes of payloads; "
                f"at most {MAX_JOINT_BYTES} are allowed"
            )
        return self._read_bytes(HEADER_BYTES, end - HEADER_BYTES)

    def _check_crc(
        self, header: bytes, stored: NDArray[np.uint8], trailer_bytes: NDArray[np.uint8], trailer: Trailer
    ) -> None:
        checksum = zlib.crc32(header)
        if self._payloads is not None:
            checksum = zlib.crc32(self._payloads.data, checksum)
        checksum = zlib.crc32(trailer_bytes[:4].data, zlib.crc32(stored.data, checksum))
        if checksum != trailer.crc32:
            part = "a directory that" if self._payloads is None else "content that"
            raise FormatError(f"has {part} does not match its checksum")

    def _locate(self, directory: Directory, payloads_end: int) -> dict[str, int]:
        """Where every payload starts: they lie in the directory's order, without gaps."""
        lengths = [entry.length for entry in directory.entries]
        starts = list(accumulate(lengths, initial=HEADER_BYTES))
        if starts[-1] != payloads_end:
            raise FormatError(f"has payloads up to byte {payloads_end}, its directory says {starts[-1]}")
        return dict(zip(self._entries, starts, strict=False))

    def _read_payload(self, entry: Entry) -> NDArray[np.uint8]:
        start = self._starts[entry.name]
        if self._payloads is not None:
            return self._payloads[start - HEADER_BYTES :][: entry.length]
        payload = self._read_bytes(start, entry.length)
        if zlib.crc32(payload.data) != entry.crc32:
            raise FormatError("does not match its checksum")
        return payload

    def _read_bytes(self, start: int, size: int) -> NDArray[np.uint8]:
        data = np.empty(size, np.uint8)
        try:
            self._file.seek(start)
            got = self._file.readinto(data.data)
        except OSError as error:
            raise FormatError(f"cannot be read: {error.strerror}") from error
        if got != size:
            raise FormatError("has become shorter while it was being read")
        return data

    @contextlib.contextmanager
    def _errors_at(self, place: str) -> Iterator[None]:
        """Say where an error happened, and what to do unless it says so itself, after a semicolon."""
        try:
            yield
        except FormatError as error:
            remedy = "" if ";" in str(error) else f"; {_DAMAGED}"
            raise FormatError(f"{place}: {error}{remedy}") from None
