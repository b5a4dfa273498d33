"""Small PNG images of one colour in sixteen strengths, on whatever lies below."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Strengths, from transparent to the full colour.
LEVELS = 16

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BIT_DEPTH, _PALETTE = 4, 3


def encode_png(levels: NDArray[np.uint8], colour: tuple[int, int, int]) -> bytes:
    """An image as a PNG file (ISO/IEC 15948) of four bits a pixel.

    Args:
        levels: 0 to 15 each, ``(height, width)``, neither of them 0.
        colour: red, green and blue, 0 to 255 each.
    """
    height, width = levels.shape
    even = np.zeros((height, width + width % 2), np.uint8)
    even[:, :width] = levels
    lines = np.zeros((height, 1 + even.shape[1] // 2), np.uint8)  # each begins with its filter, 0: none
    lines[:, 1:] = even[:, 0::2] << 4 | even[:, 1::2]
    alpha = bytes(round(255 * level / (LEVELS - 1)) for level in range(LEVELS))
    header = struct.pack(">IIBBBBB", width, height, _BIT_DEPTH, _PALETTE, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", bytes(colour) * LEVELS),
        (b"tRNS", alpha),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
