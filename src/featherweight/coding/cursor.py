"""A bounds-checked reading position in a payload, and the LEB128 integers that it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featherweight.errors import FormatError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: A varint holds at most 63 bits, so that every value also fits a signed 64-bit integer.
MAX_VARINT_BYTES = 9


def encode_varint(value: int) -> bytes:
    """Code a non-negative integer below 2⁶³ as minimal LEB128: 7 bits a byte, least significant first.

    Raises:
        ValueError: if ``value`` is negative or needs more than 63 bits.
    """
    if not 0 <= value < 1 << (7 * MAX_VARINT_BYTES):
        raise ValueError(f"a varint holds 0 to 2^63 - 1, got {value}")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Cursor:
    """Reads a payload from front to back and never beyond its end.

    Every method raises :class:`FormatError` where the payload ends too early or holds something invalid.

    Args:
        data: the payload, 1-D.
        position: index of the first byte to read.
    """

    def __init__(self, data: NDArray[np.uint8], position: int = 0) -> None:
        self._data = data
        self.position = position

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return self._data.size - self.position

    def rest(self) -> NDArray[np.uint8]:
        """All bytes not read yet, without reading them."""
        return self._data[self.position :]

    def take(self, count: int) -> NDArray[np.uint8]:
        """Read the next ``count`` bytes, as a view."""
        if count > self.remaining:
            raise FormatError(f"ends too early, {count - self.remaining} more bytes are needed")
        start = self.position
        self.position += count
        return self._data[start : self.position]

    def byte(self) -> int:
        """Read one byte."""
        return int(self.take(1)[0])

    def uint32(self) -> int:
        """Read four bytes as a little-endian unsigned integer."""
        return int.from_bytes(self.take(4).tobytes(), "little")

    def varint(self) -> int:
        """Read one LEB128 integer, refusing a form that is longer than it needs to be."""
        value = 0
        for i in range(MAX_VARINT_BYTES):
            byte = self.byte()
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                if byte == 0 and i > 0:
                    raise FormatError("holds an integer that is not in its shortest form")
                return value
        raise FormatError("holds an integer of more than 63 bits")

    def finish(self) -> None:
        """Check that nothing is left."""
        if self.remaining:
            raise FormatError(f"goes on after its end, {self.remaining} bytes are left")
