"""The codeword lengths of a canonical Huffman code, stored in a few bits a symbol.

Neighbouring symbols have like counts, so a length is told by how it differs from the one before. The layout
is::

    first symbol that occurs      varint
    last minus first              varint; if 0, that is all: one symbol, coded in no bits
    length of the first           5 bits
    then until the last symbol    '0'                  as the length before
                                  '10'                 one bit more
                                  '110'                one bit less
                                  '1110' gamma(run)    the next ``run`` symbols do not occur
                                  '1111' 5 bits        any other length
    zero bits up to a whole byte

Bits fill bytes from the least significant on; numbers of several bits stand with their highest bit first;
``gamma(run)`` is Elias' code, one zero bit for every binary digit of ``run`` but one, then these digits.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from featherweight.coding.bits import MAX_CODE_LENGTH
from featherweight.coding.cursor import Cursor, encode_varint
from featherweight.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Bits of a length that is written out.
_LENGTH_DIGITS = 5

#: No token says less than one symbol in more bits than this, which bounds the bytes that a table can take.
_MAX_TOKEN_BITS = 4 + 2 * 16


def encode_lengths(lengths: NDArray[np.uint8]) -> bytes:
    """Store code lengths, ``(alphabet,)``, of which at least one is nonzero or belongs to the only symbol.

    Args:
        lengths: bits of every codeword, 0 for a symbol that does not occur.
    """
    present = np.flatnonzero(lengths).tolist()
    first, last = present[0], present[-1]
    tokens = [format(lengths[first], f"0{_LENGTH_DIGITS}b")]
    for before, symbol in pairwise(present):
        if symbol > before + 1:
            tokens.append("1110" + _gamma(symbol - before - 1))
        tokens.append(_length_token(int(lengths[before]), int(lengths[symbol])))
    digits = np.frombuffer("".join(tokens).encode(), np.uint8) - ord("0")
    packed = np.packbits(digits, bitorder="little").tobytes()
    return encode_varint(first) + encode_varint(last - first) + packed


def encode_single(symbol: int) -> bytes:
    """Store the code of an array in which only ``symbol`` occurs."""
    return encode_varint(symbol) + encode_varint(0)


def _length_token(before: int, length: int) -> str:
    steps = {0: "0", 1: "10", -1: "110"}
    return steps.get(length - before) or "1111" + format(length, f"0{_LENGTH_DIGITS}b")


def _gamma(run: int) -> str:
    return "0" * (run.bit_length() - 1) + format(run, "b")


def decode_lengths(cursor: Cursor, alphabet: int) -> tuple[int, NDArray[np.uint8]]:
    """Read code lengths back.

    Returns:
        The first symbol that occurs, and the lengths from it to the last that does; a single 0 if it is the
        only one.

    Raises:
        FormatError: if the table leaves the alphabet, is cut short, or holds a length of 0 or of too many
        bits.
    """
    first, span = cursor.varint(), cursor.varint()
    if first + span >= alphabet:
        raise FormatError(f"has a code for symbol {first + span} of an alphabet of {alphabet}")
    lengths = np.zeros(span + 1, np.uint8)
    if span == 0:
        return first, lengths
    bits = _BitReader(cursor.rest()[: (_MAX_TOKEN_BITS * (span + 1)) // 8 + 1])
    at, length = 0, bits.number(_LENGTH_DIGITS)
    while True:
        if not 1 <= length <= MAX_CODE_LENGTH:
            raise FormatError(f"has a codeword of {length} bits; 1 to {MAX_CODE_LENGTH} are allowed")
        lengths[at] = length
        if at == span:
            break
        skipped, length = _read_token(bits, length)
        at += 1 + skipped
        if at > span:
            raise FormatError("has a code table that runs past its last symbol")
    cursor.take(bits.finish())
    return first, lengths


def _read_token(bits: _BitReader, before: int) -> tuple[int, int]:
    """How many symbols to skip, and the length of the one after them."""
    skipped = 0
    ones = bits.ones(4)
    if ones == 3:
        skipped = bits.gamma()
        ones = bits.ones(4)
        if ones == 3:
            raise FormatError("has a code table with a run of absent symbols in two parts")
    if ones == 4:
        return skipped, bits.number(_LENGTH_DIGITS)
    return skipped, before + (0, 1, -1)[ones]


class _BitReader:
    """Bits of a byte array, least significant first."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self._bits = np.unpackbits(data, bitorder="little").tobytes()
        self._position = 0

    def bit(self) -> int:
        if self._position == len(self._bits):
            raise FormatError("has a code table that is cut short")
        self._position += 1
        return self._bits[self._position - 1]

    def number(self, digits: int) -> int:
        value = 0
        for _ in range(digits):
            value = value << 1 | self.bit()
        return value

    def ones(self, most: int) -> int:
        """Length of a run of one bits, which a zero bit or its greatest length ends."""
        count = 0
        while count < most and self.bit():
            count += 1
        return count

    def gamma(self) -> int:
        zeros = 0
        while not self.bit():
            zeros += 1
            if zeros > 16:
                raise FormatError("has a code table that runs past its last symbol")
        return 1 << zeros | self.number(zeros)

    def finish(self) -> int:
        """Bytes read so far; the bits left over in the last of them must be zero."""
        size = -(-self._position // 8)
        if any(self._bits[self._position : 8 * size]):
            raise FormatError("has a code table padded with other than zero bits")
        return size
