"""The inner loop of :mod:`featherweight.fileformat.detect`, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

#: Slots of the hash table, as a power of two; four for every value keep its chains short.
_SLOT_BITS = 18


@njit(cache=True, nogil=True)
def assign(bits: Any, distinct: Any, numbers: Any) -> int:
    """Number every distinct value in order of appearance; more than ``len(distinct)`` if they do not fit."""
    slots = np.full(1 << _SLOT_BITS, -1, np.int32)
    count = 0
    for i in range(bits.size):
        value = bits[i]
        # Fibonacci hashing: the high bits of a product with 2^64 / golden ratio are well mixed.
        slot = np.int64((np.uint64(value) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - _SLOT_BITS))
        while slots[slot] >= 0 and distinct[slots[slot]] != value:
            slot = (slot + 1) & ((1 << _SLOT_BITS) - 1)
        if slots[slot] < 0:
            if count == distinct.size:
                return count + 1
            distinct[count] = value
            slots[slot] = count
            count += 1
        numbers[i] = slots[slot]
    return count
