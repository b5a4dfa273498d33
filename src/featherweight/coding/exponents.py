"""The exponents of a small tensor as a matrix: rows and columns of weights have scales of their own.

In a trained network an output channel, an input channel and a place in the kernel each tell something of how
large a weight is, and so do its neighbours. The coder ``context`` finds such things in index arrays, so it
finds them in exponents, too: on the layers of a ResNet-20 it takes about a fifteenth off what static tables
need. It is slow, so only tensors of up to :data:`MOST` words are coded this way.

Within an exponent, small mantissas are likelier than large ones, so that their first bits may be taken along.

The layout is::

    greatest, least     u8 each, u16 with mantissa bits: symbols that occur; index i stands for greatest - i
    width               varint, a divisor of the number of symbols
    size                varint: bytes of what follows
    indices             as ``context`` codes a matrix of this width and a codebook of greatest - least + 1
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.coding.context import ContextCoder
from featherweight.coding.cursor import encode_varint
from featherweight.coding.symbols import symbol_dtype
from featherweight.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.coding.cursor import Cursor

#: Words of a tensor between which the time is worth the bytes: 2^16 words take about a twentieth of a second.
LEAST, MOST = 1 << 10, 1 << 16

#: Rows and columns that a matrix has at least.
_LEAST_SIDE = 8

#: Widths that are tried, and kernel sizes for each that it is a multiple of.
_TRIES = 2
_KERNELS = (3, 5)


def likely_shape(plane: NDArray[np.uint8]) -> tuple[int, ...] | None:
    """The shape in which exponents take the fewest bytes; ``None`` if they are too few or too many."""
    if not LEAST <= plane.size <= MOST:
        return None
    shapes: list[tuple[int, ...]] = []
    for width in _likely_widths(plane):
        kernels = [(width // side**2, side, side) for side in _KERNELS if width % side**2 == 0]
        shapes += [(plane.size // width, *row) for row in ((width,), *kernels)]
    return min(shapes, key=lambda shape: len(encode_matrix(plane, shape, 1)))


def encode_matrix(symbols: NDArray[Any], shape: tuple[int, ...], bound_size: int) -> bytes:
    """Code symbols as an array of a shape, of which the width alone is stored.

    Args:
        symbols: ``(n,)``, unsigned.
        shape: of n elements, at least two dimensions.
        bound_size: bytes of the greatest and the least of them.
    """
    greatest, least = int(symbols.max()), int(symbols.min())
    size = greatest - least + 1
    indices = (greatest - symbols.astype(np.int32)).astype(symbol_dtype(size))
    stream = ContextCoder().encode(indices.reshape(shape), size)
    bounds = [bound.to_bytes(bound_size, "little") for bound in (greatest, least)]
    return b"".join([*bounds, encode_varint(symbols.size // shape[0]), encode_varint(len(stream)), stream])


def decode_matrix(cursor: Cursor, count: int, bits: int) -> NDArray[np.uint16]:
    """Read ``count`` symbols of so many bits back; raises :class:`FormatError` if that is not possible."""
    bound_size = -(-bits // 8)
    greatest, least = (int.from_bytes(cursor.take(bound_size).tobytes(), "little") for _ in range(2))
    width = cursor.varint()
    if not least <= greatest < 1 << bits:
        raise FormatError(f"has symbols from {least} to {greatest} in {bits} bits")
    if not width or count % width:
        raise FormatError(f"has a plane of {count} bytes in rows of {width}")
    payload = cursor.take(cursor.varint())
    indices = ContextCoder().decode(payload, (count // width, width), greatest - least + 1)
    return np.uint16(greatest) - indices.reshape(-1).astype(np.uint16)


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
