"""Interleaved range asymmetric numeral systems with static tables: the coder that decodes fastest.

J. Duda, "Asymmetric numeral systems: entropy coding combining speed of Huffman coding with compression rate
of arithmetic coding", arXiv:1311.2540; F. Giesen, "Interleaved entropy coders", arXiv:1402.3392.

A *state* x is a number from 2¹⁶ to 2³². Its last n bits, the *slot*, tell a symbol: each one owns as many
slots as its share, in order. Decoding a symbol of share f, whose slots begin at s, turns x into ``f * (x >>
n) + slot - s``, and if that is below 2¹⁶ shifts the next 16-bit word of the stream in from below. Encoding is
the inverse, from the last symbol to the first. A state knows where it began, so a decoder that ends with
anything but 2¹⁶ has read something else than was written. States that take turns (*lanes*) need not wait for
one another.

The layout of a stream is a table (:mod:`featherweight.coding.rans_table`), the sizes of all blocks but the
last as varints, and the blocks; a block is its states, a u32 each, and its words, a u16 each. Blocks of 2²⁰
symbols share the table and nothing else, so that all cores can work on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featherweight.coding.cursor import Cursor, encode_varint
from featherweight.coding.numba_when_it_pays import use_numba
from featherweight.coding.rans_table import Table, decode_table, plan
from featherweight.coding.symbols import ceil_log2, symbol_dtype
from featherweight.coding.threads import map_blocks
from featherweight.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import DTypeLike, NDArray

    from featherweight.coding.symbols import Symbols

#: Symbols of every block but the last.
BLOCK_SIZE = 1 << 20

#: States of a stream whose table says that there are several.
LANES = 32

#: Where a state begins when encoding, and must end when decoding; the least that a state can be.
_LOWEST = 1 << 16


class Rans:
    """The code of the ``rans`` coder; see :class:`~featherweight.coding.symbols.SymbolCoder`."""

    def header_bits(self, counts: NDArray[np.int64]) -> int:
        """Bits of the table and the states."""
        if not counts.any():
            return 0
        best = plan(counts)
        if not best.table.shares.size:
            return 8 * len(best.header)
        blocks = -(-int(counts.sum()) // BLOCK_SIZE)
        # A state is 32 bits, of which it would have taken half to tell the symbols.
        return 8 * len(best.header) + blocks * _lane_count(best.table) * 16

    def body_bits(self, counts: NDArray[np.int64]) -> int:
        """Bits of the symbols, rounded up."""
        return plan(counts).body_bits if counts.any() else 0

    def encode(self, symbols: Symbols, counts: NDArray[np.int64]) -> bytes:
        """Code the symbols with the table that is best for them."""
        if not symbols.size:
            return b""
        best = plan(counts)
        if not best.table.shares.size:
            return best.header
        encode_block = _block_encoder(best.table, use_numba(symbols.size))
        parts = [symbols[start : start + BLOCK_SIZE] for start in range(0, symbols.size, BLOCK_SIZE)]
        blocks = map_blocks(encode_block, parts)
        sizes = b"".join(encode_varint(len(coded)) for coded in blocks[:-1])
        return b"".join([best.header, sizes, *blocks])

    def decode(self, cursor: Cursor, count: int, alphabet: int) -> Symbols:
        """Read ``count`` symbols back."""
        dtype = symbol_dtype(alphabet)
        if count == 0:
            return np.zeros(0, dtype)
        table = decode_table(cursor, alphabet)
        if not table.shares.size:
            return np.full(count, table.first, dtype)
        sizes = _read_sizes(cursor, count)
        body = cursor.rest()
        starts = np.cumsum([0, *sizes]).tolist()
        ends = [*starts[1:], body.size]
        decode_block = _block_decoder(table, use_numba(count), dtype)
        symbols = np.empty(count, dtype)

        def decode_part(number: int) -> int:
            part = symbols[number * BLOCK_SIZE : (number + 1) * BLOCK_SIZE]
            return decode_block(body[starts[number] : ends[number]], part)

        taken = map_blocks(decode_part, range(len(starts)))
        if taken[:-1] != sizes:
            raise FormatError("has a block that does not end where it says")
        cursor.take(starts[-1] + taken[-1])
        return symbols


def _lane_count(table: Table) -> int:
    return LANES if table.lanes else 1


def _read_sizes(cursor: Cursor, count: int) -> list[int]:
    """Bytes of every block but the last."""
    blocks = -(-count // BLOCK_SIZE)
    if blocks > cursor.remaining:
        raise FormatError(f"is too short for {blocks} blocks")
    sizes = [cursor.varint() for _ in range(blocks - 1)]
    if sum(sizes) > cursor.remaining:
        raise FormatError("has a block that runs past its end")
    return sizes


# -- encoding a block ------------------------------------------------------------------------------


def _block_encoder(table: Table, compiled: bool) -> Callable[[Symbols], bytes]:
    if not compiled:
        return lambda symbols: _encode_slowly(symbols, table)
    from featherweight.coding.rans_kernels import encode_block

    rows = encoding_table(table).reshape(-1)

    def encode(symbols: Symbols) -> bytes:
        states = np.full(_lane_count(table), _LOWEST, np.uint64)
        words = np.empty(symbols.size + 1, np.uint16)
        begin = encode_block(symbols, states, rows, words)
        return _join(states, words[begin:])

    return encode


def encoding_table(table: Table) -> NDArray[np.uint64]:
    """What the compiled encoder needs of each symbol, in one place and without a division.

    With k = 31 + clog2(f), 2^k rounded up or down to a multiple of f is at most f/2 from 2^k. Let r be that
    multiple over f, and x < 2^32. Then x // f is ``x * r >> k`` if the multiple is 2^k or above it, and
    ``(x + 1) * r >> k`` if it is below; nothing exceeds 64 bits (T. Granlund, P. Montgomery, "Division by
    invariant integers using multiplication", 1994).

    Returns:
        By symbol the state from which on a word is full, r, r or 0 for the addend, and ``s << 32 | (2^n - f)
        << 8 | k``, where f is its share and s its first slot; ``(alphabet, 4)``.
    """
    shares, starts = _shares_of_alphabet(table)
    rows = np.zeros((shares.size, 4), np.uint64)
    for symbol in np.flatnonzero(shares).tolist():
        share, start = int(shares[symbol]), int(starts[symbol])
        k = 31 + ceil_log2(share)
        below, rest = divmod(1 << k, share)
        factor = (below, below) if 0 < 2 * rest <= share else (below + (rest > 0), 0)
        rows[symbol] = (
            share << (32 - table.scale),
            *factor,
            start << 32 | ((1 << table.scale) - share) << 8 | k,
        )
    return rows


def _encode_slowly(symbols: Symbols, table: Table) -> bytes:
    n, lanes = table.scale, _lane_count(table)
    shares, starts = (row.tolist() for row in _shares_of_alphabet(table))
    states, words = [_LOWEST] * lanes, []
    backwards = symbols.tolist()[::-1]
    for lane, symbol in zip(range(len(backwards) - 1, -1, -1), backwards, strict=True):
        x, share = states[lane % lanes], shares[symbol]
        if x >= share << (32 - n):
            words.append(x & 0xFFFF)
            x >>= 16
        states[lane % lanes] = (x // share << n) + x % share + starts[symbol]
    return _join(np.array(states, np.uint64), np.array(words[::-1], np.uint16))


def _join(states: NDArray[np.uint64], words: NDArray[np.uint16]) -> bytes:
    return states.astype("<u4").tobytes() + words.astype("<u2", copy=False).tobytes()


def _shares_of_alphabet(table: Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Shares and where the slots begin, by symbol."""
    shares = np.concatenate([np.zeros(table.first, np.int64), table.shares])
    return shares, np.cumsum(shares) - shares


# -- decoding a block ------------------------------------------------------------------------------


def _lookup(table: Table) -> NDArray[np.uint16]:
    """By slot: the symbol's share, the slot's place in it, the symbol; one row after another."""
    offsets = np.repeat(np.arange(table.shares.size), table.shares)
    starts = np.cumsum(table.shares) - table.shares
    places = np.arange(1 << table.scale) - starts[offsets]
    return np.concatenate([table.shares[offsets], places, offsets + table.first]).astype(np.uint16)


def _read_states(data: NDArray[np.uint8], lanes: int) -> NDArray[np.uint64]:
    if data.size < 4 * lanes:
        raise FormatError("has a block without all of its states")
    states = data[: 4 * lanes].view("<u4").astype(np.uint64)
    if int(states.min()) < _LOWEST:
        raise FormatError("has a state that no encoder leaves")
    return states


def _block_decoder(
    table: Table, compiled: bool, dtype: DTypeLike
) -> Callable[[NDArray[np.uint8], Symbols], int]:
    """What fills an array with a block's symbols, and returns the bytes that they took."""
    lookup = _lookup(table)
    if not compiled:
        return lambda data, out: _decode_slowly(data, table, lookup, out)
    from featherweight.coding import rans_avx2_kernel as avx2
    from featherweight.coding.rans_kernels import decode_block

    entries = None
    if table.lanes and table.scale == avx2.SCALE and dtype == np.uint8 and avx2.is_supported():
        rows = lookup.reshape(3, -1).astype(np.uint32)
        entries = rows[0] << np.uint32(20) | rows[1] << np.uint32(8) | rows[2]

    def decode(data: NDArray[np.uint8], out: Symbols) -> int:
        states = _read_states(data, _lane_count(table))
        done, at = 0, 2 * states.size
        if entries is not None:
            narrow = states.astype(np.uint32)
            done, at = avx2.decode_rounds(data, narrow, entries, avx2.TURNS, out)
            states[:] = narrow
        taken = decode_block(data, at, states, table.scale, lookup, out[done:])
        return _check(states.tolist(), taken)

    return decode


def _decode_slowly(data: NDArray[np.uint8], table: Table, lookup: NDArray[np.uint16], out: Symbols) -> int:
    n, lanes = table.scale, _lane_count(table)
    states: list[int] = _read_states(data, lanes).tolist()
    # No symbol takes more than a word; what follows may be all the rest of a file.
    most = min(4 * lanes + 2 * out.size, data.size // 2 * 2)
    words: list[int] = np.frombuffer(data[:most].tobytes(), "<u2").tolist()
    shares, places, names = lookup.reshape(3, -1).tolist()
    mask, at, symbols = (1 << n) - 1, 2 * lanes, []
    try:
        for i in range(out.size):
            x = states[i % lanes]
            slot = x & mask
            symbols.append(names[slot])
            x = shares[slot] * (x >> n) + places[slot]
            if x < _LOWEST:
                x = x << 16 | words[at]
                at += 1
            states[i % lanes] = x
    except IndexError:
        at = -1
    else:
        out[:] = symbols
    return _check(states, at)


def _check(states: list[int], words: int) -> int:
    """Bytes of a block up to so many words, or -1 for too many; raises unless the states are final."""
    if words < 0:
        raise FormatError("has a block that runs past its end")
    if any(state != _LOWEST for state in states):
        raise FormatError("has a block that does not decode to what was encoded")
    return 2 * words
