"""Lossless coding of small float tensors, biases above all: exponents adaptively, mantissas as they are.

Tables would cost a short array more than they save, so probabilities are learned on the way (the estimator of
R. Krichevsky and V. Trofimov, 1981). Mantissa bits that are zero in all words, as in floats rounded to a
narrower type, are left out.

The payload is two u8, the exponent's bits and the mantissa bits that are left out, and for each word its
exponent, its sign and its mantissa, range-coded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featherweight.coding.cursor import Cursor
from featherweight.coding.range_coder import PROBABILITY_ONE, RangeDecoder, RangeEncoder
from featherweight.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.coding.range_coder import RangeCoder

#: More words than this would take plain Python too long.
MAX_WORDS = 1024

#: The widest word; complex128 is two of them.
_MAX_WORD_BYTES = 8

#: Highest bits that a writer tries, by the word's bytes: as many as a float's exponent has.
_EXPONENTS_TRIED = {1: (8,), 2: (5, 8), 4: (8,), 8: (11,)}
_MAX_EXPONENT = 11


class AdaptiveFloats:
    """The raw coder ``adaptive``; see :class:`~featherweight.coding.raw.RawCoder`."""

    name = "adaptive"
    id = 3

    def encode(self, data: NDArray[np.uint8], item_size: int) -> bytes | None:
        """Code the words; ``None`` if there are none, or too many."""
        size = min(item_size, _MAX_WORD_BYTES)
        if not 0 < data.size // size <= MAX_WORDS:
            return None
        words: list[int] = np.ascontiguousarray(data).view(f"<u{size}").tolist()
        together = 0
        for word in words:
            together |= word
        zeros = (together & -together).bit_length() - 1 if together else 8 * size
        most = 8 * size - 1
        coded = []
        for exponent in _EXPONENTS_TRIED[size]:
            dropped = max(min(zeros, most - exponent), 0)
            coder = RangeEncoder()
            _code(coder, len(words), 8 * size, exponent, dropped, words)
            coded.append(bytes([exponent, dropped]) + coder.finish())
        return min(coded, key=len)

    def decode(self, payload: NDArray[np.uint8], numel: int, item_size: int) -> NDArray[np.uint8]:
        """Read the words."""
        size = min(item_size, _MAX_WORD_BYTES)
        count = numel * item_size // size
        if count > MAX_WORDS:
            raise FormatError(f"has {count} adaptively coded words; at most {MAX_WORDS} are allowed")
        cursor = Cursor(payload)
        exponent, dropped = cursor.byte(), cursor.byte()
        if exponent > _MAX_EXPONENT or exponent + dropped > 8 * size - (size > 1):
            raise FormatError(f"has {8 * size}-bit words with {exponent} bits coded and {dropped} left out")
        coder = RangeDecoder(cursor.rest().tobytes())
        words = _code(coder, count, 8 * size, exponent, dropped, None)
        coder.finish()
        return np.array(words, f"<u{size}").view(np.uint8)


def _code(
    coder: RangeCoder, count: int, width: int, exponent: int, dropped: int, words: list[int] | None
) -> list[int]:
    """Code words of ``width`` bits; those of a byte have no sign."""
    has_sign = width > 8
    rest = width - has_sign - exponent
    exponents, signs = [[1, 2] for _ in range(1 << exponent)], [1, 2]
    found = []
    for at in range(count):
        word = None if words is None else words[at]
        node = 1
        for place in range(width - has_sign - 1, rest - 1, -1):
            node = 2 * node + _learn(coder, exponents[node], None if word is None else word >> place & 1)
        sign = _learn(coder, signs, None if word is None else word >> (width - 1)) if has_sign else 0
        low = None if word is None else (word & (1 << rest) - 1) >> dropped
        low = coder.uniform(1 << (rest - dropped), low) << dropped
        found.append(sign << (width - 1) | (node - (1 << exponent)) << rest | low)
    return found


def _learn(coder: RangeCoder, counts: list[int], bit: int | None) -> int:
    """Code a bit; ``counts`` are twice the ones before and one more, twice the bits before and two more."""
    found = coder.bit(PROBABILITY_ONE * counts[0] // counts[1], bit)
    counts[0] += 2 * found
    counts[1] += 2
    return found
