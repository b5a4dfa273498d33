"""Canonical Huffman codes of limited length, decoded by table.

D. A. Huffman, "A method for the construction of minimum-redundancy codes", Proc. IRE 40 (1952). Only the
codeword lengths are stored; codewords follow from them in canonical order, by length and then by symbol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featherweight.coding.bits import LENGTH_BITS, MAX_CODE_LENGTH, read_streams, write_stream
from featherweight.coding.code_lengths import decode_lengths, encode_lengths, encode_single
from featherweight.coding.cursor import encode_varint
from featherweight.coding.package_merge import code_lengths
from featherweight.coding.symbols import ceil_log2, symbol_dtype
from featherweight.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.coding.cursor import Cursor
    from featherweight.coding.symbols import Symbols

#: Longest codeword for all but large alphabets: a lookup table of 2¹² entries stays in the first-level cache.
NORMAL_LIMIT = 12

#: From this many symbols on they are split into several bit streams, which a processor decodes side by side.
PARALLEL_FROM = 1 << 16
PARALLEL_STREAMS = 4


class Huffman:
    """The code of the paper's P+Q+H columns; see :class:`~featherweight.coding.symbols.SymbolCoder`.

    The layout is the code lengths (:mod:`featherweight.coding.code_lengths`), then, if there are 65,536
    symbols or more, the bytes of the first three of four bit streams as varints, then the bit stream or
    streams, each holding ``ceil(count / 4)`` symbols, the last one the rest. No symbols take no bytes.
    """

    def header_bits(self, counts: NDArray[np.int64]) -> int:
        """Bits of the code lengths."""
        return 8 * len(_encode_header(counts))

    def body_bits(self, counts: NDArray[np.int64]) -> int:
        """Bits of the codewords."""
        return int((counts * _optimal_lengths(counts)).sum())

    def encode(self, symbols: Symbols, counts: NDArray[np.int64]) -> bytes:
        """Code the symbols with the best code for them."""
        header = _encode_header(counts)
        if np.count_nonzero(counts) < 2:
            return header
        codewords = CanonicalCode(_optimal_lengths(counts)).codewords()
        chunk = -(-symbols.size // _stream_count(symbols.size))
        chunks = [symbols[start : start + chunk] for start in range(0, symbols.size, chunk)]
        # A chunk's own bits are not known beforehand, but those of the whole array bound them.
        bit_count = self.body_bits(counts)
        streams = [write_stream(part, codewords, bit_count) for part in chunks]
        sizes = b"".join(encode_varint(len(stream)) for stream in streams[:-1])
        return b"".join([header, sizes, *streams])

    def decode(self, cursor: Cursor, count: int, alphabet: int) -> Symbols:
        """Read ``count`` symbols back."""
        dtype = symbol_dtype(alphabet)
        if count == 0:
            return np.zeros(0, dtype)
        first, lengths = decode_lengths(cursor, alphabet)
        if lengths.size == 1:
            return np.full(count, first, dtype)
        lookup = CanonicalCode(lengths, first).lookup()
        sizes = [cursor.varint() for _ in range(_stream_count(count) - 1)]
        if count > 8 * cursor.remaining:
            raise FormatError(f"is too short for {count} symbols")
        symbols, size = read_streams(cursor.rest(), sizes, lookup, count, dtype)
        cursor.take(size)
        return symbols


@dataclass(frozen=True, eq=False)
class CanonicalCode:
    """Codewords from their lengths alone.

    In canonical order the codewords of a complete code, followed by whatever bits, fill the numbers of
    ``width`` bits from 0 on without a gap: one of ``length`` bits fills ``2 ** (width - length)`` of them.
    Reversing the bits of these numbers turns them into what a reader sees that takes the least significant
    bit first.

    Attributes:
        lengths: bits of every codeword, 0 for a symbol that does not occur; at least two occur.
        first: the symbol that ``lengths[0]`` belongs to.

    Raises:
        FormatError: if the lengths are not those of a complete prefix code.
    """

    lengths: NDArray[np.uint8]
    first: int = 0

    def __post_init__(self) -> None:
        filled = int(self._extents().sum())
        if filled != 1 << self.width:
            fault = "over" if filled > 1 << self.width else "under"
            raise FormatError(f"has an {fault}-subscribed Huffman table")

    @property
    def width(self) -> int:
        """Bits of the longest codeword."""
        return int(self.lengths.max())

    def lookup(self) -> NDArray[np.uint32]:
        """``symbol << 5 | length`` for every value of the next ``width`` bits, ``(2 ** width,)``."""
        order = self._order()
        entries = (order + self.first).astype(np.uint32) << LENGTH_BITS | self.lengths[order]
        by_number = np.repeat(entries, self._extents()[order])
        return by_number[_reverse_bits(np.arange(1 << self.width), self.width)]

    def codewords(self) -> NDArray[np.uint32]:
        """``codeword << 5 | length`` of every symbol, ready to be written least significant bit first."""
        order = self._order()
        extents = self._extents()[order]
        starts = np.cumsum(extents) - extents
        table = np.zeros(self.lengths.size, np.uint32)
        table[order] = _reverse_bits(starts, self.width) << LENGTH_BITS | self.lengths[order]
        return table

    def _order(self) -> NDArray[np.int64]:
        """The symbols that occur, in canonical order, counted from ``first``."""
        order = np.argsort(self.lengths, kind="stable")
        return order[np.count_nonzero(self.lengths == 0) :]

    def _extents(self) -> NDArray[np.int64]:
        lengths = self.lengths.astype(np.int64)
        return np.where(lengths > 0, 1 << (self.width - lengths), 0)


def _optimal_lengths(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    present = int(np.count_nonzero(counts))
    # Two bits above the least possible already cost next to nothing against an unlimited code.
    limit = min(max(NORMAL_LIMIT, ceil_log2(present) + 2), MAX_CODE_LENGTH)
    return code_lengths(counts, limit)


def _encode_header(counts: NDArray[np.int64]) -> bytes:
    present = np.flatnonzero(counts)
    if present.size == 0:
        return b""
    if present.size == 1:
        return encode_single(int(present[0]))
    return encode_lengths(_optimal_lengths(counts))


def _stream_count(count: int) -> int:
    return PARALLEL_STREAMS if count >= PARALLEL_FROM else 1


def _reverse_bits(numbers: NDArray[np.int64], width: int) -> NDArray[np.uint32]:
    reversed_numbers = np.zeros(numbers.shape, np.uint32)
    for i in range(width):
        reversed_numbers |= ((numbers >> i & 1) << (width - 1 - i)).astype(np.uint32)
    return reversed_numbers
