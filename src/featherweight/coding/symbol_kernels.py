"""The inner loops of :mod:`featherweight.coding.symbols`, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def count(symbols: Any, alphabet: int) -> Any:
    """The histogram of a flat array; unlike NumPy's it does not widen the array to eight bytes a symbol."""
    # Four tables in turn: runs of one symbol would otherwise wait for their own last increment.
    tables = np.zeros((4, alphabet), np.int64)
    whole = symbols.size // 4 * 4
    for i in range(0, whole, 4):
        for lane in range(4):
            tables[lane, symbols[i + lane]] += 1
    for i in range(whole, symbols.size):
        tables[0, symbols[i]] += 1
    return tables.sum(axis=0)


@njit(cache=True, nogil=True)
def take(symbols: Any, values: Any, out: Any) -> None:
    """``out[i] = values[symbols[i]]``."""
    for i in range(symbols.size):
        out[i] = values[symbols[i]]
