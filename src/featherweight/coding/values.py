"""Codebook values in place of symbols, on all cores where the array is large."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.coding.numba_when_it_pays import VECTORIZED, use_numba
from featherweight.coding.threads import map_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.coding.symbols import Symbols

_BLOCK_SIZE = 1 << 20


def filled(count: int, value: NDArray[Any]) -> NDArray[Any]:
    """``count`` times one value, ``(1,)``, bit for bit; ``(0,)`` will do where there is nothing to fill."""
    out = np.zeros(count, value.dtype)  # memory that is zero already costs nothing until it is used
    if value.tobytes().strip(b"\0"):
        out[:] = value
    return out


def take_values(symbols: Symbols, values: NDArray[Any]) -> NDArray[Any]:
    """``values[symbols]`` of a flat array whose symbols are known to be small enough."""
    if not use_numba(symbols.size // VECTORIZED):
        taken: NDArray[Any] = values[symbols]
        return taken
    from featherweight.coding.symbol_kernels import take

    out = np.empty(symbols.size, values.dtype)
    bits, out_bits = as_bits(values), as_bits(out)

    def take_block(start: int) -> None:
        block = slice(start, start + _BLOCK_SIZE)
        take(symbols[block], bits, out_bits[block])

    map_blocks(take_block, range(0, symbols.size, _BLOCK_SIZE))
    return out


def as_bits(values: NDArray[Any]) -> NDArray[Any]:
    """The same memory as unsigned integers, so that kernels are compiled for one type a size."""
    return values.view(f"u{values.itemsize}")
