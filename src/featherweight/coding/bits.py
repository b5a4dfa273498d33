"""Codewords to bits and back, least significant bit first: the two inner loops that every static code shares.

A *codeword table* holds ``codeword << 5 | length`` for every symbol; a *lookup table* of ``2 ** width``
entries holds ``symbol << 5 | length`` for every value of the next ``width`` bits. Both are ``uint32``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from featherweight.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.coding.symbols import Symbols

#: Low bits of a table entry that hold the codeword's length.
LENGTH_BITS = 5

#: A refill yields at least 57 bits; three codewords of 19 bits fit.
SYMBOLS_PER_REFILL = 3
MAX_CODE_LENGTH = 57 // SYMBOLS_PER_REFILL

#: Spare bytes after a bit stream, so that a refill may load eight bytes anywhere in it.
_PADDING = 8


def write_stream(symbols: Symbols, codewords: NDArray[np.uint32], bit_count: int) -> bytes:
    """Concatenate the codewords of ``symbols``; the last byte is padded with zero bits.

    Args:
        symbols: 1-D, each below ``len(codewords)`` (the caller has made sure).
        codewords: the codeword table.
        bit_count: at least the bits that the codewords take together.
    """
    words = np.zeros(bit_count // 32 + 1, np.uint32)
    written: int = _write(symbols, codewords, words)
    return words.astype("<u4", copy=False).tobytes()[: (written + 7) // 8]


@njit(cache=True, nogil=True)
def _write(symbols: Symbols, codewords: Any, words: Any) -> int:
    buffer, filled, k = np.uint64(0), np.uint64(0), 0
    for symbol in symbols:
        entry = np.uint64(codewords[symbol])
        buffer |= (entry >> np.uint64(LENGTH_BITS)) << filled
        filled += entry & np.uint64((1 << LENGTH_BITS) - 1)
        if filled >= np.uint64(32):
            words[k] = np.uint32(buffer & np.uint64(0xFFFFFFFF))
            buffer >>= np.uint64(32)
            filled -= np.uint64(32)
            k += 1
    if filled:
        words[k] = np.uint32(buffer)
    return int(32 * k + np.int64(filled))


def read_streams(
    body: NDArray[np.uint8], sizes: list[int], lookup: NDArray[np.uint32], count: int, dtype: type[Any]
) -> tuple[Symbols, int]:
    """Decode ``count`` symbols that lie in consecutive bit streams of equally many symbols each.

    Args:
        body: bytes that begin with the streams and may go on after them.
        sizes: bytes of every stream but the last, whose end follows from its symbols.
        lookup: the lookup table.
        count: symbols in all the streams together.
        dtype: of the symbols.

    Returns:
        The symbols and the number of bytes that the streams take.

    Raises:
        FormatError: if a stream ends anywhere but at its declared end, or its padding is not zero.
    """
    if sum(sizes) > body.size:
        raise FormatError("has a bit stream that runs past its end")
    starts = np.cumsum([0, *sizes], dtype=np.uint64)
    padded = np.zeros(body.size + _PADDING, np.uint8)
    padded[: body.size] = body
    positions = starts * np.uint64(8)
    symbols = np.empty(count, dtype)
    _read(padded, positions, lookup, symbols, -(-count // starts.size))
    ends = [*starts[1:].tolist(), (int(positions[-1]) + 7) // 8]
    if ends[-1] > body.size:
        raise FormatError("has a bit stream that runs past its end")
    for position, end in zip(positions.tolist(), ends, strict=True):
        _check_end(padded, position, end)
    return symbols, ends[-1]


def _check_end(padded: NDArray[np.uint8], position: int, end: int) -> None:
    if (position + 7) // 8 != end:
        raise FormatError("has a bit stream that does not end where it says")
    if position % 8 and padded[end - 1] >> (position % 8):
        raise FormatError("has a bit stream padded with other than zero bits")


@njit(cache=True, nogil=True)
def _read(body: Any, positions: Any, lookup: Any, out: Symbols, chunk: int) -> None:
    # All streams advance together: their table lookups do not wait for one another.
    streams = positions.size
    shortest = out.size - (streams - 1) * chunk
    whole = shortest // SYMBOLS_PER_REFILL * SYMBOLS_PER_REFILL
    mask = np.uint64(lookup.size - 1)
    low = np.uint32((1 << LENGTH_BITS) - 1)
    for i in range(0, whole, SYMBOLS_PER_REFILL):
        for stream in range(streams):
            position = positions[stream]
            window = _load(body, position)
            at = np.uint64(stream * chunk + i)
            for j in range(SYMBOLS_PER_REFILL):
                entry = lookup[window & mask]
                out[at + np.uint64(j)] = entry >> np.uint32(LENGTH_BITS)
                length = np.uint64(entry & low)
                window >>= length
                position += length
            positions[stream] = position
    for stream in range(streams):
        position = positions[stream]
        for i in range(stream * chunk + whole, min((stream + 1) * chunk, out.size)):
            entry = lookup[_load(body, position) & mask]
            out[i] = entry >> np.uint32(LENGTH_BITS)
            position += np.uint64(entry & low)
        positions[stream] = position


@njit(cache=True, nogil=True)
def _load(body: Any, position: Any) -> Any:
    """At least 57 bits from a bit position on; past the end something, but nothing from outside ``body``."""
    at = min(position >> np.uint64(3), np.uint64(body.size - 8))
    word = np.uint64(0)
    for i in range(8):  # LLVM makes one 64-bit load of this
        word |= np.uint64(body[at + np.uint64(i)]) << np.uint64(8 * i)
    return word >> (position & np.uint64(7))
