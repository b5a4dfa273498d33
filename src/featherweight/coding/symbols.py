"""What the coders share: symbol arrays, their histograms and their entropy.

A *symbol* is an integer in ``range(alphabet)``: an index into a codebook, or a gap between nonzero weights. A
:class:`SymbolCoder` codes a flat array of them; :mod:`featherweight.coding.layout` builds coders of whole
index arrays from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.coding.cursor import Cursor

#: uint8 or uint16; NumPy has no narrower way to say so.
Symbols: TypeAlias = "NDArray[Any]"


class SymbolCoder(Protocol):
    """A static code for flat symbol arrays; ``counts`` is their histogram, ``(alphabet,)``."""

    def header_bits(self, counts: NDArray[np.int64]) -> int:
        """Bits that say which code is used."""
        ...

    def body_bits(self, counts: NDArray[np.int64]) -> int:
        """Bits that the symbols themselves take, without padding."""
        ...

    def encode(self, symbols: Symbols, counts: NDArray[np.int64]) -> bytes:
        """Code the symbols."""
        ...

    def decode(self, cursor: Cursor, count: int, alphabet: int) -> Symbols:
        """Read ``count`` symbols, each below ``alphabet``; raises :class:`FormatError` on anything else."""
        ...


def symbol_dtype(alphabet: int) -> type[np.uint8 | np.uint16]:
    """The narrowest of the two symbol dtypes that holds ``range(alphabet)``."""
    return np.uint8 if alphabet <= 256 else np.uint16


def ceil_log2(count: int) -> int:
    """Bits that tell ``count`` things apart; 0 for none or one."""
    return max(count - 1, 0).bit_length()


def histogram(symbols: Symbols, alphabet: int) -> NDArray[np.int64]:
    """How often each of ``range(alphabet)`` occurs, ``(alphabet,)``.

    Unlike :func:`numpy.bincount` it does not widen the array to eight bytes a symbol first.

    Raises:
        IndexError: if a symbol is not in the alphabet.
    """
    if symbols.size and int(symbols.max()) >= alphabet:
        raise IndexError(f"symbol {int(symbols.max())} is outside an alphabet of {alphabet}")
    counts: NDArray[np.int64] = _histogram(symbols.reshape(-1), alphabet)
    return counts


@njit(cache=True, nogil=True)
def _histogram(symbols: Symbols, alphabet: int) -> Any:
    # Four tables in turn: runs of one symbol would otherwise wait for their own last increment.
    tables = np.zeros((4, alphabet), np.int64)
    whole = symbols.size // 4 * 4
    for i in range(0, whole, 4):
        for lane in range(4):
            tables[lane, symbols[i + lane]] += 1
    for i in range(whole, symbols.size):
        tables[0, symbols[i]] += 1
    return tables.sum(axis=0)


def entropy_bits(counts: NDArray[np.int64]) -> float:
    """Shannon's lower bound on the bits of any static code for an array with this histogram."""
    present = counts[counts > 0].astype(np.float64)
    total = present.sum()
    return float((present * np.log2(total / present)).sum())
