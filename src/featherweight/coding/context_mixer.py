"""One binary decision of the ``context`` coder: predicted by mixed states, coded, and learnt from.

Every state is a probability in some context. Their logits x are mixed into one, ``p = squash(sum w x)``, and
from the outcome learn the weights, ``w += rate x (bit - p)``, and the states (M. Mahoney, "Adaptive weighing
of context models for lossless data compression", 2005). A range coder with carries (G. N. N. Martin, 1979)
codes the bit. There is a function for each number of states, with nothing left to unroll.

A *weight set* is 8 integers: up to 5 weights in units of 2⁻¹⁶, and last its learning rate.

Two tuples go from function to function, so that LLVM keeps all of them in registers:

- ``memory``: the addresses of the states (uint32), of the weights (int32) and of the stream (uint8), the
  stream's bytes, whether it is being decoded, and the rate that the weight sets' own fall towards;
- ``coder``: the range coder's interval, its lower end and its length, and the bytes that went out or came in.
  When decoding, the first is the offset of the stream's value in the interval.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from featherweight.coding.context_block import RATE_AT, SET_SIZE
from featherweight.coding.context_tables import (
    COUNT_LIMIT,
    LOGIT_LIMIT,
    RATE,
    SPAN_BITS,
    SQUASH,
    STRETCH,
    STRETCH_SHIFT,
)
from featherweight.coding.memory_kernels import get_i32, get_u8, get_u32, set_i32, set_u8, set_u32

_LEAST_SPAN = 1 << 32
FULL_SPAN = (1 << SPAN_BITS) - 1

_NOT_COUNT = ~COUNT_LIMIT


@njit(cache=True, nogil=True, forceinline=True)
def _read(states: Any, at: Any, begin: Any) -> Any:
    """A state, or where it begins if it is unused."""
    state: Any = get_u32(states, at)
    return state if state else begin


@njit(cache=True, nogil=True, forceinline=True)
def _logit(state: Any) -> Any:
    return np.int64(STRETCH[np.uint64(state >> STRETCH_SHIFT)])


@njit(cache=True, nogil=True, forceinline=True)
def _learn(states: Any, at: Any, state: Any, bit: Any) -> None:
    """Move a state towards a bit."""
    count: Any = state & COUNT_LIMIT
    step: Any = ((bit << 16) - bit - (state >> 16)) * np.int64(RATE[np.uint64(count)])
    set_u32(states, at, state + (step & _NOT_COUNT) + np.int64(count < COUNT_LIMIT))


@njit(cache=True, nogil=True, forceinline=True)
def _train(weights: Any, at: Any, logit: Any, error: Any) -> None:
    set_i32(weights, at, get_i32(weights, at) + ((logit * error + 0x4000) >> 15))


@njit(cache=True, nogil=True, forceinline=True)
def _error(memory: Any, w: Any, bit: Any, p: Any) -> Any:
    """How wrong a weight set was, times its learning rate, which falls."""
    weights, rate = memory[1], memory[5]
    own: Any = get_i32(weights, w + RATE_AT)
    set_i32(weights, w + RATE_AT, own + ((rate - own) >> 6))
    return ((bit << 16) - bit - p) * own >> 8


@njit(cache=True, nogil=True, forceinline=True)
def _probability(total: Any) -> Any:
    logit: Any = min(max(total >> 16, -LOGIT_LIMIT), LOGIT_LIMIT)
    return np.int64(SQUASH[np.uint64(logit + LOGIT_LIMIT)])


@njit(cache=True, nogil=True)
def _carry(stream: Any, at: Any) -> None:
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
def _code(memory: Any, p: Any, bit: Any, coder: Any) -> Any:
    """Code a bit that is 1 with probability ``p``: then it takes the lower part of the interval."""
    _, _, stream, size, decoding, _ = memory
    low, span, at = coder
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
                _carry(stream, at)
            set_u8(stream, at, low >> 40)
            set_u8(stream, at + 1, low >> 32)
            low = (low & 0xFFFFFFFF) << 16
        span <<= 16
        at += 2
    return bit, (low, span, at)


@njit(cache=True, nogil=True, forceinline=True)
def begin_coding(memory: Any) -> Any:
    """The range coder as it begins."""
    _, _, stream, size, decoding, _ = memory
    low: Any = np.int64(0)
    at: Any = np.int64(0)
    if decoding:
        while at < SPAN_BITS // 8:
            low = low << 8 | _next_byte(stream, size, at)
            at += 1
    return low, np.int64(FULL_SPAN), at


@njit(cache=True, nogil=True, forceinline=True)
def decide_three(memory: Any, contexts: Any, begin: Any, weight_set: Any, bit: Any, coder: Any) -> Any:
    """Code a decision with three states.

    Args:
        memory: see above.
        contexts: which states; all others, while they are unused, begin where the first is.
        begin: where the first begins.
        weight_set: which one mixes them.
        bit: the outcome, if encoding.
        coder: see above.

    Returns:
        ``(bit, coder)``.
    """
    states, weights = memory[0], memory[1]
    w = weight_set * SET_SIZE
    s1, s2, s3 = contexts
    v1 = _read(states, s1, begin)
    begin = v1 & _NOT_COUNT
    v2, v3 = _read(states, s2, begin), _read(states, s3, begin)
    x1, x2, x3 = _logit(v1), _logit(v2), _logit(v3)
    total: Any = get_i32(weights, w) * x1 + get_i32(weights, w + 1) * x2 + get_i32(weights, w + 2) * x3
    p = _probability(total)
    bit, coder = _code(memory, p, bit, coder)
    error = _error(memory, w, bit, p)
    _train(weights, w, x1, error)
    _train(weights, w + 1, x2, error)
    _train(weights, w + 2, x3, error)
    _learn(states, s1, v1, bit)
    _learn(states, s2, v2, bit)
    _learn(states, s3, v3, bit)
    return bit, coder


@njit(cache=True, nogil=True, forceinline=True)
def decide_four(memory: Any, contexts: Any, begin: Any, weight_set: Any, bit: Any, coder: Any) -> Any:
    """The same with four states."""
    states, weights = memory[0], memory[1]
    w = weight_set * SET_SIZE
    s1, s2, s3, s4 = contexts
    v1 = _read(states, s1, begin)
    begin = v1 & _NOT_COUNT
    v2, v3 = _read(states, s2, begin), _read(states, s3, begin)
    v4 = _read(states, s4, begin)
    x1, x2, x3, x4 = _logit(v1), _logit(v2), _logit(v3), _logit(v4)
    total: Any = get_i32(weights, w) * x1 + get_i32(weights, w + 1) * x2 + get_i32(weights, w + 2) * x3
    total += get_i32(weights, w + 3) * x4
    p = _probability(total)
    bit, coder = _code(memory, p, bit, coder)
    error = _error(memory, w, bit, p)
    _train(weights, w, x1, error)
    _train(weights, w + 1, x2, error)
    _train(weights, w + 2, x3, error)
    _train(weights, w + 3, x4, error)
    _learn(states, s1, v1, bit)
    _learn(states, s2, v2, bit)
    _learn(states, s3, v3, bit)
    _learn(states, s4, v4, bit)
    return bit, coder


@njit(cache=True, nogil=True, forceinline=True)
def decide_five(memory: Any, contexts: Any, begin: Any, weight_set: Any, bit: Any, coder: Any) -> Any:
    """The same with five states."""
    states, weights = memory[0], memory[1]
    w = weight_set * SET_SIZE
    s1, s2, s3, s4, s5 = contexts
    v1 = _read(states, s1, begin)
    begin = v1 & _NOT_COUNT
    v2, v3 = _read(states, s2, begin), _read(states, s3, begin)
    v4, v5 = _read(states, s4, begin), _read(states, s5, begin)
    x1, x2, x3, x4, x5 = _logit(v1), _logit(v2), _logit(v3), _logit(v4), _logit(v5)
    total: Any = get_i32(weights, w) * x1 + get_i32(weights, w + 1) * x2 + get_i32(weights, w + 2) * x3
    total += get_i32(weights, w + 3) * x4 + get_i32(weights, w + 4) * x5
    p = _probability(total)
    bit, coder = _code(memory, p, bit, coder)
    error = _error(memory, w, bit, p)
    _train(weights, w, x1, error)
    _train(weights, w + 1, x2, error)
    _train(weights, w + 2, x3, error)
    _train(weights, w + 3, x4, error)
    _train(weights, w + 4, x5, error)
    _learn(states, s1, v1, bit)
    _learn(states, s2, v2, bit)
    _learn(states, s3, v3, bit)
    _learn(states, s4, v4, bit)
    _learn(states, s5, v5, bit)
    return bit, coder
