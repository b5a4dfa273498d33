"""Lossless floats: the bytes of equal significance together, each plane entropy-coded where that helps.

Weights are spread over a few powers of two, so their exponents repeat while their mantissas look random
(M. Hershcovitch et al., "ZipNN: Lossless compression for AI models", arXiv:2411.05239). A word is rotated
left by one bit first: the sign goes to the end, and the eight exponent bits of a float32 or bfloat16 fill the
first byte. Any bits come back as they were, NaN's included, and integers may gain as well.

The payload is, for each plane from the most significant byte on, a u8, 0 for bytes as they are, 1 for a
stream as the coder ``rans`` writes it, of an alphabet of 256, and 2 for a matrix as ``context`` does it
(:mod:`featherweight.coding.exponents`), and then the plane. The first two planes may be told together, with a
3: how many of the second one's highest bits belong to the matrix, the matrix, and the other bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from featherweight.coding.cursor import Cursor
from featherweight.coding.exponents import MOST, decode_matrix, encode_matrix, likely_shape
from featherweight.coding.rans import Rans
from featherweight.coding.symbols import histogram
from featherweight.coding.threads import map_blocks
from featherweight.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PLAIN, _CODED, _MATRIX, _LONG_MATRIX = 0, 1, 2, 3

#: How many mantissa bits are tried in a matrix.
_MANTISSA_BITS = (1, 2, 3)

#: The widest word that is rotated as one; complex128 is two of them.
_MAX_WORD = 8

#: A plane is coded if that saves at least this fraction; less is not worth the time to decode it.
_LEAST_GAIN = 1 / 256

#: A matrix takes longer, but there are few words in it: it is taken if that saves this fraction of them all.
_LEAST_MATRIX_GAIN = 1 / 2048

#: A part of the payload: its kind, and what follows.
_Part: TypeAlias = "tuple[int, bytes]"

#: Words that are put together at once: few enough for the second-level cache, enough for a thread.
_BLOCK_SIZE = 1 << 16


class Planes:
    """The raw coder ``planes``; see :class:`~featherweight.coding.raw.RawCoder`."""

    name = "planes"
    id = 2

    def encode(self, data: NDArray[np.uint8], item_size: int) -> bytes | None:
        """Code each plane that gains by it; ``None`` if none does."""
        planes = _split(data, min(item_size, _MAX_WORD))
        parts = [_encode_plane(plane) for plane in planes]
        if len(planes) > 1 and parts[0][0] == _CODED:
            parts = _with_matrix(planes, parts)
        if all(kind == _PLAIN for kind, _ in parts):
            return None
        return b"".join(bytes([kind]) + coded for kind, coded in parts)

    def decode(self, payload: NDArray[np.uint8], numel: int, item_size: int) -> NDArray[np.uint8]:
        """Put the words together again."""
        word = min(item_size, _MAX_WORD)
        count = numel * item_size // word
        cursor = Cursor(payload)
        planes: list[NDArray[np.uint8]] = []
        while len(planes) < word:
            planes += _decode_planes(cursor, count, may_be_two=not planes and word > 1)
        cursor.finish()
        return _join(planes, count)


def _encode_plane(plane: NDArray[np.uint8]) -> _Part:
    """A plane that is taken for itself."""
    coder = Rans()
    counts = histogram(plane, 256)
    bits = coder.header_bits(counts) + coder.body_bits(counts)
    most = plane.size * (1 - _LEAST_GAIN)
    coded = coder.encode(plane, counts) if bits < 8 * most else None
    if coded is not None and len(coded) < most:  # what was reckoned is right to a few bytes
        return _CODED, coded
    return _PLAIN, plane.tobytes()


def _with_matrix(planes: list[NDArray[np.uint8]], parts: list[_Part]) -> list[_Part]:
    """The same with a matrix of exponents, with or without mantissa bits, where that is smallest."""
    shape = likely_shape(planes[0])
    if shape is None:
        return parts
    options = [[(_MATRIX, encode_matrix(planes[0], shape, 1)), *parts[1:]]]
    for bits in _MANTISSA_BITS:
        both = (_LONG_MATRIX, _encode_long_matrix(planes[0], planes[1], bits, shape))
        options.append([both, *parts[2:]])
    best = min(options, key=_total_size)
    gain = _total_size(parts) - _total_size(best)
    return best if gain > _LEAST_MATRIX_GAIN * planes[0].size * len(planes) else parts


def _total_size(parts: list[_Part]) -> int:
    return sum(1 + len(coded) for _, coded in parts)


def _encode_long_matrix(
    high: NDArray[np.uint8], low: NDArray[np.uint8], bits: int, shape: tuple[int, ...]
) -> bytes:
    """Two planes, the second one's highest bits in the matrix of the first."""
    symbols = high.astype(np.uint16) << bits | low >> (8 - bits)
    rest = np.unpackbits(low[:, None], axis=1, count=8 - bits, bitorder="little")
    packed = np.packbits(rest, bitorder="little").tobytes()
    return bytes([bits]) + encode_matrix(symbols, shape, 2) + packed


