"""The tables of the ``context`` coder, computed in integers so that every machine has the same ones.

Probabilities have 16 bits. A *logit*, ``ln(p / (1 - p))``, is held in units of 1/128 and limited to ±11,
where ``p`` reaches the last steps of its 16 bits. The tables are small, to stay in the first cache.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What the kernel returns instead of a position.
BUFFER_FULL = -1
INVALID_LEVEL = -2

#: The range coder's interval begins as all but one of so many bits.
SPAN_BITS = 48

#: Logits lie in ``-LOGIT_LIMIT .. LOGIT_LIMIT``.
LOGIT_LIMIT = 11 * 128 - 1

#: No coded probability is nearer to 0 or 1 than this many parts in 65,536.
MIN_PROBABILITY = 12

#: A state is ``p << COUNT_BITS | n``: 22 bits of probability, 10 bits of its number of updates. 0 is unused.
PROBABILITY_BITS = 22
COUNT_BITS = 10
COUNT_LIMIT = (1 << COUNT_BITS) - 1

#: The stretch table is indexed by the top bits of a state.
STRETCH_BITS = 11
STRETCH_SHIFT = PROBABILITY_BITS + COUNT_BITS - STRETCH_BITS

#: e^(1/128) in units of 2⁻⁶⁰.
_E_STEP = 1161963980038882736
_ONE = 1 << 60

#: A state that n bits went into moves by 1 / (n + 2.5) towards the next, in units of 2⁻¹⁶.
_FIRST_RATE_DOUBLED = 5

#: After so many elements of a block, mixers learn at a rate near ``LEARNING[elements >> LEARNING_SHIFT]``,
#: which falls as 1 / sqrt(elements). A block has at most 2²⁰ elements.
LEARNING_SHIFT = 9
_LEARNING_SIZE = 1 << 20 >> LEARNING_SHIFT
_LEARNING_FIRST = 320
_LEARNING_KNEE = 1 << 14

#: Entries of the logarithm table; its argument counts eighths.
LOG_SIZE = 8192


def _logistic(bits: int) -> list[int]:
    """``2 ** bits / (1 + e^-x)``, rounded, for every logit x."""
    power, upper = _ONE, []
    for _ in range(LOGIT_LIMIT + 1):
        upper.append(((power << (bits + 1)) // (power + _ONE) + 1) >> 1)
        power = power * _E_STEP >> 60
    lower = [(1 << bits) - value for value in upper[:0:-1]]
    return lower + upper


def _squash() -> NDArray[np.uint16]:
    table = np.array(_logistic(16))
    return table.clip(MIN_PROBABILITY, (1 << 16) - MIN_PROBABILITY).astype(np.uint16)


def _stretch() -> NDArray[np.int16]:
    """The logit of the middle of each of ``2 ** STRETCH_BITS`` equal parts of 0 to 1."""
    fine = np.array(_logistic(32), np.int64)
    middles = (2 * np.arange(1 << STRETCH_BITS, dtype=np.int64) + 1) << (31 - STRETCH_BITS)
    logits = np.searchsorted(fine, middles) - LOGIT_LIMIT
    return np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT).astype(np.int16)


def _logarithm() -> NDArray[np.uint8]:
    """``16 log2(i / 8)``, rounded down and never below 0."""
    # A value v begins where i ** 16 is 2 ** (48 + v); four square roots, rounded down, make the 16th.
    powers = [1 << (48 + value) for value in range(1, 16 * LOG_SIZE.bit_length() - 63)]
    roots = [math.isqrt(math.isqrt(math.isqrt(math.isqrt(power)))) for power in powers]
    reached = [root + (root**16 < power) for root, power in zip(roots, powers, strict=True)]
    return np.searchsorted(reached, np.arange(LOG_SIZE), side="right").astype(np.uint8)


def _rate() -> NDArray[np.int32]:
    """How far a state moves after every count of updates, rounded down."""
    return np.array([(1 << 17) // (2 * n + _FIRST_RATE_DOUBLED) for n in range(COUNT_LIMIT + 1)], np.int32)


def _learning() -> NDArray[np.int32]:
    elements = (n << LEARNING_SHIFT for n in range(_LEARNING_SIZE))
    scale = _LEARNING_FIRST**2 * _LEARNING_KNEE
    return np.array([math.isqrt(scale // (n + _LEARNING_KNEE)) for n in elements], np.int32)


SQUASH = _squash()
STRETCH = _stretch()
LOGARITHM = _logarithm()
RATE = _rate()
LEARNING = _learning()
