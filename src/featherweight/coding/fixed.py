"""Symbols of equal width: ``ceil(log2 alphabet)`` bits each, least significant bit first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featherweight.coding.bits import LENGTH_BITS, read_streams, write_stream
from featherweight.coding.symbols import ceil_log2, symbol_dtype
from featherweight.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.coding.cursor import Cursor
    from featherweight.coding.symbols import Symbols


class FixedWidth:
    """The code of the paper's P+Q columns; see :class:`~featherweight.coding.symbols.SymbolCoder`."""

    def header_bits(self, counts: NDArray[np.int64]) -> int:
        """None: the alphabet alone decides."""
        return 0

    def body_bits(self, counts: NDArray[np.int64]) -> int:
        """``ceil(log2 alphabet)`` bits a symbol."""
        return int(counts.sum()) * ceil_log2(counts.size)

    def encode(self, symbols: Symbols, counts: NDArray[np.int64]) -> bytes:
        """Pack the symbols."""
        if ceil_log2(counts.size) == 0:
            return b""
        return write_stream(symbols, _identity(ceil_log2(counts.size)), self.body_bits(counts))

    def decode(self, cursor: Cursor, count: int, alphabet: int) -> Symbols:
        """Unpack ``count`` symbols."""
        dtype = symbol_dtype(alphabet)
        width = ceil_log2(alphabet)
        if width == 0 or count == 0:
            return np.zeros(count, dtype)
        if count * width > 8 * cursor.remaining:
            raise FormatError(f"is too short for {count} symbols of {width} bits")
        symbols, size = read_streams(cursor.rest(), [], _identity(width), count, dtype)
        cursor.take(size)
        if int(symbols.max()) >= alphabet:
            raise FormatError(f"holds symbol {int(symbols.max())} of an alphabet of {alphabet}")
        return symbols


def _identity(width: int) -> NDArray[np.uint32]:
    """Every symbol is its own codeword, so one table serves to write and to read."""
    symbols = np.arange(1 << width, dtype=np.uint32)
    return symbols << np.uint32(LENGTH_BITS) | np.uint32(width)
