"""What the coders share: symbol arrays, their histograms and their entropy.

A *symbol* is an integer in ``range(alphabet)``: an index into a codebook, or a gap between nonzero weights. A
:class:`SymbolCoder` codes a flat array of them; :mod:`featherweight.coding.layout` builds coders of whole
index arrays from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from featherweight.coding.numba_when_it_pays import VECTORIZED, use_numba

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

    Raises:
        IndexError: if a symbol is not in the alphabet.
    """
    if symbols.size and int(symbols.max()) >= alphabet:
        raise IndexError(f"symbol {int(symbols.max())} is outside an alphabet of {alphabet}")
    flat = symbols.reshape(-1)
    if use_numba(symbols.size // VECTORIZED):
        from featherweight.coding.symbol_kernels import count

        counts: NDArray[np.int64] = count(flat, alphabet)
        return counts
    return np.bincount(flat, minlength=alphabet)


def entropy_bits(counts: NDArray[np.int64]) -> float:
    """Shannon's lower bound on the bits of any static code for an array with this histogram."""
    present = counts[counts > 0].astype(np.float64)
    total = present.sum()
    return float((present * np.log2(total / present)).sum())
