"""The inner loops of the ``rans`` coder, compiled; :mod:`featherweight.coding.rans` says what they do.

All arithmetic is on unsigned 64-bit numbers, which spares the compiler conversions. A *decoding table* has
three rows of ``2 ** scale`` entries, one after another: the share of a slot's symbol, the slot's place in
that share, and the symbol. One array of 16-bit entries needs one register and, at 12 bits, fits the
first-level cache of any processor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_U = np.uint64
_WORD = _U(16)
_LOWEST = _U(1 << 16)


@njit(inline="always")
def _word(data: Any, at: Any) -> Any:
    return _U(data[_U(2) * at]) | _U(data[_U(2) * at + _U(1)]) << _U(8)  # LLVM makes one load of this


@njit(inline="always")
def _step(states: Any, lane: Any, word: Any, scale: Any, table: Any) -> Any:
    """Decode a symbol from a lane's state; return it and whether that took the word."""
    x, entries = states[lane], _U(1) << scale
    slot = x & (entries - _U(1))
    x = _U(table[slot]) * (x >> scale) + _U(table[slot + entries])
    low = x < _LOWEST
    states[lane] = (x << _WORD | word) if low else x  # a choice, not a branch: the word is there in any case
    return table[slot + _U(2) * entries], _U(low)


@njit(inline="always")
def _decode_rounds(data: Any, at: Any, states: Any, scale: Any, table: Any, out: Any) -> Any:
    """Decode rounds of all lanes while there are words for each; return symbols and the next word."""
    i, lanes, end = _U(0), _U(states.size), _U(data.size // 2)
    while i + lanes <= _U(out.size) and at + lanes <= end:
        for lane in range(states.size):
            out[i + _U(lane)], taken = _step(states, _U(lane), _word(data, at), scale, table)
            at += taken
        i += lanes
    return i, at


@njit(cache=True, nogil=True)
def decode_block(data: Any, begin: int, states: Any, scale: int, table: Any, out: Any) -> Any:
    """Decode ``out.size`` symbols; return the number of words up to the last one taken, or -1 for too many.

    Args:
        data: the block from its states on, and perhaps more, ``uint8``.
        begin: number of the next word, counted from the start of ``data``.
        states: one a lane, ``uint64``; changed to the final ones.
        scale: n.
        table: the decoding table.
        out: where the symbols go.
    """
    n, end = _U(scale), _U(data.size // 2)
    if scale == 12:
        # The same loop with its shifts as constants, a tenth faster.
        i, at = _decode_rounds(data, _U(begin), states, _U(12), table, out)
    else:
        i, at = _decode_rounds(data, _U(begin), states, n, table, out)
    lane = _U(0)
    for k in range(np.int64(i), out.size):
        out[k], taken = _step(states, lane, _word(data, min(at, end - _U(1))), n, table)
        at += taken
        if at > end:
            return np.int64(-1)
        lane = lane + _U(1) if lane + _U(1) < _U(states.size) else _U(0)
    return np.int64(at)


@njit(inline="always")
def _push(x: Any, symbol: Any, table: Any, at: Any, words: Any) -> Any:
    """The state that decodes to a symbol and then to ``x``, and where the next word goes."""
    row = _U(4) * _U(symbol)
    high = _U(x >= table[row])
    words[at] = np.uint16(x & _U(0xFFFF))  # written in any case, kept only if ``at`` moves on
    x = x >> (high << _U(4))  # a shift by 16 or by none: whether a word is full cannot be foretold
    rest = table[row + _U(3)]
    quotient = (x * table[row + _U(1)] + table[row + _U(2)]) >> (rest & _U(63))
    return x + (rest >> _U(32)) + quotient * (rest >> _U(8) & _U(0xFFFFFF)), at - high


@njit(cache=True, nogil=True)
def encode_block(symbols: Any, states: Any, table: Any, words: Any) -> Any:
    """Encode from the last symbol to the first; return where in ``words`` the stream begins.

    Args:
        symbols: 1-D.
        states: one a lane, ``uint64``, 1 or a multiple of 4; changed to those that a decoder starts with.
        table: the encoding table, ``(4 * alphabet,)``, ``uint64``; see
            :func:`featherweight.coding.rans.encoding_table`.
        words: filled from its end, ``uint16``, one more than there are symbols.
    """
    lanes, at, i = _U(states.size), _U(words.size - 1), _U(symbols.size)
    lane = i if lanes == _U(1) else i % lanes
    while lane > _U(0):
        lane, i = lane - _U(1), i - _U(1)
        own = min(lane, lanes - _U(1))
        states[own], at = _push(states[own], symbols[i], table, at, words)
    while i > _U(0):
        i, lane = i - lanes, lanes
        while lane > _U(0):
            # Four at once, whose states stay in registers.
            lane -= _U(4)
            a, b, c, d = states[lane], states[lane + _U(1)], states[lane + _U(2)], states[lane + _U(3)]
            j = i + lane
            d, at = _push(d, symbols[j + _U(3)], table, at, words)
            c, at = _push(c, symbols[j + _U(2)], table, at, words)
            b, at = _push(b, symbols[j + _U(1)], table, at, words)
            a, at = _push(a, symbols[j], table, at, words)
            states[lane], states[lane + _U(1)], states[lane + _U(2)], states[lane + _U(3)] = a, b, c, d
    return at + _U(1)
