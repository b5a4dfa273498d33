"""Nearest centroids of many float32 weights, compiled.

The upper half of a float's bits tells in one look-up between which borders it lies, or between which few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from featherweight.coding.threads import map_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK_SIZE = 1 << 20
_CELLS = 1 << 16


@njit(cache=True, nogil=True)
def _assign(
    weights: Any, borders: Any, below: Any, up_to: Any, offset: Any, zero_first: bool, out: Any
) -> None:
    bits = weights.view(np.uint32)
    for i in range(weights.size):
        cell = bits[i] >> np.uint32(16)
        index = below[cell]
        last = up_to[cell]
        while index < last and borders[index] < weights[i]:
            index += 1
        out[i] = 0 if zero_first and weights[i] == 0 else index + offset


def assign_float32(
    weights: NDArray[np.float32],
    borders: NDArray[np.float32],
    offset: int,
    zero_first: bool,
    out: NDArray[Any],
) -> None:
    """Write ``offset`` + the number of borders below each weight, on all cores.

    Args:
        weights: flat and contiguous, finite.
        borders: ascending.
        offset: added to every index.
        zero_first: whether weights of 0 get index 0 instead.
        out: uint8 or uint16, flat, one for each weight.
    """
    cells = np.arange(_CELLS, dtype=np.uint32) << 16
    ends = np.stack([cells, cells | 0xFFFF]).view(np.float32)
    with np.errstate(invalid="ignore"):
        ends = np.where(np.isfinite(ends), ends, 0)  # cells that no weight is in
    below = np.searchsorted(borders, ends.min(axis=0), side="left").astype(np.int32)
    up_to = np.searchsorted(borders, ends.max(axis=0), side="left").astype(np.int32)

    def assign_block(start: int) -> None:
        part = slice(start, start + _BLOCK_SIZE)
        _assign(weights[part], borders, below, up_to, offset, zero_first, out[part])

    map_blocks(assign_block, range(0, weights.size, _BLOCK_SIZE))
