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

_UNSEEN = [0, 0]


class AdaptiveBytes:
    """The model of one string."""

    def __init__(self, primer: bytes) -> None:
        self._contexts: dict[bytes, dict[int, list[int]]] = {}
        self._past = b""
        for byte in primer:
            self._learn(byte)

    def code(self, coder: RangeCoder, count: int, data: bytes | None) -> bytes:
        """Code ``count`` bytes: ``data`` for an encoder, ``None`` for a decoder."""
        return bytes(self._code(coder, None if data is None else data[at]) for at in range(count))

    def _code(self, coder: RangeCoder, byte: int | None) -> int:
        tables, node = self._tables(), 1
        for place in range(7, -1, -1):
            counts = [table.get(node, _UNSEEN) for table in tables]
            node = 2 * node + coder.bit(_probability(counts), None if byte is None else byte >> place & 1)
        self._learn(node - 256)
        return node - 256

    def _learn(self, byte: int) -> None:
        tables, node = self._tables(), 1
        for place in range(7, -1, -1):
            bit = byte >> place & 1
            for table in tables:
                counts = table.setdefault(node, [0, 0])
                counts[bit] += 1
                if counts[1 - bit] > _KEPT:
                    counts[1 - bit] = (counts[1 - bit] + _KEPT) // 2
            node = 2 * node + bit
        self._past = (self._past + bytes([byte]))[-ORDERS:]

    def _tables(self) -> list[dict[int, list[int]]]:
        """Counts by node, after the last no, one, two, three bytes; of none before the first ones."""
        past = self._past
        return [
            self._contexts.setdefault(past[len(past) - order :], {})
            for order in range(min(ORDERS, len(past)) + 1)
        ]


def _probability(found: list[list[int]]) -> int:
    """Of a 1, from the counts of ever longer contexts."""
    probability = PROBABILITY_ONE // 2
    for zeros, ones in found:
        probability = (PROBABILITY_ONE * ones + _WEIGHT * probability) // (zeros + ones + _WEIGHT)
    return min(max(probability, _LEAST), PROBABILITY_ONE - _LEAST)
