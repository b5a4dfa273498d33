"""The inner loop of the ``context`` coder: one kernel that encodes or decodes a block.

A block is a matrix of signed levels q, scanned row by row. Each level becomes binary decisions: is it zero;
is it positive; is its magnitude larger than 1, than 2 and so on (or, for large magnitudes, their bits). A
decision's probability is mixed from six adaptive states, each selected by another context, in the logistic
domain (M. Mahoney, "Adaptive weighing of context models for lossless data compression", 2005): with logits
x, ``p = squash(sum w x)`` and ``w += rate x (bit - p)``, and the mean of two such mixers with weights
selected by two further contexts. A range coder (G. N. N. Martin, 1979) with carries codes the decision.

One kernel does both directions, so that they cannot differ in what they predict.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from featherweight.coding.context_mixer import SETS_SIGN, SETS_SIZE, STEPS, first_weights, mix, train
from featherweight.coding.context_steps import (
    aligned,
    carry,
    coarse,
    learn,
    log_mean,
    move_mean,
    or_else,
    quantise,
    side,
)
from featherweight.coding.context_tables import (
    BUFFER_FULL,
    COUNT_BITS,
    COUNT_LIMIT,
    INVALID_LEVEL,
    LOG_SIZE,
    LOGARITHM,
    LOGIT_LIMIT,
    PROBABILITY_BITS,
    RATE,
    SQUASH,
    STRETCH,
    STRETCH_SHIFT,
)

#: Magnitudes up to this are coded in unary, what is above with Elias' gamma code; all digits are modelled.
UNARY_LIMIT = 20
GAMMA_DIGITS = 16

#: The other binarisation: the digits of a magnitude, of which so many have contexts that know those before.
TREE_DEPTH = 8

_ZERO, _SIGN, _SIZE = 0, 1, 2
_HALF = (1 << TREE_DEPTH) + 16  # decisions that a magnitude of one sign can ask for
_NODES = 2 + 2 * _HALF

_TOP = (1 << PROBABILITY_BITS) - 1
_EVEN = np.uint32(1 << (PROBABILITY_BITS + COUNT_BITS - 1))

# Slots of the state table. Decisions on zero and sign have small context sets of fixed size.
_NEAR_CONTEXTS = 128
_POSITION_CONTEXTS = 64 * 16
_DENSITY_CONTEXTS = 32 * 32
_SIGN_CONTEXTS = 1024
_SIZE_CONTEXTS = 64

_MEAN_LIMIT = 255

_RING = 4  # rows kept: this one, two above, and one more to make it a power of two


@njit(cache=True, nogil=True)
def code_block(
    levels: Any,
    width: int,
    lag: int,
    inner: int,
    below: int,
    above: int,
    tree: bool,
    density: int,
    stream: Any,
    decoding: bool,
) -> Any:
    """Encode ``levels`` into ``stream``, or decode them from it.

    Args:
        levels: ``(n,)`` int32, each in ``-below .. above``; read when encoding, written when decoding.
        width: columns; the last row may be shorter.
        lag: distance in a row of elements that belong together, 1 to ``width``.
        inner: a second such distance, 1 to ``lag``.
        below: number of negative levels.
        above: number of positive levels.
        tree: how magnitudes become decisions: their digits, not unary.
        density: first guess of the probability of a nonzero level, 22 bits, neither 0 nor all ones.
        stream: uint8; the whole of it is read when decoding.
        decoding: the direction.

    Returns:
        ``(position, value, range)``: bytes taken, and the range coder's last interval: its lower end when
        encoding, and when decoding the offset of the stream's value from that. A negative position is
        :data:`BUFFER_FULL` or :data:`INVALID_LEVEL`.
    """
    n = levels.size
    groups = lag if lag > 1 else 8
    column_at = 0
    row_at = column_at + width
    group_at = row_at + 1
    near_at = group_at + width // groups + 1
    position_at = near_at + _NEAR_CONTEXTS
    density_at = position_at + _POSITION_CONTEXTS
    sign_at = density_at + _DENSITY_CONTEXTS
    side_at = sign_at + 5 * _SIGN_CONTEXTS
    size_at = side_at + width // groups + 1
    sizes = _NODES * _SIZE_CONTEXTS
    slots = np.zeros(size_at + 6 * sizes, np.uint32)
    order0 = np.full(_NODES, _EVEN, np.uint32)
    order0[0] = np.uint32(density << COUNT_BITS)

    weights = first_weights()

    # Mean magnitudes of nonzero levels (12 fraction bits) in each column, group and kernel position.
    column_mean, column_seen = np.zeros(width, np.int64), np.zeros(width, np.int32)
    group_mean = np.zeros(width // groups + 1, np.int64)
    group_seen = np.zeros(width // groups + 1, np.int32)
    position_mean = np.zeros(lag, np.int64)
    whole_mean: Any = np.int64(1 << 12)
    whole_seen = 0

    pad = 2 * lag + 2
    ring = np.zeros((_RING, width + 2 * pad), np.int32)

    # Range coder. Encoding: low < 2^32 and carries go back into the stream. Decoding: low is the offset.
    low, span, at = np.int64(0), np.int64(0xFFFFFFFF), 0
    if decoding:
        for _ in range(4):
            low = low << 8 | (np.int64(stream[at]) if at < stream.size else 0)
            at += 1

    bit: Any = np.int64(0)
    level: Any = np.int32(0)
    magnitude: Any = 0
    row, start = 0, 0
    while start < n:
        here, up, up2 = ring[row & 3], ring[(row - 1) & 3], ring[(row - 2) & 3]
        here[:] = 0
        age = 0
        while age < 9 and row >> age:
            age += 1
        slots[row_at] = 0
        row_mean, row_seen = whole_mean, 0
        for column in range(min(width, n - start)):
            j = column + pad
            group, kernel = column // groups, column % lag
            if kernel > 63:
                kernel = 63
            west, west2, north = here[j - 1], here[j - 2], up[j]
            back, back_east, back_west = here[j - lag], here[j - lag + 1], here[j - lag - 1]
            back2 = here[j - 2 * lag]
            over = here[j - inner] if inner > 1 else back
            near = (west != 0) + 2 * (back != 0) + 4 * (north != 0) + 8 * (west2 != 0)
            near_all = near + 16 * (back_east != 0) + 32 * (back_west != 0) + 64 * (over != 0)
            near_count = min(
                6,
                (west != 0) + (back != 0) + (west2 != 0) + (back_east != 0) + (back_west != 0) + (back2 != 0),
            )
            level = levels[start + column]
            if decoding:
                level = np.int32(0)
            stage, node, magnitude, limit, half = _ZERO, 0, 0, 0, 0
            bits: Any = 1
            left, step, base = 0, 0, 0
            c1, c2, c3, c4, c5, c6 = 0, 0, 0, 0, 0, 0
            first = second = 0
            while True:
                # What is asked, and in which contexts.
                if stage == _ZERO:
                    node = 0
                    bit = np.int64(level != 0)
                    row_state = or_else(slots[row_at], order0[0])
                    group_state = or_else(slots[group_at + group], order0[0])
                    s1 = column_at + column
                    s2 = group_at + group
                    s3 = near_at + near_all
                    s4 = position_at + kernel * 16 + min(3, abs(west)) + 4 * min(3, abs(over))
                    s5 = (
                        density_at
                        + coarse(STRETCH[group_state >> STRETCH_SHIFT]) * 32
                        + coarse(STRETCH[row_state >> STRETCH_SHIFT])
                    )
                    s6 = row_at
                    first, second = age, 16 + near_count
                elif stage == _SIGN:
                    node = 1
                    bit = np.int64(level > 0)
                    here3 = side(west) + 3 * side(back)
                    s1 = sign_at + kernel * 9 + side(west) + 3 * side(over)
                    s2 = sign_at + _SIGN_CONTEXTS + side(west) + 3 * side(west2) + 9 * side(back2)
                    s3 = sign_at + 2 * _SIGN_CONTEXTS + side(back_east) + 3 * side(back_west)
                    s3 += 9 * side(north) + 27 * side(up2[j])
                    s4 = (
                        sign_at
                        + 3 * _SIGN_CONTEXTS
                        + kernel * 16
                        + max(0, min(15, 8 + (((west + over) << 14) // whole_mean)))
                    )
                    s5 = sign_at + 4 * _SIGN_CONTEXTS + here3 + 9 * side(over)
                    s6 = side_at + group
                    first, second = SETS_SIGN + age, SETS_SIGN + 16 + near_count
                else:
                    if tree:
                        digit = step
                        bit = np.int64(magnitude >> (left - 1) & 1)
                        node = bits if step < TREE_DEPTH else (1 << TREE_DEPTH) + step - TREE_DEPTH
                    elif step < UNARY_LIMIT:
                        digit = step
                        bit = np.int64(magnitude > step)
                        node = step
                    elif left == 0:  # digits of a gamma code, counted
                        digit = step
                        bit = np.int64((magnitude - UNARY_LIMIT + 1) >> (step - UNARY_LIMIT + 1) != 0)
                        node = step
                    else:  # and written
                        digit = STEPS
                        bit = np.int64((magnitude - UNARY_LIMIT + 1) >> (left - 1) & 1)
                        node = UNARY_LIMIT + GAMMA_DIGITS + left
                    both = size_at + node * _SIZE_CONTEXTS
                    node += 2 + half
                    own = both + half * _SIZE_CONTEXTS
                    s1, s2 = own + c1, own + sizes + c2
                    s3, s4 = (own if tree else both) + 2 * sizes + c3, both + 3 * sizes + c4
                    s5, s6 = own + 4 * sizes + c5, (own if tree else both) + 5 * sizes + c6
                    if digit >= STEPS:
                        digit = STEPS - 1
                    first, second = SETS_SIZE + STEPS + digit * 32 + base, SETS_SIZE + digit

                # Six states, each begun where the node's own probability stands.
                order = order0[node]
                begin = (order >> COUNT_BITS) << COUNT_BITS
                v1 = or_else(slots[np.uint64(s1)], begin)
                v2 = or_else(slots[np.uint64(s2)], begin)
                v3 = or_else(slots[np.uint64(s3)], begin)
                v4 = or_else(slots[np.uint64(s4)], begin)
                v5 = or_else(slots[np.uint64(s5)], begin)
                v6 = or_else(slots[np.uint64(s6)], begin)
                x1 = np.int64(STRETCH[np.uint64(v1 >> STRETCH_SHIFT)])
                x2 = np.int64(STRETCH[np.uint64(v2 >> STRETCH_SHIFT)])
                x3 = np.int64(STRETCH[np.uint64(v3 >> STRETCH_SHIFT)])
                x4 = np.int64(STRETCH[np.uint64(v4 >> STRETCH_SHIFT)])
                x5 = np.int64(STRETCH[np.uint64(v5 >> STRETCH_SHIFT)])
                x6 = np.int64(STRETCH[np.uint64(v6 >> STRETCH_SHIFT)])

                # Two mixers, and the mean of what they say.
                wa, wb = weights[np.uint64(first)], weights[np.uint64(second)]
                da = mix(wa, x1, x2, x3, x4, x5, x6)
                db = mix(wb, x1, x2, x3, x4, x5, x6)
                p = np.int64(SQUASH[np.uint64(((da + db) >> 1) + LOGIT_LIMIT)])

                # The range coder: the lower part of the interval is a 1.
                bound = span * p >> 16
                if decoding:
                    bit = np.int64(low < bound)
                    if bit:
                        span = bound
                    else:
                        low -= bound
                        span -= bound
                    while span < 1 << 24:
                        low = low << 8 | (np.int64(stream[at]) if at < stream.size else 0)
                        span <<= 8
                        at += 1
                else:
                    if bit:
                        span = bound
                    else:
                        low += bound
                        span -= bound
                        if low >> 32:
                            carry(stream, at)
                            low &= 0xFFFFFFFF
                    while span < 1 << 24:
                        if at >= stream.size:
                            return BUFFER_FULL, low, span
                        stream[at] = low >> 24
                        low = (low & 0xFFFFFF) << 8
                        span <<= 8
                        at += 1

                # Everything learns from the outcome.
                train(wa, bit, da, x1, x2, x3, x4, x5, x6)
                train(wb, bit, db, x1, x2, x3, x4, x5, x6)
                target = bit * _TOP
                slots[np.uint64(s1)] = learn(v1, target, RATE)
                slots[np.uint64(s2)] = learn(v2, target, RATE)
                slots[np.uint64(s3)] = learn(v3, target, RATE)
                slots[np.uint64(s4)] = learn(v4, target, RATE)
                slots[np.uint64(s5)] = learn(v5, target, RATE)
                slots[np.uint64(s6)] = learn(v6, target, RATE)
                order0[node] = learn(order, target, RATE)

                # What to ask next.
                if stage == _ZERO:
                    if not bit:
                        break
                    if below and above:
                        stage = _SIGN
                        continue
                    bit = 1 if below == 0 else 0
                if stage != _SIZE:
                    stage = _SIZE
                    half = _HALF if bit else 0
                    limit = above if bit else below
                    if not decoding:
                        magnitude = abs(level) - 1
                    elif limit == 1:
                        level = np.int32(1 if bit else -1)
                    if limit == 1:
                        break
                    if tree:
                        left = 0
                        while (limit - 1) >> left:
                            left += 1
                    row_log = log_mean(row_mean)
                    group_log = log_mean(or_else(group_mean[group], whole_mean))
                    column_log = log_mean(or_else(column_mean[column], whole_mean))
                    kernel_log = log_mean(or_else(position_mean[column % lag], whole_mean))
                    whole_log = log_mean(whole_mean)
                    local = 3 * (abs(west) + abs(back) + abs(north)) + abs(west2) + abs(back_east)
                    local += abs(back_west) + abs(back2) + abs(up2[j]) + abs(up[j - 1]) + abs(up[j + 1])
                    expected = row_log + (
                        group_log + kernel_log - 2 * whole_log if lag > 1 else column_log - whole_log
                    )
                    base = quantise(expected, 12, 31)
                    c1 = quantise(row_log, 6, 31)
                    c2 = quantise(group_log, 6, 31)
                    c3 = quantise(expected, 6, 63)
                    c4 = quantise(expected + LOGARITHM[min(LOG_SIZE - 1, 16 * local)], 10, 31)
                    c5 = aligned(west, half, tree) * 8 + aligned(over, half, tree)
                    c6 = quantise(
                        expected + LOGARITHM[min(LOG_SIZE - 1, 64 * (abs(west) + abs(over)))], 5, 63
                    )
                    continue
                if tree:
                    bits = 2 * bits + bit
                    left -= 1
                    step += 1
                    if left:
                        continue
                    magnitude = bits - (1 << step)
                elif left == 0:
                    if bit:
                        step += 1
                        if step < limit - 1 or step >= UNARY_LIMIT:
                            if step < UNARY_LIMIT + GAMMA_DIGITS:
                                continue
                            return INVALID_LEVEL, low, span
                        magnitude = step
                    elif step > UNARY_LIMIT:
                        left = step - UNARY_LIMIT
                        bits = 1
                        continue
                    else:
                        magnitude = step
                else:
                    bits = 2 * bits + bit
                    left -= 1
                    if left:
                        continue
                    magnitude = bits - 1 + UNARY_LIMIT
                if decoding:
                    if magnitude >= limit:
                        return INVALID_LEVEL, low, span
                    level = np.int32(magnitude + 1 if half else -magnitude - 1)
                break

            here[j] = level
            if decoding:
                levels[start + column] = level
            if level != 0:
                size = np.int64(min(abs(level), 127)) << 12
                column_mean[column] = move_mean(column_mean[column], column_seen[column], size, whole_mean)
                column_seen[column] = min(column_seen[column] + 1, _MEAN_LIMIT)
                group_mean[group] = move_mean(group_mean[group], group_seen[group], size, whole_mean)
                group_seen[group] = min(group_seen[group] + 1, _MEAN_LIMIT)
                place = column % lag
                if position_mean[place] == 0:
                    position_mean[place] = whole_mean
                position_mean[place] += (size - position_mean[place]) >> 8
                row_mean = move_mean(row_mean, row_seen, size, row_mean)
                row_seen = min(row_seen + 1, _MEAN_LIMIT)
                whole_mean += (size - whole_mean) * np.int64(RATE[whole_seen]) >> 16
                whole_seen = min(whole_seen + 1, COUNT_LIMIT)
        start += width
        row += 1
    return at, low, span
