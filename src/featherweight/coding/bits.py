"""Codewords to bits and back, least significant bit first: the two inner loops that every static code shares.

A *codeword table* holds ``codeword << 5 | length`` for every symbol; a *lookup table* of ``2 ** width``
entries holds ``symbol << 5 | length`` for every value of the next ``width`` bits. Both are ``uint32``.
Large arrays go through :mod:`featherweight.coding.bit_kernels`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.coding.numba_when_it_pays import use_numba
from featherweight.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.coding.symbols import Symbols

#: Low bits of a table entry that hold the codeword's length.
LENGTH_BITS = 5
_LENGTH_MASK = (1 << LENGTH_BITS) - 1

#: What three times fits into the 57 bits that a refill of the compiled decoder yields at least.
MAX_CODE_LENGTH = 19

#: Spare bytes after a bit stream, so that a refill may load eight bytes anywhere in it.
_PADDING = 8


def write_stream(symbols: Symbols, codewords: NDArray[np.uint32], bit_count: int) -> bytes:
    """Concatenate the codewords of ``symbols``; the last byte is padded with zero bits.

    Args:
        symbols: 1-D, each below ``len(codewords)`` (the caller has made sure).
        codewords: the codeword table.
        bit_count: at least the bits that the codewords take together.
    """
    if not use_numba(symbols.size):
        return _write_slowly(symbols, codewords)
    from featherweight.coding.bit_kernels import write

    words = np.zeros(bit_count // 32 + 1, np.uint32)
    written: int = write(symbols, codewords, words)
    return words.astype("<u4", copy=False).tobytes()[: (written + 7) // 8]


def _write_slowly(symbols: Symbols, codewords: NDArray[np.uint32]) -> bytes:
    table = codewords.tolist()
    digits = [format(entry >> LENGTH_BITS, f"0{entry & _LENGTH_MASK}b")[::-1] for entry in table]
    bits = "".join([digits[symbol] for symbol in symbols.tolist()])
    packed = np.packbits(np.frombuffer(bits.encode(), np.uint8) - ord("0"), bitorder="little")
    return packed.tobytes()


def read_streams(
    body: NDArray[np.uint8], sizes: list[int], lookup: NDArray[np.uint32], count: int, dtype: type[Any]
) -> tuple[Symbols, int]:
    """Decode ``count`` symbols that lie in consecutive bit streams of equally many symbols each.

    Args:
        body: bytes that begin with the streams and may go on after them.
        sizes: bytes of every stream but the last, whose end follows from its symbols.
        lookup: the lookup table.
        count: symbols in all the streams together.
        dtype: of the symbols.

    Returns:
        The symbols and the number of bytes that the streams take.

    Raises:
        FormatError: if a stream ends anywhere but at its declared end, or its padding is not zero.
    """
    if sum(sizes) > body.size:
        raise FormatError("has a bit stream that runs past its end")
    starts = np.cumsum([0, *sizes], dtype=np.uint64)
    padded = np.zeros(body.size + _PADDING, np.uint8)
    padded[: body.size] = body
    positions = starts * np.uint64(8)
    symbols = np.empty(count, dtype)
    chunk = -(-count // starts.size)
    if use_numba(count):
        from featherweight.coding.bit_kernels import read

        read(padded, positions, lookup, symbols, chunk)
    else:
        _read_slowly(padded, positions, lookup, symbols, chunk)
    ends = [*starts[1:].tolist(), (int(positions[-1]) + 7) // 8]
    if ends[-1] > body.size:
        raise FormatError("has a bit stream that runs past its end")
    for position, end in zip(positions.tolist(), ends, strict=True):
        _check_end(padded, position, end)
    return symbols, ends[-1]


def _check_end(padded: NDArray[np.uint8], position: int, end: int) -> None:
    if (position + 7) // 8 != end:
        raise FormatError("has a bit stream that does not end where it says")
    if position % 8 and padded[end - 1] >> (position % 8):
        raise FormatError("has a bit stream padded with other than zero bits")


def _read_slowly(
    body: NDArray[np.uint8],
    positions: NDArray[np.uint64],
    lookup: NDArray[np.uint32],
    out: Symbols,
    chunk: int,
) -> None:
    data, table, mask = body.tobytes(), lookup.tolist(), lookup.size - 1
    for stream, begin in enumerate(positions.tolist()):
        position, symbols = begin, []
        for _ in range(stream * chunk, min((stream + 1) * chunk, out.size)):
            at = position >> 3
            entry = table[int.from_bytes(data[at : at + 4], "little") >> (position & 7) & mask]
            symbols.append(entry >> LENGTH_BITS)
            position += entry & _LENGTH_MASK
        out[stream * chunk : stream * chunk + len(symbols)] = symbols
        positions[stream] = position
