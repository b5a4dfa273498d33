"""The inner loop of the ``context`` coder: one kernel that encodes or decodes a block.

A block is a matrix of signed levels, scanned row by row. Each level becomes binary decisions: is it zero; is
it positive; and those on its magnitude. :mod:`featherweight.coding.context_mixer` predicts and codes each
decision from a few states, selected by as many contexts. One kernel does both directions, so that they cannot
differ in what they predict.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from featherweight.coding.context_block import (
    GROUP,
    NEAR,
    PLACES,
    SIGN_SET,
    SIGNS,
    SIZE_SETS,
    SIZES,
    TREE_NODES,
    UNARY_NODES,
)
from featherweight.coding.context_magnitude import EVEN, code_magnitude
from featherweight.coding.context_mixer import begin_coding, decide_five, decide_four
from featherweight.coding.context_steps import (
    aligned,
    limit,
    log_eighths,
    log_mean,
    move_mean,
    new_mean,
    side,
)
from featherweight.coding.context_tables import (
    BUFFER_FULL,
    COUNT_BITS,
    INVALID_LEVEL,
    LEARNING,
    LEARNING_SHIFT,
)
from featherweight.coding.memory_kernels import get_i32, get_u32, set_i32, set_i64, set_u32

#: Of five neighbours in the row: how many are not zero.
_ONES = np.array([near.bit_count() for near in range(32)], np.int64)

#: Room that one element may need, in bytes: two for each of its decisions.
_ROOM = 128


@njit(cache=True, nogil=True, forceinline=True)
def _code_sign(
    memory: Any, at: Any, west: Any, back: Any, over: Any, kernel: Any, others: Any, bit: Any, coder: Any
) -> Any:
    s_west, s_over = side(west), side(over)
    east, back_west, north, north2 = others
    around = side(east) + 3 * side(back_west) + 9 * side(north) + 27 * side(north2)
    contexts = (
        at + s_west + 3 * side(back) + 9 * s_over,
        at + SIGNS + 9 * kernel + s_west + 3 * s_over,
        at + 2 * SIGNS + around,
        at + 3 * SIGNS + 16 * kernel + limit(8 + west + over, 0, 15),
    )
    return decide_four(memory, contexts, np.int64(EVEN), np.int64(SIGN_SET), bit, coder)


@njit(cache=True, nogil=True, forceinline=True)
def _size_contexts(
    at: Any, half: Any, positive: Any, west: Any, over: Any, expected: Any, by_digits: bool
) -> Any:
    """States of a magnitude's first question: by sign; by the size expected; by the neighbours' sizes."""
    expected = limit((expected + log_eighths(64 * (abs(west) + abs(over)))) // 5, 0, 63)
    if by_digits:
        expected += positive * half
    own = positive * half + 8 * aligned(west, positive, by_digits) + aligned(over, positive, by_digits)
    return at + 4 * half + positive, at + 2 * half + expected, at + own


@njit(cache=True, nogil=True)
def code_levels(
    levels: Any,
    states: Any,
    weights: Any,
    means: Any,
    ring: Any,
    stream: Any,
    last: Any,
    n: int,
    stream_size: int,
    width: int,
    lag: int,
    inner: int,
    below: int,
    above: int,
    digits: int,
    density: int,
    direction: int,
) -> Any:
    """Encode a block of levels into a stream, or decode them from it.

    All arguments are integers; arrays are given by their addresses, and as large as
    :mod:`featherweight.coding.context_block` makes them.

    Args:
        levels: ``(n,)`` int32, each in ``-below .. above``; read when encoding, written when decoding, and
            zeros before. At most 2²⁰.
        states: uint32, zeros.
        weights: int32, the weight sets as they begin.
        means: uint32, one for each group, zeros.
        ring: ``(RING * (lag + width),)`` int32, zeros.
        stream: ``(stream_size,)`` uint8; the whole of it is read when decoding.
        last: ``(2,)`` int64, for the range coder's last interval: its lower end when encoding, and when
            decoding the offset of the stream's value from that; and its length.
        n: elements.
        stream_size: bytes.
        width: columns; the last row may be shorter.
        lag: distance in a row of elements that belong together, 1 to ``width``; 1 is none.
        inner: a second such distance, 1 to ``lag``; 1 is none.
        below: number of negative levels.
        above: number of positive levels.
        digits: how magnitudes become decisions: 1 for their digits, 0 for unary.
        density: first guess of the probability of a nonzero level, 22 bits, neither 0 nor all ones.
        direction: 1 to decode, 0 to encode.

    Returns:
        Bytes taken; if negative, :data:`BUFFER_FULL` or :data:`INVALID_LEVEL`.
    """
    decoding, by_digits = direction != 0, digits != 0
    group_size = lag if lag > 1 else GROUP
    # Where the states of each kind begin.
    column_at = NEAR
    group_at = column_at + width
    place_at = group_at + width // group_size + 1
    row_at = place_at + 16 * PLACES
    sign_at = row_at + 1
    size_at = sign_at + 4 * SIGNS
    half = (TREE_NODES if by_digits else UNARY_NODES) * SIZES
    first = np.int64(density) << COUNT_BITS
    room = np.int64(1) << 62 if decoding else stream_size - _ROOM

    coder = begin_coding((states, weights, stream, stream_size, decoding, np.int64(0)))
    whole: Any = np.int64(1 << 12) << COUNT_BITS
    row, start = np.int64(0), np.int64(0)
    while start < n:
        here = (row & 3) * (lag + width) + lag
        up = ((row - 1) & 3) * (lag + width) + lag
        up2 = ((row - 2) & 3) * (lag + width) + lag
        for column in range(width):
            set_i32(ring, here + column, 0)
        set_u32(states, row_at, 0)
        row_mean: Any = new_mean(whole)
        memory = states, weights, stream, stream_size, decoding, np.int64(LEARNING[start >> LEARNING_SHIFT])
        place: Any = np.int64(0)
        group: Any = np.int64(0)
        west: Any = np.int64(0)
        back: Any = np.int64(0)
        east: Any = np.int64(0)  # one right of back
        near: Any = np.int64(0)
        for column in range(min(np.int64(width), n - start)):
            if coder[2] > room:
                return np.int64(BUFFER_FULL)
            if place == group_size:
                place = np.int64(0)
                group += 1
            kernel = min(place, 63) if lag > 1 else np.int64(0)
            place += 1
            back_west, back = back, east
            if lag > 1:
                east = get_i32(ring, here + column - lag + 1)
            north = get_i32(ring, up + column)
            over = get_i32(ring, here + column - inner) if inner > 1 else back
            # Which are not 0: west, the one before, east, back, back_west; then the others.
            near = (near & 1) << 1 | np.int64(west != 0) | (near & 12) << 1 | np.int64(east != 0) << 2
            level: Any = get_i32(levels, start + column)
            contexts = (
                near | np.int64(north != 0) << 5 | np.int64(over != 0) << 6,
                column_at + column,
                group_at + group,
                place_at + 16 * kernel + 4 * min(abs(over), 3) + min(abs(west), 3),
                row_at,
            )
            ones = np.int64(_ONES[np.uint64(near)])
            bit, coder = decide_five(memory, contexts, first, ones, np.int64(level != 0), coder)
            if not bit:
                west = np.int64(0)
                continue
            positive: Any = np.int64(below == 0)
            if above and below:
                others = east, back_west, north, get_i32(ring, up2 + column)
                positive, coder = _code_sign(
                    memory, sign_at, west, back, over, kernel, others, np.int64(level > 0), coder
                )
            most = above if positive else below
            group_mean: Any = get_u32(means, group)
            if group_mean == 0:
                group_mean = new_mean(whole)
            size: Any = np.int64(1)
            if most > 1:
                expected = log_mean(row_mean) + log_mean(group_mean) - log_mean(whole)
                asked = _size_contexts(size_at, half, positive, west, over, expected, by_digits)
                size, coder = code_magnitude(
                    memory, asked, np.int64(SIZE_SETS), most, by_digits, abs(level) - 1, coder
                )
                if size < 0 or size >= most:
                    return np.int64(INVALID_LEVEL)
                size += 1
            west = size if positive else -size
            if decoding:
                set_i32(levels, start + column, west)
            set_i32(ring, here + column, west)
            size = min(size, 127) << 12
            set_u32(means, group, move_mean(group_mean, size))
            row_mean = move_mean(row_mean, size)
            whole = move_mean(whole, size)
        start += width
        row += 1
    set_i64(last, 0, coder[0])
    set_i64(last, 1, coder[1])
    return coder[2]
