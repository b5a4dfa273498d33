"""The mixers of the ``context`` coder: weighted sums of logits, whose weights learn from every outcome.

A weight set is 8 integers: 6 weights in units of 2⁻¹⁶, the learning rate, and a count of uses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from featherweight.coding.context_tables import (
    LEARNING,
    LEARNING_LIMIT,
    LEARNING_SHIFT,
    LOGIT_LIMIT,
    SQUASH,
)

#: The first decisions on a magnitude have weights of their own.
STEPS = 16

#: Where the weight sets of the later stages begin.
SETS_SIGN = 32
SETS_SIZE = 64
_SET_COUNT = SETS_SIZE + STEPS * 33

_FIRST_WEIGHT = 12_300  # of 65,536
_FIRST_LEARNING = 3200


@njit(cache=True, nogil=True)
def first_weights() -> Any:
    """All weight sets as they begin, ``(sets, 8)`` int32."""
    weights = np.zeros((_SET_COUNT, 8), np.int32)
    weights[:, :6] = _FIRST_WEIGHT
    weights[:, 6] = _FIRST_LEARNING
    return weights


@njit(cache=True, nogil=True)
def mix(w: Any, x1: Any, x2: Any, x3: Any, x4: Any, x5: Any, x6: Any) -> Any:
    """The logit that a weight set ``w`` makes of six."""
    total = w[0] * x1 + w[1] * x2 + w[2] * x3 + w[3] * x4 + w[4] * x5 + w[5] * x6
    return min(max(total >> 16, -LOGIT_LIMIT), LOGIT_LIMIT)


@njit(cache=True, nogil=True)
def train(w: Any, bit: Any, logit: Any, x1: Any, x2: Any, x3: Any, x4: Any, x5: Any, x6: Any) -> None:
    """Move a weight set that said ``logit`` to where it would have expected ``bit`` more."""
    error = ((bit << 16) - bit - SQUASH[np.uint64(logit + LOGIT_LIMIT)]) * w[6]
    w[0] += (x1 * error + 0x800000) >> 24
    w[1] += (x2 * error + 0x800000) >> 24
    w[2] += (x3 * error + 0x800000) >> 24
    w[3] += (x4 * error + 0x800000) >> 24
    w[4] += (x5 * error + 0x800000) >> 24
    w[5] += (x6 * error + 0x800000) >> 24
    w[6] += (LEARNING[np.uint64(w[7] >> LEARNING_SHIFT)] - w[6]) >> 6
    w[7] = min(w[7] + 1, LEARNING_LIMIT)
