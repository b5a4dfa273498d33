"""Short byte strings that repeat themselves, such as names of tensors: each bit by the bytes before it.

A bit's probability is that of the bits that followed the same three bytes, drawn towards that after the same
two, the same one and none (the interpolation of F. Jelinek and R. L. Mercer, 1980, with the counts as
weights). A *primer*, which is learned beforehand and costs nothing, makes up for what a short string cannot
teach.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featherweight.coding.range_coder import PROBABILITY_ONE

if TYPE_CHECKING:
    from featherweight.coding.range_coder import RangeCoder

#: Bytes of a context at most.
ORDERS = 3

#: How many bits the shorter context counts for.
_WEIGHT = 2

#: What is left of a count after the other bit was seen: half of what is above this, and this.
_KEPT = 2

#: No bit is surer than this.
_LEAST = 64


class AdaptiveBytes:
    """The model of one string."""

    def __init__(self, primer: bytes) -> None:
        self._seen: dict[tuple[bytes, int], list[int]] = {}
        self._past = b""
        for byte in primer:
            self._code(None, byte)

    def code(self, coder: RangeCoder, count: int, data: bytes | None) -> bytes:
        """Code ``count`` bytes: ``data`` for an encoder, ``None`` for a decoder."""
        return bytes(self._code(coder, None if data is None else data[at]) for at in range(count))

    def _code(self, coder: RangeCoder | None, byte: int | None) -> int:
        """Code a byte, or learn it where there is no coder."""
        past, node = self._past, 1
        for place in range(7, -1, -1):
            found = [
                self._seen.setdefault((past[len(past) - order :], node), [0, 0])
                for order in range(min(ORDERS, len(past)) + 1)
            ]
            bit = 0 if byte is None else byte >> place & 1
            if coder is not None:
                bit = coder.bit(_probability(found), None if byte is None else bit)
            for counts in found:
                counts[bit] += 1
                if counts[1 - bit] > _KEPT:
                    counts[1 - bit] = (counts[1 - bit] + _KEPT) // 2
            node = 2 * node + bit
        self._past = (past + bytes([node - 256]))[-ORDERS:]
        return node - 256


def _probability(found: list[list[int]]) -> int:
    """Of a 1, from the counts of ever longer contexts."""
    probability = PROBABILITY_ONE // 2
    for zeros, ones in found:
        probability = (PROBABILITY_ONE * ones + _WEIGHT * probability) // (zeros + ones + _WEIGHT)
    return min(max(probability, _LEAST), PROBABILITY_ONE - _LEAST)
