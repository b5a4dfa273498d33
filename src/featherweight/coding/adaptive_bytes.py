"""Short byte strings that repeat themselves, such as names of tensors: each bit by the bytes before it.

A bit's probability is that of the bits that followed the same three bytes, drawn towards that after the same
two, the same one and none (the interpolation of F. Jelinek and R. L. Mercer, 1980, with the counts as
weights). A *primer*, which is learned beforehand and costs nothing, makes up for what a short string cannot
teach.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

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

_UNSEEN = (0, 0)

#: How often 0 and 1 occurred, by the bits before, behind a leading 1; and that by the bytes before.
_Counts: TypeAlias = "dict[int, tuple[int, int]]"
_Contexts: TypeAlias = "dict[bytes, _Counts]"


class AdaptiveBytes:
    """The model of one string."""

    def __init__(self, primer: bytes) -> None:
        self._primed = _primed(primer)
        self._contexts: _Contexts = {}
        self._past = primer[-ORDERS:]

    def code(self, coder: RangeCoder, count: int, data: bytes | None) -> bytes:
        """Code ``count`` bytes: ``data`` for an encoder, ``None`` for a decoder."""
        return bytes(self._code(coder, None if data is None else data[at]) for at in range(count))

    def _code(self, coder: RangeCoder, byte: int | None) -> int:
        tables, node = self._tables(), 1
        for place in range(7, -1, -1):
            counts = [table.get(node, _UNSEEN) for table in tables]
            node = 2 * node + coder.bit(_probability(counts), None if byte is None else byte >> place & 1)
        self.learn(node - 256)
        return node - 256

    def learn(self, byte: int) -> None:
        """Learn a byte that is not coded."""
        tables, node = self._tables(), 1
        for place in range(7, -1, -1):
            bit = byte >> place & 1
            for table in tables:
                zeros, ones = table.get(node, _UNSEEN)
                table[node] = (_fade(zeros), ones + 1) if bit else (zeros + 1, _fade(ones))
            node = 2 * node + bit
        self._past = (self._past + bytes([byte]))[-ORDERS:]

    def _tables(self) -> list[_Counts]:
        """Counts by node, after the last no, one, two, three bytes; of none before the first ones."""
        past, tables = self._past, []
        for order in range(min(ORDERS, len(past)) + 1):
            context = past[len(past) - order :]
            if context not in self._contexts:
                self._contexts[context] = dict(self._primed.get(context, {}))
            tables.append(self._contexts[context])
        return tables

    def contexts(self) -> _Contexts:
        """All counts, by the bytes before and the node."""
        return self._contexts


@lru_cache(maxsize=4)
def _primed(primer: bytes) -> _Contexts:
    """What a primer teaches; whoever learns more copies what it changes."""
    if not primer:
        return {}
    model = AdaptiveBytes(b"")
    for byte in primer:
        model.learn(byte)
    return model.contexts()


def _fade(count: int) -> int:
    return (count + _KEPT) // 2 if count > _KEPT else count


def _probability(found: list[tuple[int, int]]) -> int:
    """Of a 1, from the counts of ever longer contexts."""
    probability = PROBABILITY_ONE // 2
    for zeros, ones in found:
        probability = (PROBABILITY_ONE * ones + _WEIGHT * probability) // (zeros + ones + _WEIGHT)
    return min(max(probability, _LEAST), PROBABILITY_ONE - _LEAST)
