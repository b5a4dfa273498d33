"""One binary decision of the ``context`` coder: predicted by mixed states, coded, and learnt from.

Every state is a probability in some context. Their logits x are mixed into one, ``p = squash(sum w x)``, and
from the outcome learn the weights, ``w += rate x (bit - p)``, and the states (M. Mahoney, "Adaptive weighing of
context models for lossless data compression", 2005). A range coder with carries (G. N. N. Martin, 1979) codes
the bit. There is a function for each number of states, as compilers unroll what is written out.

A *weight set* is 8 integers: up to 5 weights in units of 2⁻¹⁶, and last its learning rate.

The range coder's interval is ``low`` and ``span``, both below 2⁴⁸; when decoding, ``low`` is the offset of the
stream's value in it. ``at`` is how many bytes went out or came in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from featherweight.coding.context_tables import (
    COUNT_BITS,
    COUNT_LIMIT,
    LOGIT_LIMIT,
    RATE,
    SPAN_BITS,
    SQUASH,
    STRETCH,
    STRETCH_SHIFT,
)
from featherweight.coding.memory_kernels import get_i32, get_u8, get_u32, set_i32, set_u8, set_u32

#: Integers in a weight set, and where its rate is.
SET_SIZE = 8
_RATE_AT = 7

#: What the weights of a set begin with adds up to this, of 65,536.
_FIRST_WEIGHTS = 68_800
_FIRST_RATE = 3200

#: Bytes that a decision may write.
BYTES_AT_ONCE = 2

_LEAST_SPAN = 1 << 32
FULL_SPAN = (1 << SPAN_BITS) - 1

_NOT_COUNT = ~COUNT_LIMIT


@njit(cache=True, nogil=True)
def first_weights(inputs: Any) -> Any:
    """The weight sets as they begin, flat int32, given how many states each mixes, ``(sets,)``."""
    weights = np.zeros(SET_SIZE * inputs.size, np.int32)
    for i in range(inputs.size):
        weights[SET_SIZE * i : SET_SIZE * i + inputs[i]] = _FIRST_WEIGHTS // inputs[i]
        weights[SET_SIZE * i + _RATE_AT] = _FIRST_RATE
    return weights


@njit(cache=True, nogil=True, forceinline=True)
def read_state(states: Any, at: Any, begin: Any) -> Any:
    """A state, or where it begins if it is unused."""
    state: Any = get_u32(states, at)
    return state if state else begin


@njit(cache=True, nogil=True, forceinline=True)
def uncounted(state: Any) -> Any:
    """Where another state begins that is to have the same probability."""
    return state & _NOT_COUNT


@njit(cache=True, nogil=True, forceinline=True)
def _logit(state: Any) -> Any:
    return np.int64(STRETCH[np.uint64(state >> STRETCH_SHIFT)])


@njit(cache=True, nogil=True, forceinline=True)
def _learn(states: Any, at: Any, state: Any, target: Any) -> None:
    """Move a state towards a bit; ``target`` is 0 or 65,535."""
    count: Any = state & COUNT_LIMIT
    step: Any = (target - (state >> 16)) * np.int64(RATE[np.uint64(count)])
    set_u32(states, at, state + (step & _NOT_COUNT) + np.int64(count < COUNT_LIMIT))


@njit(cache=True, nogil=True, forceinline=True)
def _train(weights: Any, at: Any, logit: Any, error: Any) -> None:
    set_i32(weights, at, get_i32(weights, at) + ((logit * error + 0x4000) >> 15))


@njit(cache=True, nogil=True, forceinline=True)
def _error(weights: Any, at: Any, bit: Any, p: Any, rate: Any) -> Any:
    """How wrong a weight set was, times its learning rate, which falls towards ``rate``."""
    own: Any = get_i32(weights, at + _RATE_AT)
    set_i32(weights, at + _RATE_AT, own + ((rate - own) >> 6))
    return ((bit << 16) - bit - p) * own >> 8


@njit(cache=True, nogil=True, forceinline=True)
def _probability(total: Any) -> Any:
    logit: Any = min(max(total >> 16, -LOGIT_LIMIT), LOGIT_LIMIT)
    return np.int64(SQUASH[np.uint64(logit + LOGIT_LIMIT)])


@njit(cache=True, nogil=True)
def carry(stream: Any, at: Any) -> None:
    """Add 1 to the bytes before ``at``. There is room: the whole interval stays below 1."""
    at -= 1
    while get_u8(stream, at) == 255:
        set_u8(stream, at, 0)
        at -= 1
    set_u8(stream, at, get_u8(stream, at) + 1)


@njit(cache=True, nogil=True, forceinline=True)
def _next_byte(stream: Any, size: Any, at: Any) -> Any:
    return get_u8(stream, at) if at < size else np.int64(0)


@njit(cache=True, nogil=True, forceinline=True)
def _code(stream: Any, size: Any, decoding: bool, bit: Any, p: Any, low: Any, span: Any, at: Any) -> Any:
    """Code a bit that is 1 with probability ``p``: then it takes the lower part of the interval."""
    bound: Any = (span >> 16) * p
    if decoding:
        bit = np.int64(low < bound)
    if bit:
        span = bound
    else:
        span -= bound
        low += -bound if decoding else bound
    if span < _LEAST_SPAN:
        if decoding:
            low = low << 16 | _next_byte(stream, size, at) << 8 | _next_byte(stream, size, at + 1)
        else:
            if low > FULL_SPAN:
                carry(stream, at)
            set_u8(stream, at, low >> 40)
            set_u8(stream, at + 1, low >> 32)
            low = (low & 0xFFFFFFFF) << 16
        span <<= 16
        at += BYTES_AT_ONCE
    return bit, low, span, at


@njit(cache=True, nogil=True, forceinline=True)
def first_bytes(stream: Any, size: Any) -> Any:
    """``(low, span, at)`` where decoding begins."""
    low: Any = np.int64(0)
    for at in range(SPAN_BITS // 8):
        low = low << 8 | _next_byte(stream, size, at)
    return low, np.int64(FULL_SPAN), np.int64(SPAN_BITS // 8)


@njit(cache=True, nogil=True, forceinline=True)
def decide_three(
    states: Any,
    s1: Any,
    s2: Any,
    s3: Any,
    begin: Any,
    weights: Any,
    w: Any,
    rate: Any,
    stream: Any,
    size: Any,
    decoding: bool,
    bit: Any,
    low: Any,
    span: Any,
    at: Any,
) -> Any:
    """Code a decision with three states.

    Args:
        states: all of them, uint32.
        s1: which is the first; the others, while they are unused, begin where this one is.
        s2: the second.
        s3: the third.
        begin: the first, if it is unused.
        weights: all weight sets.
        w: where the one begins that is to mix the states.
        rate: what its learning rate falls towards.
        stream: written or read.
        decoding: the direction.
        bit: the outcome, if encoding.
        low: the range coder's interval, and its place.
        span: see there.
        at: see there.

    Returns:
        ``(bit, low, span, at)``.
    """
    v1 = read_state(states, s1, begin)
    begin = uncounted(v1)
    v2, v3 = read_state(states, s2, begin), read_state(states, s3, begin)
    x1, x2, x3 = _logit(v1), _logit(v2), _logit(v3)
    total: Any = get_i32(weights, w) * x1 + get_i32(weights, w + 1) * x2 + get_i32(weights, w + 2) * x3
    p = _probability(total)
    bit, low, span, at = _code(stream, size, decoding, bit, p, low, span, at)
    error = _error(weights, w, bit, p, rate)
    _train(weights, w, x1, error)
    _train(weights, w + 1, x2, error)
    _train(weights, w + 2, x3, error)
    target = (bit << 16) - bit
    _learn(states, s1, v1, target)
    _learn(states, s2, v2, target)
    _learn(states, s3, v3, target)
    return bit, low, span, at


@njit(cache=True, nogil=True, forceinline=True)
def decide_four(
    states: Any,
    s1: Any,
    s2: Any,
    s3: Any,
    s4: Any,
    begin: Any,
    weights: Any,
    w: Any,
    rate: Any,
    stream: Any,
    size: Any,
    decoding: bool,
    bit: Any,
    low: Any,
    span: Any,
    at: Any,
) -> Any:
    """The same with four states."""
    v1 = read_state(states, s1, begin)
    begin = uncounted(v1)
    v2, v3 = read_state(states, s2, begin), read_state(states, s3, begin)
    v4 = read_state(states, s4, begin)
    x1, x2, x3, x4 = _logit(v1), _logit(v2), _logit(v3), _logit(v4)
    total: Any = get_i32(weights, w) * x1 + get_i32(weights, w + 1) * x2 + get_i32(weights, w + 2) * x3
    total += get_i32(weights, w + 3) * x4
    p = _probability(total)
    bit, low, span, at = _code(stream, size, decoding, bit, p, low, span, at)
    error = _error(weights, w, bit, p, rate)
    _train(weights, w, x1, error)
    _train(weights, w + 1, x2, error)
    _train(weights, w + 2, x3, error)
    _train(weights, w + 3, x4, error)
    target = (bit << 16) - bit
    _learn(states, s1, v1, target)
    _learn(states, s2, v2, target)
    _learn(states, s3, v3, target)
    _learn(states, s4, v4, target)
    return bit, low, span, at


@njit(cache=True, nogil=True, forceinline=True)
def decide_five(
    states: Any,
    s1: Any,
    s2: Any,
    s3: Any,
    s4: Any,
    s5: Any,
    begin: Any,
    weights: Any,
    w: Any,
    rate: Any,
    stream: Any,
    size: Any,
    decoding: bool,
    bit: Any,
    low: Any,
    span: Any,
    at: Any,
) -> Any:
    """The same with five states."""
    v1 = read_state(states, s1, begin)
    begin = uncounted(v1)
    v2, v3 = read_state(states, s2, begin), read_state(states, s3, begin)
    v4, v5 = read_state(states, s4, begin), read_state(states, s5, begin)
    x1, x2, x3, x4, x5 = _logit(v1), _logit(v2), _logit(v3), _logit(v4), _logit(v5)
    total: Any = get_i32(weights, w) * x1 + get_i32(weights, w + 1) * x2 + get_i32(weights, w + 2) * x3
    total += get_i32(weights, w + 3) * x4 + get_i32(weights, w + 4) * x5
    p = _probability(total)
    bit, low, span, at = _code(stream, size, decoding, bit, p, low, span, at)
    error = _error(weights, w, bit, p, rate)
    _train(weights, w, x1, error)
    _train(weights, w + 1, x2, error)
    _train(weights, w + 2, x3, error)
    _train(weights, w + 3, x4, error)
    _train(weights, w + 4, x5, error)
    target = (bit << 16) - bit
    _learn(states, s1, v1, target)
    _learn(states, s2, v2, target)
    _learn(states, s3, v3, target)
    _learn(states, s4, v4, target)
    _learn(states, s5, v5, target)
    return bit, low, span, at