def _decode_planes(cursor: Cursor, count: int, *, may_be_two: bool) -> list[NDArray[np.uint8]]:
    kind = cursor.byte()
    if kind == _PLAIN:
        return [cursor.take(count)]
    if kind == _CODED:
        return [Rans().decode(cursor, count, 256)]
    if kind == _MATRIX:
        return [decode_matrix(cursor, count, 8).astype(np.uint8)]
    if kind == _LONG_MATRIX and may_be_two:
        return _decode_long_matrix(cursor, count)
    raise FormatError(
        f"has a plane of kind {kind}, which this version does not know here; upgrade Featherweight to read it"
    )


def _decode_long_matrix(cursor: Cursor, count: int) -> list[NDArray[np.uint8]]:
    bits = cursor.byte()
    if not 0 < bits < 8 or count > MOST:
        raise FormatError(f"has a matrix of {count} words with {bits} mantissa bits")
    symbols = decode_matrix(cursor, count, 8 + bits)
    total = count * (8 - bits)
    rest = np.unpackbits(cursor.take(-(-total // 8)), bitorder="little")
    if rest[total:].any():
        raise FormatError("has mantissas padded with other than zero bits")
    low = np.packbits(rest[:total].reshape(count, 8 - bits), axis=1, bitorder="little").reshape(-1)
    return [(symbols >> bits).astype(np.uint8), (symbols << (8 - bits)).astype(np.uint8) | low]


def _split(data: NDArray[np.uint8], word: int) -> list[NDArray[np.uint8]]:
    """Planes of words that are rotated left by one bit, the most significant first."""
    planes = np.empty((word, data.size // word), np.uint8)
    words = np.ascontiguousarray(data).view(f"<u{word}")

    def split_block(start: int) -> None:
        block = slice(start, start + _BLOCK_SIZE)
        rotated = words[block]
        if word > 1:
            one, rest = rotated.dtype.type(1), rotated.dtype.type(8 * word - 1)
            rotated = (rotated << one | rotated >> rest).astype(f"<u{word}", copy=False)
        planes[:, block] = rotated.view(np.uint8).reshape(-1, word).T[::-1]

    map_blocks(split_block, range(0, words.size, _BLOCK_SIZE))
    return list(planes)


def _join(planes: list[NDArray[np.uint8]], count: int) -> NDArray[np.uint8]:
    """The inverse of :func:`_split`."""
    word = len(planes)
    if word == 1:
        return planes[0]
    out = np.empty((count, word), np.uint8)
    words = out.reshape(-1).view(f"<u{word}")

    def join_block(start: int) -> None:
        block = slice(start, start + _BLOCK_SIZE)
        for place, plane in enumerate(reversed(planes)):
            out[block, place] = plane[block]
        rotated = words[block]
        one, rest = rotated.dtype.type(1), rotated.dtype.type(8 * word - 1)
        words[block] = rotated >> one | rotated << rest

    map_blocks(join_block, range(0, count, _BLOCK_SIZE))
    return out.reshape(-1)
