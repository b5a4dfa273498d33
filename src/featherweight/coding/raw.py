"""Lossless coders for tensors that are not quantized: as they are, without zeros, in planes, adaptively.

A pruned network that is not quantized yet is mostly zeros, and must not take the room of a dense one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from featherweight.coding.adaptive_floats import AdaptiveFloats
from featherweight.coding.cursor import Cursor, encode_varint
from featherweight.coding.float_planes import Planes
from featherweight.coding.huffman import Huffman
from featherweight.coding.layout import LayoutCoder
from featherweight.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RawCoder(Protocol):
    """Codes the bytes of ``numel`` elements of ``item_size`` bytes each."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def id(self) -> int:
        """What files call it: 0 to 15."""
        ...

    def encode(self, data: NDArray[np.uint8], item_size: int) -> bytes | None:
        """Code ``data``, ``(numel * item_size,)``; ``None`` if it has nothing that this coder could save."""
        ...

    def decode(self, payload: NDArray[np.uint8], numel: int, item_size: int) -> NDArray[np.uint8]:
        """Read the same bytes back; raises :class:`FormatError` if the payload is anything else."""
        ...


class Plain:
    """The bytes as they are."""

    name = "plain"
    id = 0

    def encode(self, data: NDArray[np.uint8], item_size: int) -> bytes | None:
        """Copy the bytes."""
        return data.tobytes()

    def decode(self, payload: NDArray[np.uint8], numel: int, item_size: int) -> NDArray[np.uint8]:
        """Check that there are as many bytes as there should be."""
        if payload.size != numel * item_size:
            raise FormatError(f"has {payload.size} bytes of elements, expected {numel * item_size}")
        return payload


class Sparse:
    """Leaves out elements whose bits are all zero, so -0.0 is kept.

    The payload is the size in bytes of a Huffman-coded array of 0 (left out) and 1 (kept), a varint; that
    array, coded as indices into a codebook of two values; and the bytes of the elements kept.
    """

    name = "sparse"
    id = 1

    _mask_coder = LayoutCoder("huffman", 17, Huffman())

    def encode(self, data: NDArray[np.uint8], item_size: int) -> bytes | None:
        """Code the elements that have a bit set."""
        items = data.reshape(-1, item_size)
        kept = _has_bits(data, item_size)
        if kept.all():
            return None
        mask = self._mask_coder.encode(kept.view(np.uint8), 2)
        return encode_varint(len(mask)) + mask + items[kept].tobytes()

    def decode(self, payload: NDArray[np.uint8], numel: int, item_size: int) -> NDArray[np.uint8]:
        """Put the zeros back."""
        cursor = Cursor(payload)
        mask = cursor.take(cursor.varint())
        kept = self._mask_coder.decode(mask, (numel,), 2).view(np.bool_)
        values = cursor.take(int(np.count_nonzero(kept)) * item_size)
        cursor.finish()
        if not _has_bits(values, item_size).all():
            raise FormatError("stores a zero among the elements that are not zero")
        items = np.zeros((numel, item_size), np.uint8)
        items[kept] = values.reshape(-1, item_size)
        return items.reshape(-1)


def _has_bits(data: NDArray[np.uint8], item_size: int) -> NDArray[np.bool_]:
    """Which elements have a bit set, ``(numel,)``."""
    word = min(item_size, 8)  # the widest integer that NumPy compares at once; complex128 takes two
    words = np.ascontiguousarray(data).view(f"u{word}").reshape(-1, item_size // word)
    has_bits: NDArray[np.bool_] = words[:, 0] != 0
    for column in range(1, words.shape[1]):
        has_bits |= words[:, column] != 0
    return has_bits


_ALL: tuple[RawCoder, ...] = (Plain(), Sparse(), Planes(), AdaptiveFloats())

RAW_CODERS: dict[str, RawCoder] = {coder.name: coder for coder in _ALL}

#: Those that decode at the speed of memory, nearly.
_FAST = ("plain", "sparse", "planes")

_BY_ID = {coder.id: coder for coder in RAW_CODERS.values()}


def encode_raw(data: NDArray[np.uint8], item_size: int, *, fast: bool = False) -> tuple[RawCoder, bytes]:
    """Code the bytes of a tensor with whichever raw coder makes them smallest; the first of equals.

    Args:
        data: ``(numel * item_size,)``.
        item_size: bytes an element.
        fast: leave out coders that take long to decode.
    """
    best: tuple[RawCoder, bytes] | None = None
    for coder in _ALL:
        if fast and coder.name not in _FAST:
            continue
        payload = coder.encode(data, item_size)
        if payload is not None and (best is None or len(payload) < len(best[1])):
            best = coder, payload
    assert best is not None  # noqa: S101 - Plain codes anything
    return best


def raw_coder_by_id(coder_id: int) -> RawCoder:
    """Find the raw coder of a tensor in a file.

    Raises:
        FormatError: if this version has none with this id.
    """
    if coder_id not in _BY_ID:
        raise FormatError(
            f"is coded with raw coder {coder_id}, which this version does not know; "
            "upgrade Featherweight to read it"
        )
    return _BY_ID[coder_id]
