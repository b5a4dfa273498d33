"""The inner loop of the ``context`` coder: one kernel that encodes or decodes a block.

A block is a matrix of signed levels, scanned row by row. Each level becomes binary decisions: is it zero; is
it positive; is its magnitude larger than 1, than 2 and so on, or, for large magnitudes, their digits.
:mod:`featherweight.coding.context_mixer` predicts and codes a decision from a few states, each selected by
another context. One kernel does both directions, so that they cannot differ in what they predict.

Numba compiles what is here into one function. Indices are made unsigned where they are used, as signed ones
might count from the end, and arrays are flat, as a row of one is an object to be counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from featherweight.coding.context_mixer import (
    FULL_SPAN,
    SET_SIZE,
    decide_five,
    decide_four,
    decide_three,
    first_bytes,
    first_weights,
    read_state,
)
from featherweight.coding.context_steps import aligned, limit, log_mean, move_mean, side
from featherweight.coding.context_tables import (
    BUFFER_FULL,
    COUNT_BITS,
    INVALID_LEVEL,
    LEARNING,
    LEARNING_SHIFT,
    LOG_SIZE,
    LOGARITHM,
    PROBABILITY_BITS,
)
from featherweight.coding.memory_kernels import address_of, get_i32, get_u32, set_i32, set_u32

#: Magnitudes up to this are coded in unary, what is above with Elias' gamma code; all digits are modelled.
UNARY_LIMIT = 20
GAMMA_DIGITS = 16
_UNARY_NODES = UNARY_LIMIT + 2 * GAMMA_DIGITS

#: The other binarisation: the digits of a magnitude, of which so many have contexts that know those before.
TREE_DEPTH = 8
_TREE_NODES = (1 << TREE_DEPTH) + 16 - TREE_DEPTH

_EVEN = 1 << (PROBABILITY_BITS + COUNT_BITS - 1)

#: Columns of a group where there is no lag.
GROUP = 8

# How many contexts there are of each kind.
_NEAR, _PLACES, _SIGNS, _SIZES = 128, 64, 1024, 64

#: The first decisions on a magnitude have weight sets of their own, as have the numbers of nonzero neighbours.
_STEPS = 16
_ZERO_SETS = 6
_SIGN_SET = _ZERO_SETS * SET_SIZE
_SIZE_SETS = _SIGN_SET + SET_SIZE
_INPUTS = np.array(_ZERO_SETS * [5] + [4] + _STEPS * [3])

#: Of five neighbours in the row: how many are not zero.
_ONES = np.array([near.bit_count() for near in range(32)], np.uint8)

#: Room that one element may need, in bytes.
_ROOM = 128

_RING = 4  # rows kept: this one, two above, and one more to make it a power of two


@njit(cache=True, nogil=True)
def code_block(
    levels: Any,
    width: int,
    lag: int,
    inner: int,
    below: int,
    above: int,
    by_digits: bool,
    density: int,
    stream: Any,
    decoding: bool,
) -> Any:
    """Encode ``levels`` into ``stream``, or decode them from it.

    Args:
        levels: ``(n,)`` int32, each in ``-below .. above``; read when encoding, written when decoding.
        width: columns; the last row may be shorter.
        lag: distance in a row of elements that belong together, 1 to ``width``; 1 is none.
        inner: a second such distance, 1 to ``lag``; 1 is none.
        below: number of negative levels.
        above: number of positive levels.
        by_digits: how magnitudes become decisions: their digits, not unary.
        density: first guess of the probability of a nonzero level, 22 bits, neither 0 nor all ones.
        stream: uint8; the whole of it is read when decoding.
        decoding: the direction.

    Returns:
        ``(position, value, range)``: bytes taken, and the range coder's last interval: its lower end when
        encoding, and when decoding the offset of the stream's value from that. A negative position is
        :data:`BUFFER_FULL` or :data:`INVALID_LEVEL`.
    """
    groups = width // (lag if lag > 1 else GROUP) + 1
    nodes = _TREE_NODES if by_digits else _UNARY_NODES
    states = np.zeros(_NEAR + width + groups + 16 * _PLACES + 1 + 4 * _SIGNS + 5 * nodes * _SIZES, np.uint32)
    weights = first_weights(_INPUTS)
    means = np.zeros(groups, np.uint32)
    ring = np.zeros(_RING * (lag + width), np.int32)
    return _code_levels(
        levels, width, lag, inner, below, above, by_digits, density, stream, decoding, states, weights, means, ring
    )


@njit(cache=True, nogil=True)
def _code_levels(
    level_array: Any,
    width: int,
    lag: int,
    inner: int,
    below: int,
    above: int,
    by_digits: bool,
    density: int,
    stream_array: Any,
    decoding: bool,
    state_array: Any,
    weight_array: Any,
    mean_array: Any,
    ring_array: Any,
) -> Any:
    levels, stream = address_of(level_array), address_of(stream_array)
    states, weights = address_of(state_array), address_of(weight_array)
    group_means, ring = address_of(mean_array), address_of(ring_array)
    n, stream_size = np.int64(level_array.size), np.int64(stream_array.size)
    lagged = lag > 1
    group_size = lag if lagged else GROUP
    groups = width // group_size + 1
    nodes = _TREE_NODES if by_digits else _UNARY_NODES
    # Where the states of each kind begin.
    column_at = _NEAR
    group_at = column_at + width
    place_at = group_at + groups
    row_at = place_at + 16 * _PLACES
    sign_at = row_at + 1
    size_at = sign_at + 4 * _SIGNS
    half = nodes * _SIZES
    first = np.int64(density) << COUNT_BITS
    even = np.int64(_EVEN)
    # Mean magnitudes of nonzero levels: of all, and in each group.
    whole: Any = np.int64(1 << 12) << COUNT_BITS

    stride = lag + width
    low, span, at = np.int64(0), np.int64(FULL_SPAN), np.int64(0)
    room = stream_size - _ROOM
    if decoding:
        low, span, at = first_bytes(stream, stream_size)
        room = np.int64(1) << 62

    row, start = np.int64(0), np.int64(0)
    bit: Any = np.int64(0)
    while start < n:
        here = (row & 3) * stride + lag
        up = ((row - 1) & 3) * stride + lag
        up2 = ((row - 2) & 3) * stride + lag
        for column in range(width):
            set_i32(ring, here + column, 0)
        rate = np.int64(LEARNING[start >> LEARNING_SHIFT])
        set_u32(states, row_at, 0)
        row_mean: Any = (whole >> COUNT_BITS) << COUNT_BITS
        place, group = np.int64(0), np.int64(0)
        west, back, east = np.int64(0), np.int64(0), np.int64(0)  # east: one right of back
        west2: Any = np.int64(0)
        near: Any = np.int64(0)
        for column in range(min(np.int64(width), n - start)):
            if place == group_size:
                place = np.int64(0)
                group += 1
            kernel = min(place, 63) if lagged else np.int64(0)
            j = here + column
            back_west, back = back, east
            if lagged:
                east = get_i32(ring, j - lag + 1)
            north: Any = get_i32(ring, up + column)
            over: Any = get_i32(ring, j - inner) if inner > 1 else back
            # Which are not 0: west, west2, east, back, back_west; then the others.
            near = (near & 1) << 1 | np.int64(west != 0) | (near & 12) << 1 | np.int64(east != 0) << 2
            if at > room:
                return np.int64(BUFFER_FULL), low, span
            level: Any = get_i32(levels, start + column)
            bit, low, span, at = decide_five(
                states,
                near | np.int64(north != 0) << 5 | np.int64(over != 0) << 6,
                column_at + column,
                group_at + group,
                place_at + 16 * kernel + 4 * min(abs(over), 3) + min(abs(west), 3),
                row_at,
                first,
                weights,
                np.int64(_ONES[np.uint64(near)]) * SET_SIZE,
                rate,
                stream,
                stream_size,
                decoding,
                np.int64(level != 0),
                low,
                span,
                at,
            )
            place += 1
            if not bit:
                west2, west = west, np.int64(0)
                continue

            if above and below:
                side_west, side_over = side(west), side(over)
                bit, low, span, at = decide_four(
                    states,
                    sign_at + side_west + 3 * side(back) + 9 * side_over,
                    sign_at + _SIGNS + 9 * kernel + side_west + 3 * side_over,
                    sign_at
                    + 2 * _SIGNS
                    + side(east)
                    + 3 * side(back_west)
                    + 9 * side(north)
                    + 27 * side(get_i32(ring, up2 + column)),
                    sign_at + 3 * _SIGNS + 16 * kernel + limit(8 + west + over, 0, 15),
                    even,
                    weights,
                    _SIGN_SET,
                    rate,
                    stream,
                    stream_size,
                    decoding,
                    np.int64(level > 0),
                    low,
                    span,
                    at,
                )
            else:
                bit = np.int64(below == 0)
            positive = bit
            most = above if positive else below
            magnitude: Any = abs(level) - 1
            row_log, whole_log = log_mean(row_mean), log_mean(whole)
            group_mean: Any = get_u32(group_means, group)
            if group_mean == 0:
                group_mean = (whole >> COUNT_BITS) << COUNT_BITS
            if most > 1:
                expected = row_log + log_mean(group_mean) - whole_log
                around = abs(west) + abs(over)
                expected += np.int64(LOGARITHM[np.uint64(min(64 * around, LOG_SIZE - 1))])
                s1 = size_at + 4 * half + positive
                s2 = size_at + 2 * half + limit(expected // 5, 0, 63)
                if by_digits:
                    s2 += positive * half
                s3 = size_at + positive * half
                s3 += 8 * aligned(west, positive, by_digits) + aligned(over, positive, by_digits)
                left: Any = np.int64(0)
                bits: Any = np.int64(1)
                step: Any = np.int64(0)
                if by_digits:
                    while (most - 1) >> left:
                        left += 1
                counted = np.int64(by_digits)
                while True:
                    # What is asked: a digit of a known number of them, or whether there are more.
                    node = step
                    if by_digits:
                        want = magnitude >> (left - 1) & 1
                        node = bits if step < TREE_DEPTH else step + ((1 << TREE_DEPTH) - TREE_DEPTH)
                    elif counted:
                        want = (magnitude - (UNARY_LIMIT - 1)) >> (left - 1) & 1
                        node = left + (UNARY_LIMIT + GAMMA_DIGITS - 1)
                    elif step < UNARY_LIMIT:
                        if step == most - 1:
                            magnitude = step
                            break
                        want = np.int64(magnitude > step)
                    else:
                        want = np.int64((magnitude - (UNARY_LIMIT - 1)) >> (step - (UNARY_LIMIT - 1)) != 0)
                    bit, low, span, at = decide_three(
                        states,
                        s1 + node * _SIZES,
                        s2 + node * _SIZES,
                        s3 + node * _SIZES,
                        even,
                        weights,
                        _SIZE_SETS + min(step, _STEPS - 1) * SET_SIZE,
                        rate,
                        stream,
                        stream_size,
                        decoding,
                        want,
                        low,
                        span,
                        at,
                    )
                    if counted:
                        bits = 2 * bits + bit
                        left -= 1
                        if by_digits:
                            step += 1
                        if left == 0:
                            magnitude = bits - (np.int64(1) << step if by_digits else 1 - UNARY_LIMIT)
                            break
                    elif bit:
                        step += 1
                        if step == UNARY_LIMIT + GAMMA_DIGITS:
                            return np.int64(INVALID_LEVEL), low, span
                    elif step > UNARY_LIMIT:
                        left = step - UNARY_LIMIT
                        counted = np.int64(1)
                    else:
                        magnitude = step
                        break
                if magnitude >= most:
                    return np.int64(INVALID_LEVEL), low, span
            else:
                magnitude = np.int64(0)
            size = magnitude + 1
            level = size if positive else -size
            if decoding:
                set_i32(levels, start + column, level)
            set_i32(ring, j, level)
            west2, west = west, level
            size = min(size, 127) << 12
            set_u32(group_means, group, move_mean(group_mean, size))
            row_mean = move_mean(row_mean, size)
            whole = move_mean(whole, size)
        start += width
        row += 1
    return at, low, span
