"""Positions of the nonzero indices as relative indices (Han, Mao, Dally 2015, section 2).

An array is told by its *entries* in order, each a pair of a gap, the number of zeros skipped since the entry
before, and a code, the index itself. Gaps have r bits. Where more than 2ʳ - 1 zeros lie between two nonzero
indices, a *filler* is put in: an entry with the greatest gap and code 0. So entry ``i`` lies at position
``sum(gaps[: i + 1] + 1) - 1``, and zeros after the last nonzero index need no entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.coding.numba_when_it_pays import VECTORIZED, use_numba
from featherweight.coding.symbols import symbol_dtype
from featherweight.coding.threads import map_blocks
from featherweight.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.coding.symbols import Symbols

#: Widest gap considered, in bits.
MAX_GAP_BITS = 12

#: Entries that one thread puts in their places at once.
_BLOCK_SIZE = 1 << 18

_PAST_END = "has a gap that runs past the end of the tensor"
_USELESS_FILLER = "has an entry without a weight that does not fill a gap"


@dataclass(frozen=True, eq=False)
class GapStatistics:
    """What every width of the gaps would cost, measured in one pass.

    Attributes:
        nonzero: number of nonzero indices.
        remainders: histogram of the true gaps modulo 2¹², ``(4096,)``.
        fillers: number of fillers that gaps of r bits need, ``(MAX_GAP_BITS + 1,)``; entry 0 is unused.
    """

    nonzero: int
    remainders: NDArray[np.int64]
    fillers: NDArray[np.int64]

    def stored(self, gap_bits: int) -> int:
        """Number of entries, fillers included."""
        return self.nonzero + int(self.fillers[gap_bits])

    def gap_counts(self, gap_bits: int) -> NDArray[np.int64]:
        """Histogram of the gaps of all entries, ``(2 ** gap_bits,)``."""
        counts: NDArray[np.int64] = self.remainders.reshape(-1, 1 << gap_bits).sum(axis=0)
        counts[-1] += self.fillers[gap_bits]
        return counts

    def widths(self) -> range:
        """Widths worth trying: a wider gap than the first that needs no filler only wastes bits."""
        enough = np.flatnonzero(self.fillers[1:] == 0)
        return range(1, 2 + int(enough[0]) if enough.size else MAX_GAP_BITS + 1)


def measure_gaps(indices: Symbols) -> GapStatistics:
    """Measure the gaps of a flat index array."""
    if use_numba(indices.size // VECTORIZED):
        from featherweight.coding.gap_kernels import measure

        remainders = np.zeros(1 << MAX_GAP_BITS, np.int64)
        fillers = np.zeros(MAX_GAP_BITS + 1, np.int64)
        measure(indices, remainders, fillers)
    else:
        gaps = _gaps_of(np.flatnonzero(indices))
        remainders = np.bincount(gaps & ((1 << MAX_GAP_BITS) - 1), minlength=1 << MAX_GAP_BITS)
        fillers = np.array([0, *(int((gaps >> r).sum()) for r in range(1, MAX_GAP_BITS + 1))])
    return GapStatistics(int(remainders.sum()), remainders, fillers)


def _gaps_of(positions: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.diff(positions, prepend=-1) - 1


def split_entries(indices: Symbols, gap_bits: int, stored: int) -> tuple[Symbols, Symbols]:
    """Turn a flat index array into gaps and codes.

    Args:
        indices: 1-D.
        gap_bits: r, 1 to :data:`MAX_GAP_BITS`.
        stored: the number of entries, as :meth:`GapStatistics.stored` tells it.

    Returns:
        Gaps and codes, ``(stored,)`` each.
    """
    greatest = (1 << gap_bits) - 1
    gaps = np.full(stored, greatest, symbol_dtype(1 << gap_bits))
    codes = np.zeros(stored, indices.dtype)
    if use_numba(indices.size // VECTORIZED):
        from featherweight.coding.gap_kernels import split

        split(indices, greatest, gaps, codes)
    else:
        positions = np.flatnonzero(indices)
        true_gaps = _gaps_of(positions)
        at = np.cumsum((true_gaps >> gap_bits) + 1) - 1
        gaps[at] = true_gaps & greatest
        codes[at] = indices[positions]
    return gaps, codes


def join_entries(
    gaps: Symbols, codes: Symbols, gap_bits: int, values: NDArray[Any], out: NDArray[Any]
) -> None:
    """Put the value of every entry that is not a filler where its gaps say.

    Args:
        gaps: ``(stored,)``.
        codes: ``(stored,)``.
        gap_bits: r.
        values: the value of each code; with ``arange`` the codes themselves.
        out: 1-D, holding the value of code 0 all over.

    Raises:
        FormatError: if an entry lies past the end, or a filler does not fill the gap before another entry.
    """
    greatest = (1 << gap_bits) - 1
    if codes.size and codes[-1] == 0:
        raise FormatError(_USELESS_FILLER)
    if use_numba(gaps.size // VECTORIZED):
        _join_compiled(gaps, codes, greatest, values, out)
        return
    positions = np.cumsum(gaps, dtype=np.int64) + np.arange(gaps.size)
    if positions.size and positions[-1] >= out.size:
        raise FormatError(_PAST_END)
    if ((codes == 0) & (gaps != greatest)).any():
        raise FormatError(_USELESS_FILLER)
    out[positions] = values[codes]


def _join_compiled(
    gaps: Symbols, codes: Symbols, greatest: int, values: NDArray[Any], out: NDArray[Any]
) -> None:
    """The same on all cores: blocks of entries, each with the position where the one before it ends."""
    from featherweight.coding.gap_kernels import PAST_END, join

    starts = range(0, gaps.size, _BLOCK_SIZE)
    lengths = [
        int(gaps[start : start + _BLOCK_SIZE].sum(dtype=np.int64)) + _BLOCK_SIZE for start in starts[:-1]
    ]
    before = np.cumsum([-1, *lengths]).tolist()

    def join_block(number: int) -> int:
        block = slice(starts[number], starts[number] + _BLOCK_SIZE)
        return int(join(before[number], gaps[block], codes[block], greatest, values, out))

    for fault in map_blocks(join_block, range(len(starts))):
        if fault:
            raise FormatError(_PAST_END if fault == PAST_END else _USELESS_FILLER)
