"""Ascending numbers in few bits, for codebooks: the one in the middle first, then both halves likewise.

Binary interpolation (A. Moffat, L. Stuiver, "Binary interpolative coding for effective index compression",
Information Retrieval 3, 2000) between the two ends, but not with all numbers between two neighbours as
likely: quantizers space their values evenly, nearly. A value is told by how many times its distance from
where an even spacing would have put it can be doubled without leaving the interval; how often each answer
occurs is learned on the way. Distances are those of the numbers themselves, in integers of their smallest
unit, so that every machine reads the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from featherweight.errors import FormatError

if TYPE_CHECKING:
    from featherweight.coding.range_coder import RangeCoder

#: How often a distance can be doubled, at most this often, is likely to occur; learned from here on.
_FIRST_COUNTS = (3, 5, 8, 8, 5, 3, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1)
_LAST_CLASS = len(_FIRST_COUNTS) - 1
_INCREMENT = 1

#: More numbers than this would take a decoder in plain Python too long.
MAX_COUNT = 4096

#: With so few numbers to choose from, all are as likely.
_FEW = 16

#: Bits that tell how many bits the greatest multiple of a step has.
_LENGTHS = 32


class Grid(Protocol):
    """Numbers in ascending order, at places that are consecutive integers."""

    def value(self, place: int) -> int:
        """The number at a place, in its smallest unit."""
        ...

    def place(self, value: int) -> int:
        """The first place whose number is not below ``value``."""
        ...

    def code_greatest(self, coder: RangeCoder, value: int | None) -> int:
        """Code the greatest magnitude of the numbers."""
        ...


@dataclass(frozen=True)
class Floats:
    """Finite floats of a type, as integers of the smallest one's size.

    Attributes:
        mantissa: bits of the type's mantissa.
        exponent: bits of its exponent.
        dropped: low bits of the mantissa that are zero.
        without_zero: whether zero is not one of the numbers.
    """

    mantissa: int
    exponent: int
    dropped: int
    without_zero: bool

    def value(self, place: int) -> int:
        """See :class:`Grid`; a float's bits without its sign are its number among those above zero."""
        signed = place - (self.without_zero and place <= 0)
        return self._size(abs(signed)) * (1 if signed > 0 else -1)

    def place(self, value: int) -> int:
        """See :class:`Grid`."""
        below = self._below(abs(value))
        if value <= 0:
            return self.without_zero - below
        return below + (self._size(below) < value)

    def place_of(self, bits: int) -> int:
        """The place of the float with these bits, which are not those of -0.0."""
        sign = bits >> (self.mantissa + self.exponent)
        number = (bits & (1 << (self.mantissa + self.exponent)) - 1) >> self.dropped
        return self.without_zero - number if sign else number

    def bits(self, place: int) -> int:
        """The bits of the float at a place."""
        signed = place - (self.without_zero and place <= 0)
        return abs(signed) << self.dropped | (signed < 0) << (self.mantissa + self.exponent)

    def code_greatest(self, coder: RangeCoder, value: int | None) -> int:
        """See :class:`Grid`; all floats are as likely."""
        infinity = ((1 << self.exponent) - 1) << self.mantissa
        number = None if value is None else self._below(value)
        return self._size(coder.uniform(((infinity - 1) >> self.dropped) + 1, number))

    def _size(self, number: int) -> int:
        """The float of this number among those that are not negative."""
        bits = number << self.dropped
        field, fraction = bits >> self.mantissa, bits & (1 << self.mantissa) - 1
        return fraction if field == 0 else (fraction | 1 << self.mantissa) << (field - 1)

    def _below(self, size: int) -> int:
        """The number of the greatest float that is not above ``size``."""
        shift = max(size.bit_length() - self.mantissa - 1, 0)
        return (shift << self.mantissa) + (size >> shift) >> self.dropped


@dataclass(frozen=True)
class Integers:
    """Integers, all of them or all but zero."""

    without_zero: bool

    def value(self, place: int) -> int:
        """See :class:`Grid`."""
        return place - (self.without_zero and place <= 0)

    def place(self, value: int) -> int:
        """See :class:`Grid`."""
        return value + (self.without_zero and value <= 0)

    def code_greatest(self, coder: RangeCoder, value: int | None) -> int:
        """See :class:`Grid`; below 2³¹."""
        length = coder.uniform(_LENGTHS, None if value is None else value.bit_length())
        if length == 0:
            return 0
        least = 1 << (length - 1)
        return least + coder.uniform(least, None if value is None else value - least)


