"""How the ``context`` coder asks for a magnitude: in unary and Elias' gamma code, or by its digits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from featherweight.coding.context_block import GAMMA_DIGITS, SIZES, STEPS, TREE_DEPTH, UNARY_LIMIT
from featherweight.coding.context_mixer import decide_three
from featherweight.coding.context_tables import COUNT_BITS, PROBABILITY_BITS

#: Where a state begins of which nothing is known.
EVEN = 1 << (PROBABILITY_BITS + COUNT_BITS - 1)


@njit(cache=True, nogil=True, forceinline=True)
def _ask(memory: Any, contexts: Any, weight_set: Any, node: Any, step: Any, bit: Any, coder: Any) -> Any:
    s1, s2, s3 = contexts
    at = node * SIZES
    step = min(step, STEPS - 1)
    return decide_three(memory, (s1 + at, s2 + at, s3 + at), np.int64(EVEN), weight_set + step, bit, coder)


@njit(cache=True, nogil=True, forceinline=True)
def code_magnitude(
    memory: Any, contexts: Any, weight_set: Any, most: Any, by_digits: bool, value: Any, coder: Any
) -> Any:
    """Code a number below ``most``, which is 2 or more.

    Args:
        memory: see :mod:`featherweight.coding.context_mixer`.
        contexts: states of node 0; those of the others follow, :data:`SIZES` apart.
        weight_set: the first of :data:`STEPS`.
        most: the number is below this.
        by_digits: how it is asked for.
        value: the number, if encoding.
        coder: see there.

    Returns:
        ``(value, coder)``; a value of ``most`` or more, or below 0, is no valid one.
    """
    step: Any = np.int64(0)
    left: Any = np.int64(0)
    bits: Any = np.int64(1)
    if by_digits:
        while (most - 1) >> left:
            left += 1
    beyond: Any = value - (UNARY_LIMIT - 1)
    # One loop and one place to ask, as what is asked is compiled into it.
    while True:
        node: Any = step
        if by_digits:
            bit: Any = value >> (left - 1) & 1
            node = bits if step < TREE_DEPTH else step + ((1 << TREE_DEPTH) - TREE_DEPTH)
        elif left:
            bit = beyond >> (left - 1) & 1
            node = left + (UNARY_LIMIT + GAMMA_DIGITS - 1)
        elif step < UNARY_LIMIT:
            if step == most - 1:
                return step, coder
            bit = np.int64(value > step)
        else:
            bit = np.int64(beyond >> (step - (UNARY_LIMIT - 1)) != 0)
        bit, coder = _ask(memory, contexts, weight_set, node, step, bit, coder)
        if left:
            bits = 2 * bits + bit
            left -= 1
            if by_digits:
                step += 1
            if left == 0:
                return bits - ((np.int64(1) << step) if by_digits else np.int64(1 - UNARY_LIMIT)), coder
        elif bit:
            step += 1
            if step == UNARY_LIMIT + GAMMA_DIGITS:
                return np.int64(-1), coder
        elif step > UNARY_LIMIT:
            left = step - UNARY_LIMIT
        else:
            return step, coder
