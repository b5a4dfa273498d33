"""The static tables of the ``rans`` coder: which ones cost least, and how they are stored.

A table gives every symbol that occurs a *share*, a positive integer; all shares together are 2ⁿ, and a symbol
of share f costs n - log2(f) bits. Few arrays deserve their shares to the last digit, so a table says how many
digits after the leading one it keeps, and one symbol, the first of those with the most digits, has what the
others leave. The layout is::

    first symbol, lengths of the shares   as :mod:`featherweight.coding.code_lengths` stores lengths
    n, digits, lanes                      u8: n - 1, + 16 * digits, + 128 if 32 lanes share the stream
    for each symbol but the one           the digits of its share after the leading one, the highest first;
                                          at most ``digits`` of them, the rest are zero. 7 stands for all.
    zero bits up to a whole byte

A constant array ends after its symbol.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from featherweight.coding.code_lengths import decode_lengths, encode_lengths, encode_single
from featherweight.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.coding.cursor import Cursor

#: Bits of the shares' sum. Up to 12 a decoder's table stays in the first-level cache.
MIN_SCALE, NORMAL_SCALE, MAX_SCALE = 5, 12, 16

#: A larger one is taken where it leaves less than this fraction of the bits: where symbols are many, or rare.
_WORTH_A_LARGE_TABLE = 0.99

#: Digits after the leading one that a share may keep; this many stand for all.
ALL_DIGITS = 7

#: Size from which on a stream takes several lanes: their states cost under half a percent of it.
_LANES_FROM_BITS = 8 * 16384

_LANES_FLAG = 0x80

#: Steps of a bisection; they leave a relative error of 2^-44, so that only steps of equal savings are left
#: over.
_BISECTIONS = 44


@dataclass(frozen=True, eq=False)
class Table:
    """Shares of the symbols from ``first`` on, or the one symbol of a constant array.

    Attributes:
        first: the symbol that ``shares[0]`` belongs to.
        shares: ``(span,)``, 0 for a symbol that does not occur; empty if only ``first`` does.
        scale: n; the shares sum to ``2 ** n``.
        lanes: whether several states take turns.
    """

    first: int
    shares: NDArray[np.int64]
    scale: int = 0
    lanes: bool = False


@dataclass(frozen=True, eq=False)
class Plan:
    """The cheapest table for a histogram.

    Attributes:
        table: what to code with.
        header: the table as it is stored.
        body_bits: bits that the symbols take with it.
    """

    table: Table
    header: bytes
    body_bits: int


def plan(counts: NDArray[np.int64]) -> Plan:
    """Find the cheapest table for an array with this histogram, ``(alphabet,)``, not all zero."""
    return _plan(counts.tobytes(), _LANES_FROM_BITS)


@lru_cache(maxsize=16)  # a layout is chosen by the sizes of several plans, and then one of them is used
def _plan(counts_bytes: bytes, lanes_from_bits: int) -> Plan:
    counts = np.frombuffer(counts_bytes, np.int64)
    present = np.flatnonzero(counts)
    first = int(present[0])
    if present.size == 1:
        return Plan(Table(first, np.zeros(0, np.int64)), encode_single(first), 0)
    counts = counts[first : int(present[-1]) + 1]
    shares, scale, digits = _cheapest(counts, present.size)
    cost = _cost(counts, shares, scale)
    table = Table(first, shares, scale, cost >= lanes_from_bits)
    return Plan(table, _encode(table, digits), math.ceil(cost))


def _cheapest(counts: NDArray[np.int64], present: int) -> tuple[NDArray[np.int64], int, int]:
    """Shares, scale and digits for a histogram of so many symbols."""
    least = max(MIN_SCALE, (present - 1).bit_length())
    best, fewest = None, math.inf
    # From the normal one on, as long as coarser ones are cheaper: they save in the table, and cost in the
    # body.
    for scale in range(max(least, NORMAL_SCALE), least - 1, -1):
        shares, digits, bits = _cheapest_digits(counts, scale)
        if bits >= fewest:
            break
        best, fewest = (shares, scale, digits), bits
    assert best is not None  # noqa: S101 - the first is cheaper than none
    for scale in range(max(least, NORMAL_SCALE) + 2, MAX_SCALE + 1, 2):
        shares, digits, bits = _cheapest_digits(counts, scale)
        if bits < _WORTH_A_LARGE_TABLE * fewest:
            best, fewest = (shares, scale, digits), bits
    return best


def _cheapest_digits(counts: NDArray[np.int64], scale: int) -> tuple[NDArray[np.int64], int, float]:
    """Shares, the digits kept of them, and the bits of table and body."""
    exact = optimal_shares(counts, scale)
    shares, digits, fewest = exact, ALL_DIGITS, math.inf
    for fewer in range(ALL_DIGITS, -1, -1):
        rounded = round_shares(exact, fewer)
        if rounded is None:
            continue
        bits = _table_bits(rounded, fewer) + _cost(counts, rounded, scale)
        if bits > fewest:
            break
        shares, digits, fewest = rounded, fewer, bits
    return shares, digits, fewest


def _cost(counts: NDArray[np.int64], shares: NDArray[np.int64], scale: int) -> float:
    occurs = counts > 0
    return float((counts[occurs] * (scale - np.log2(shares[occurs]))).sum())


def optimal_shares(counts: NDArray[np.int64], scale: int) -> NDArray[np.int64]:
    """Shares that sum to ``2 ** scale``, at least 1 where a count is, and cost the fewest bits.

    A step of a share from f to f + 1 saves count * log2(1 + 1/f) bits, less with every step, so the cheapest
    shares are those in which every step taken saves at least as much as any that is not: a threshold, found
    by bisection. What is left over by steps that save the same goes to the first symbols.

    Raises:
        ValueError: if there are more symbols than shares.
    """
    total = 1 << scale
    occurs = counts > 0
    present = counts[occurs].astype(np.float64)
    if present.size > total:
        raise ValueError(f"{present.size} symbols cannot share {total}")
    low, high = (
        0.0,
        2.0 * float(present.max()),
    )  # a saving per step that gives too much, and one that does not
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _shares_at(present, middle).sum() > total:
            low = middle
        else:
            high = middle
    chosen = _shares_at(present, high)
    savings = present * np.log2(1 + 1 / chosen)
    # Bisection ends where one more step of the same saving would be too many; the sort breaks such ties.
    while (left := total - int(chosen.sum())) > 0:
        order = np.argsort(-savings, kind="stable")[:left]
        chosen[order] += 1
        savings = present * np.log2(1 + 1 / chosen)
    shares = np.zeros(counts.size, np.int64)
    shares[occurs] = chosen
    return shares


def _shares_at(counts: NDArray[np.float64], saving: float) -> NDArray[np.int64]:
    """Shares after all steps that save at least so many bits each."""
    with np.errstate(divide="ignore", over="ignore"):
        steps = 1 / np.expm1(saving * math.log(2) / counts)
    return 1 + np.minimum(steps, 1 << (MAX_SCALE + 1)).astype(np.int64)


def round_shares(exact: NDArray[np.int64], digits: int) -> NDArray[np.int64] | None:
    """Keep only so many binary digits after the leading one of all shares but one, which takes the rest.

    Returns:
        Shares of the same sum, or ``None`` if nothing is left for the one.
    """
    if digits == ALL_DIGITS:
        return exact
    dropped = np.maximum(_lengths(exact) - 1 - digits, 0)
    rounded = (exact + (1 << dropped >> 1)) >> dropped << dropped
    rest = _rest_index(_lengths(rounded))
    rounded[rest] += exact.sum() - rounded.sum()
    lengths = _lengths(rounded)
    # Its number of digits must still be the greatest, or a reader would take another one for it.
    if rounded[rest] < 1 or _rest_index(lengths) != rest:
        return None
    return rounded


def _lengths(shares: NDArray[np.int64]) -> NDArray[np.int64]:
    """Binary digits of every share, 0 for 0."""
    return np.frexp(shares.astype(np.float64))[1].astype(np.int64)


def _rest_index(lengths: NDArray[np.int64]) -> int:
    return int(np.argmax(lengths))


def _kept(lengths: NDArray[np.int64], digits: int) -> NDArray[np.int64]:
    """How many digits of every share are written out."""
    kept = np.maximum(lengths - 1, 0)
    kept[_rest_index(lengths)] = 0
    return kept if digits == ALL_DIGITS else np.minimum(kept, digits)


def _table_bits(shares: NDArray[np.int64], digits: int) -> int:
    """About what a table takes."""
    lengths = _lengths(shares)
    present = lengths[lengths > 0]
    steps = np.diff(present)
    steps_bits = np.where(steps == 0, 1, np.where(steps == 1, 2, np.where(steps == -1, 3, 9))).sum()
    return int(_kept(lengths, digits).sum() + steps_bits)


def _encode(table: Table, digits: int) -> bytes:
    """Store a table of at least two symbols."""
    lengths = _lengths(table.shares)
    head = table.scale - 1 | digits << 4 | (_LANES_FLAG if table.lanes else 0)
    kept = _kept(lengths, digits)
    present = np.flatnonzero(kept)
    # Digits below the leading one, the highest first, symbol after symbol.
    bits = [
        share >> (length - 1 - i) & 1
        for share, length, count in zip(
            table.shares[present].tolist(), lengths[present].tolist(), kept[present].tolist(), strict=True
        )
        for i in range(1, count + 1)
    ]
    packed = np.packbits(np.array(bits, np.uint8), bitorder="little").tobytes()
    names = encode_lengths(np.concatenate([np.zeros(table.first, np.int64), lengths]).astype(np.uint8))
    return names + bytes([head]) + packed


def decode_table(cursor: Cursor, alphabet: int) -> Table:
    """Read a table back.

    Raises:
        FormatError: if it leaves the alphabet, is cut short, or its shares do not sum to a power of two.
    """
    first, short_lengths = decode_lengths(cursor, alphabet)
    if short_lengths.size == 1:
        return Table(first, np.zeros(0, np.int64))
    head = cursor.byte()
    scale, digits = (head & 15) + 1, head >> 4 & 7
    lengths = short_lengths.astype(np.int64)
    if int(lengths.max()) > scale:
        raise FormatError(f"has a share of {int(lengths.max())} digits where all together have {scale + 1}")
    kept = _kept(lengths, digits)
    total = int(kept.sum())
    packed = cursor.take(-(-total // 8))
    bits = np.unpackbits(packed, bitorder="little")
    if bits[total:].any():
        raise FormatError("has a code table padded with other than zero bits")
    shares = np.where(lengths > 0, 1 << np.maximum(lengths - 1, 0), 0)
    owners = np.repeat(np.arange(lengths.size), kept)
    place = np.arange(total) - np.repeat(np.cumsum(kept) - kept, kept)
    np.add.at(shares, owners, bits[:total].astype(np.int64) << (lengths[owners] - 2 - place))
    rest = _rest_index(lengths)
    shares[rest] = (1 << scale) - (int(shares.sum()) - int(shares[rest]))
    if shares[rest] < 1:
        raise FormatError("has shares that sum to more than they may")
    return Table(first, shares, scale, bool(head & _LANES_FLAG))