class SortedValues:
    """Codes strictly ascending numbers of a grid, in either direction."""

    def __init__(self, coder: RangeCoder, grid: Grid) -> None:
        self._coder, self._grid = coder, grid
        self._counts = list(_FIRST_COUNTS)

    def code(self, count: int, places: list[int] | None = None) -> list[int]:
        """Code the places of ``count`` numbers, ascending.

        Args:
            count: how many.
            places: the places for an encoder, ``None`` for a decoder.

        Raises:
            FormatError: if the numbers do not fit where they should be.
        """
        if count > MAX_COUNT:
            raise FormatError(f"has a sorted codebook of {count} values; at most {MAX_COUNT} are allowed")
        if count == 0:
            return []
        first, last = self._code_ends(count, places)
        found = [0] * count
        found[0], found[-1] = first, last
        self._code_between(found, 0, count - 1, places)
        return found

    def _code_ends(self, count: int, places: list[int] | None) -> tuple[int, int]:
        """The end that is farther from zero, then the other one, which may well be as far."""
        grid, coder = self._grid, self._coder
        if places is None:
            size = side = None
        else:
            low, high = grid.value(places[0]), grid.value(places[-1])
            size, side = max(-low, high), int(high < -low)
        greatest = grid.code_greatest(coder, size)
        down = coder.uniform(2, side)
        end = grid.place(-greatest if down else greatest)
        if count == 1:
            return end, end
        if down:
            room = end + count - 1, grid.place(greatest) - 1
            other = self._code_near(greatest, -greatest, greatest, *room, _at(places, -1))
            return end, other
        room = grid.place(-greatest), end - count + 1
        return self._code_near(-greatest, -greatest, greatest, *room, _at(places, 0)), end

    def _code_between(self, found: list[int], left: int, right: int, places: list[int] | None) -> None:
        if right - left < 2:
            return
        middle = (left + right) // 2
        low, high = self._grid.value(found[left]), self._grid.value(found[right])
        even = low + (high - low) * (middle - left) // (right - left)
        room = found[left] + middle - left, found[right] - (right - middle)
        found[middle] = self._code_near(even, low, high, *room, _at(places, middle))
        self._code_between(found, left, middle, places)
        self._code_between(found, middle, right, places)

    def _code_near(self, even: int, low: int, high: int, first: int, last: int, place: int | None) -> int:
        """A place from ``first`` to ``last``, whose number is likely to be near ``even``."""
        coder, grid = self._coder, self._grid
        if last - first < _FEW:
            return first + self._uniform(last - first + 1, place, first)
        middle = min(max(grid.place(even), first), last + 1)
        sides = first < middle, middle <= last
        above = sides[1] if sum(sides) == 1 else coder.uniform(2, None if place is None else place >= middle)
        room = high - even if above else even - low
        halvings = coder.pick(
            self._counts, None if place is None else _halvings(grid.value(place) - even, room)
        )
        self._counts[halvings] += _INCREMENT
        far, near = room >> halvings, room >> (halvings + 1) if halvings < _LAST_CLASS else 0
        start, end = (even + near, even + far) if above else (even - far, even - near)
        start, end = max(grid.place(start), first), min(grid.place(end), last + 1)
        return start + self._uniform(end - start, place, start)

    def _uniform(self, count: int, place: int | None, start: int) -> int:
        if count < 1:
            raise FormatError("has a codebook whose values do not fit between their neighbours")
        return self._coder.uniform(count, None if place is None else place - start)


def _halvings(distance: int, room: int) -> int:
    """How often a distance can be doubled without leaving the room; the far end belongs to the room below."""
    found = 0
    size = distance + 1 if distance >= 0 else -distance
    while found < _LAST_CLASS and size <= room >> (found + 1):
        found += 1
    return found


def _at(places: list[int] | None, at: int) -> int | None:
    return None if places is None else places[at]
