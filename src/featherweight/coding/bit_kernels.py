"""The inner loops of :mod:`featherweight.coding.bits`, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

#: As in :mod:`featherweight.coding.bits`.
_LENGTH_BITS = 5

#: A refill yields at least 57 bits; three codewords of 19 bits fit.
_SYMBOLS_PER_REFILL = 3


@njit(cache=True, nogil=True)
def write(symbols: Any, codewords: Any, words: Any) -> int:
    """Concatenate codewords in ``words``; return how many bits they have."""
    buffer, filled, k = np.uint64(0), np.uint64(0), 0
    for symbol in symbols:
        entry = np.uint64(codewords[symbol])
        buffer |= (entry >> np.uint64(_LENGTH_BITS)) << filled
        filled += entry & np.uint64((1 << _LENGTH_BITS) - 1)
        if filled >= np.uint64(32):
            words[k] = np.uint32(buffer & np.uint64(0xFFFFFFFF))
            buffer >>= np.uint64(32)
            filled -= np.uint64(32)
            k += 1
    if filled:
        words[k] = np.uint32(buffer)
    return int(32 * k + np.int64(filled))


@njit(cache=True, nogil=True)
def read(body: Any, positions: Any, lookup: Any, out: Any, chunk: int) -> None:
    """Decode ``chunk`` symbols from every position; see :func:`featherweight.coding.bits.read_streams`."""
    # All streams advance together: their table lookups do not wait for one another.
    streams = positions.size
    shortest = out.size - (streams - 1) * chunk
    whole = shortest // _SYMBOLS_PER_REFILL * _SYMBOLS_PER_REFILL
    mask = np.uint64(lookup.size - 1)
    low = np.uint32((1 << _LENGTH_BITS) - 1)
    for i in range(0, whole, _SYMBOLS_PER_REFILL):
        for stream in range(streams):
            position = positions[stream]
            window = _load(body, position)
            at = np.uint64(stream * chunk + i)
            for j in range(_SYMBOLS_PER_REFILL):
                entry = lookup[window & mask]
                out[at + np.uint64(j)] = entry >> np.uint32(_LENGTH_BITS)
                length = np.uint64(entry & low)
                window >>= length
                position += length
            positions[stream] = position
    for stream in range(streams):
        position = positions[stream]
        for i in range(stream * chunk + whole, min((stream + 1) * chunk, out.size)):
            entry = lookup[_load(body, position) & mask]
            out[i] = entry >> np.uint32(_LENGTH_BITS)
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
