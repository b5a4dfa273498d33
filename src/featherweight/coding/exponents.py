"""The exponents of a small tensor as a matrix: rows and columns of weights have scales of their own.

In a trained network an output channel, an input channel and a place in the kernel each tell something of how
large a weight is, and so do its neighbours. The coder ``context`` finds such things in index arrays, so it
finds them in exponents, too: on the layers of a ResNet-20 it takes about a fifteenth off what static tables
need. It is slow, so only tensors of up to :data:`MOST` words are coded this way.

The layout is::

    greatest, least     u8 each: bytes that occur; index i stands for the byte greatest - i
    width               varint, a divisor of the number of bytes
    size                varint: bytes of what follows
    indices             as ``context`` codes a matrix of this width and a codebook of greatest - least + 1
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featherweight.coding.context import ContextCoder
from featherweight.coding.cursor import encode_varint
from featherweight.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.coding.cursor import Cursor

#: Words of a tensor between which the time is worth the bytes: 2^16 words take about a twentieth of a second.
LEAST, MOST = 1 << 10, 1 << 16

#: Rows and columns that a matrix has at least.
_LEAST_SIDE = 8

#: Widths that are tried.
_TRIES = 2


def encode_matrix(plane: NDArray[np.uint8]) -> bytes | None:
    """Code a plane as a matrix of whichever width promises most; ``None`` if it is too small or too large."""
    if not LEAST <= plane.size <= MOST:
        return None
    greatest, least = int(plane.max()), int(plane.min())
    indices = np.uint8(greatest) - plane
    coded = []
    for width in _likely_widths(plane):
        stream = ContextCoder().encode(indices.reshape(-1, width), greatest - least + 1)
        coded.append(bytes([greatest, least]) + encode_varint(width) + encode_varint(len(stream)) + stream)
    return min(coded, key=len)


def decode_matrix(cursor: Cursor, count: int) -> NDArray[np.uint8]:
    """Read a plane of ``count`` bytes back; raises :class:`FormatError` if that is not possible."""
    greatest, least, width = cursor.byte(), cursor.byte(), cursor.varint()
    if least > greatest:
        raise FormatError(f"has bytes from {least} to {greatest}")
    if not width or count % width:
        raise FormatError(f"has a plane of {count} bytes in rows of {width}")
    payload = cursor.take(cursor.varint())
    indices = ContextCoder().decode(payload, (count // width, width), greatest - least + 1)
    return np.uint8(greatest) - indices.reshape(-1)


def _likely_widths(plane: NDArray[np.uint8]) -> list[int]:
    """Widths with which rows and columns differ most, beyond what chance does; one row if none."""
    count = plane.size
    values = plane.astype(np.float64)
    values -= values.mean()
    scores = {count: 0.0}
    for width in range(_LEAST_SIDE, count // _LEAST_SIDE + 1):
        if count % width == 0:
            matrix = values.reshape(-1, width)
            rows, columns = matrix.shape
            scores[width] = float(
                columns * (matrix.mean(axis=1) ** 2).sum()
                + rows * (matrix.mean(axis=0) ** 2).sum()
                - (rows + columns - 2) * values.var() * np.log(count) / 2
            )
    return sorted(scores, key=lambda width: -scores[width])[:_TRIES]
