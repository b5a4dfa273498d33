"""A range coder for short sequences: codebooks, small tensors, directories. In plain Python.

G. N. N. Martin, "Range encoding: an algorithm for removing redundancy from a digitised message" (1979); the
shares of symbols come from the caller, who adapts them to what has been coded. Encoder and decoder have the
same methods, so that a model is written once: each takes the symbol to code and returns the symbol coded; a
decoder is given ``None`` in its place.

The bytes are those of a block of the ``context`` coder: the shortest that, followed by zeros, lie in the last
interval.
"""

from __future__ import annotations

from typing import Protocol

from featherweight.errors import FormatError

_WHOLE = (1 << 32) - 1
_LEAST = 1 << 24

#: Probabilities of bits are so many times what they are.
PROBABILITY_ONE = 1 << 16


class RangeCoder(Protocol):
    """Either direction."""

    def share(self, start: int, size: int, total: int) -> None:
        """Narrow the interval to a share of it."""
        ...

    def pick(self, counts: list[int], symbol: int | None) -> int:
        """Code a symbol below ``len(counts)`` that has this share of at most 65,536."""
        ...

    def uniform(self, count: int, symbol: int | None) -> int:
        """Code a symbol below ``count``, all of which are as likely."""
        ...

    def bit(self, probability: int, symbol: int | None) -> int:
        """Code a bit that is 1 with a probability of 1 to 65,535, of 65,536."""
        ...


def _digits(count: int) -> list[int]:
    """Bits of the digits, the highest first, that a number below ``count`` is coded in."""
    bits = (count - 1).bit_length()
    return [min(16, bits - at) for at in range(0, bits, 16)]


class RangeEncoder:
    """Writes; see :class:`RangeCoder`."""

    def __init__(self) -> None:
        self._low, self._range, self._written = 0, _WHOLE, bytearray()

    def share(self, start: int, size: int, total: int) -> None:
        """Narrow the interval."""
        unit = self._range // total
        self._low += start * unit
        self._range = size * unit
        while self._range < _LEAST:
            self._shift()

    def pick(self, counts: list[int], symbol: int | None) -> int:
        """Code a symbol by its share."""
        assert symbol is not None  # noqa: S101 - an encoder knows what it codes
        self.share(sum(counts[:symbol]), counts[symbol], sum(counts))
        return symbol

    def uniform(self, count: int, symbol: int | None) -> int:
        """Code a number below ``count``, 16 bits at a time."""
        assert symbol is not None  # noqa: S101 - an encoder knows what it codes
        left, most = symbol, count - 1
        bits = most.bit_length()
        for digit_bits in _digits(count):
            bits -= digit_bits
            digit = left >> bits
            self.share(digit, 1, (most >> bits) + 1)
            left -= digit << bits
            most = most - (digit << bits) if digit == most >> bits else (1 << bits) - 1
        return symbol

    def bit(self, probability: int, symbol: int | None) -> int:
        """Code a bit."""
        assert symbol is not None  # noqa: S101 - an encoder knows what it codes
        one = self._range * probability >> 16
        if symbol:
            self._range = one
        else:
            self._low += one
            self._range -= one
        while self._range < _LEAST:
            self._shift()
        return symbol

    def _shift(self) -> None:
        self._carry()
        self._written.append(self._low >> 24)
        self._low = (self._low & 0xFFFFFF) << 8
        self._range <<= 8

    def _carry(self) -> None:
        if self._low >> 32:
            self._low &= 0xFFFFFFFF
            at = len(self._written) - 1
            while self._written[at] == 0xFF:
                self._written[at] = 0
                at -= 1
            self._written[at] += 1

    def finish(self) -> bytes:
        """All bytes; nothing may be coded after it."""
        top = self._low + self._range - 1
        zeros = next(zeros for zeros in range(4, -1, -1) if top >> 8 * zeros << 8 * zeros >= self._low)
        self._low = top >> 8 * zeros << 8 * zeros
        self._carry()
        return (bytes(self._written) + self._low.to_bytes(4, "big")).rstrip(b"\0")


class RangeDecoder:
    """Reads; see :class:`RangeCoder`. What it is given is hostile, and every symbol it returns is valid."""

    def __init__(self, data: bytes) -> None:
        if data[:4] == b"\xff" * 4:
            raise FormatError("begins outside of the range coder's interval")
        self._data, self._at, self._range = data, 4, _WHOLE
        self._offset = int.from_bytes(data[:4].ljust(4, b"\0"), "big")

    def share(self, start: int, size: int, total: int) -> None:
        """Narrow the interval."""
        unit = self._range // total
        self._offset -= start * unit
        self._range = size * unit
        self._refill()

    def pick(self, counts: list[int], symbol: int | None) -> int:
        """Read a symbol by its share."""
        left, start = self._slot(sum(counts)), 0
        for found, count in enumerate(counts):
            if left < start + count:
                self.share(start, count, sum(counts))
                return found
            start += count
        raise AssertionError("a slot belongs to a symbol")

    def uniform(self, count: int, symbol: int | None) -> int:
        """Read a number below ``count``."""
        most, value = count - 1, 0
        bits = most.bit_length()
        for digit_bits in _digits(count):
            bits -= digit_bits
            total = (most >> bits) + 1
            digit = self._slot(total)
            self.share(digit, 1, total)
            value += digit << bits
            most = most - (digit << bits) if digit == most >> bits else (1 << bits) - 1
        return value

    def bit(self, probability: int, symbol: int | None) -> int:
        """Read a bit."""
        one = self._range * probability >> 16
        found = int(self._offset < one)
        if found:
            self._range = one
        else:
            self._offset -= one
            self._range -= one
        self._refill()
        return found

    def _slot(self, total: int) -> int:
        slot = self._offset // (self._range // total)
        if slot >= total:
            raise FormatError("holds a number that no range coder writes")
        return slot

    def _refill(self) -> None:
        while self._range < _LEAST:
            self._range <<= 8
            self._offset <<= 8
            if self._at < len(self._data):
                self._offset |= self._data[self._at]
            self._at += 1

    def finish(self) -> None:
        """Check that the bytes end as an encoder ends them: nothing follows, nothing is left out."""
        zeros = self._at - len(self._data)
        if zeros < 0:
            raise FormatError(f"goes on after the end of its range coder, {-zeros} bytes are left")
        shortest = not self._data or self._data[-1] << 8 * zeros > self._offset
        if self._range - 1 - self._offset >= 1 << 8 * zeros or not shortest:
            raise FormatError("has range-coded bytes that do not end where they should")
