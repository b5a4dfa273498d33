"""How a codebook is stored: in whichever way takes the fewest bytes and gives back every bit.

- *plain*: the values, in the narrowest type that holds them;
- *sorted*: an ascending codebook, or one that ascends behind a zero, as places on a grid, of floats with some
  low bits left out, or of the multiples of a step (:mod:`featherweight.coding.sorted_values`);
- *even*: a first value and the step from each to the next.

Indices are never renumbered: a codebook in another order is stored plain.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from featherweight.coding import Cursor, encode_varint
from featherweight.coding.range_coder import RangeDecoder, RangeEncoder
from featherweight.coding.sorted_values import MAX_COUNT, Floats, Integers, SortedValues
from featherweight.coding.steps import even_step, find_step, likely_firsts, power_of_two
from featherweight.errors import FormatError, TensorError
from featherweight.tensors import ITEM_SIZES, MAX_CODEBOOK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

#: Types that a codebook may be stored in plainly, by the type that the tensor decodes to, the smallest first;
#: and their numbers.
_PLAIN = {
    "float64": ("float16", "float32", "float64"),
    "float32": ("float16", "bfloat16", "float32"),
    "float16": ("float16",),
    "bfloat16": ("bfloat16",),
}
_PLAIN_NUMBERS = {"float64": 0, "float32": 1, "float16": 2, "bfloat16": 3}

#: Storages from here on are ascending; a flag says that they do so behind a zero.
_ASCENDING, _ZERO_FIRST = 0x80, 0x40

#: What the low bits of such a storage say: up to 52 how many low bits of a mantissa are left out; above,
#: which multiples of a step are meant, a power of two or one stored as a float or a double; or that values
#: are even, and whether their first one (+2) and their step (+1) is stored as a double.
_POWER_STEP, _FLOAT_STEP, _DOUBLE_STEP, _EVEN = 56, 57, 58, 60
_EVEN_DOUBLE_STEP, _EVEN_DOUBLE_FIRST = 1, 2

#: An ascending codebook of at most this size is read quickly.
_QUICK_COUNT = 32

#: Bits of mantissa and exponent of the type that NumPy carries values in.
_FLOAT_BITS = {"float64": (52, 11), "float32": (23, 8), "float16": (10, 5)}

#: A step that is a power of two is stored as its exponent plus this.
_POWER_BIAS = 192


def encode_codebook(codebook: NDArray[Any], dtype: str, *, fast: bool = False) -> bytes:
    """Store a codebook of a tensor of ``dtype`` in the fewest bytes.

    Args:
        codebook: in NumPy's type for ``dtype``.
        dtype: what the tensor decodes to.
        fast: leave out ways that take milliseconds to read.

    Raises:
        TensorError: if ``dtype`` does not hold all of its values.
    """
    best = _encode_plain(codebook, dtype)
    for storage, body in () if fast and codebook.size > _QUICK_COUNT else _ascending(codebook):
        if 1 + len(body) < len(best):
            best = bytes([storage]) + body
    return encode_varint(codebook.size) + best


def decode_codebook(cursor: Cursor, dtype: str) -> NDArray[Any]:
    """Read the codebook of a tensor of ``dtype``, and check nothing of what its values are.

    Returns:
        Values in NumPy's type for ``dtype``, ``(size,)``.

    Raises:
        FormatError: if there is anything else.
    """
    size = cursor.varint()
    if size > MAX_CODEBOOK_SIZE:
        raise FormatError(f"has a codebook of {size} values; at most {MAX_CODEBOOK_SIZE} are allowed")
    storage = cursor.byte()
    if storage < _ASCENDING:
        return _decode_plain(cursor, size, storage, dtype)
    zeros = int(storage & _ZERO_FIRST != 0)
    if zeros > size:
        raise FormatError("has a codebook without values that begins with a zero")
    values = _decode_ascending(cursor, size - zeros, storage, dtype)
    return np.concatenate([np.zeros(zeros, values.dtype), values])


def carrier(dtype: str) -> np.dtype[Any]:
    """NumPy's type for the values of a dtype; bfloat16, which it lacks, is carried by float32."""
    return np.dtype("float32" if dtype == "bfloat16" else dtype)


# -- plain -----------------------------------------------------------------------------------------


def _encode_plain(codebook: NDArray[Any], dtype: str) -> bytes:
    for storage in _PLAIN[dtype]:
        stored = _narrow(codebook, storage)
        widened = _widen(np.frombuffer(stored, np.uint8), storage, codebook.dtype)
        if widened.tobytes() == codebook.tobytes():
            return bytes([_PLAIN_NUMBERS[storage]]) + stored
    raise TensorError(f"has a codebook that cannot be stored as {dtype}")


def _decode_plain(cursor: Cursor, size: int, storage: int, dtype: str) -> NDArray[Any]:
    names = {_PLAIN_NUMBERS[name]: name for name in _PLAIN_NUMBERS}
    if storage not in names:
        _refuse_unknown(storage)
    if names[storage] not in _PLAIN[dtype]:
        raise FormatError(f"has a codebook stored as {names[storage]} for elements of {dtype}")
    return _widen(cursor.take(size * ITEM_SIZES[names[storage]]), names[storage], carrier(dtype))


def _refuse_unknown(storage: int) -> NoReturn:
    raise FormatError(
        f"has a codebook stored in way {storage}, which this version does not know; "
        "upgrade Featherweight to read it"
    )


def _narrow(codebook: NDArray[Any], storage: str) -> bytes:
    if storage == "bfloat16":
        high = np.ascontiguousarray(codebook).view(np.uint32) >> np.uint32(16)
        return high.astype("<u2").tobytes()
    with np.errstate(over="ignore", under="ignore"):  # the caller compares bits, and so sees what is lost
        return codebook.astype(np.dtype(storage).newbyteorder("<")).tobytes()


def _widen(stored: NDArray[np.uint8], storage: str, wide: np.dtype[Any]) -> NDArray[Any]:
    data = stored.tobytes()
    if storage == "bfloat16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    with np.errstate(invalid="ignore"):  # a signalling NaN, which the caller refuses in its own words
        return np.frombuffer(data, np.dtype(storage).newbyteorder("<")).astype(wide)


# -- ascending -------------------------------------------------------------------------------------


def _ascending(codebook: NDArray[Any]) -> Iterator[tuple[int, bytes]]:
    """All ways to store a codebook that ascends; none if it does not."""
    if not 1 <= codebook.size <= MAX_COUNT:
        return
    zero_first = not codebook[:1].tobytes().strip(b"\0")
    values = codebook[int(zero_first) :]
    finite = bool(np.isfinite(values).all())
    if not finite or (values[1:] <= values[:-1]).any() or (np.signbit(values) & (values == 0)).any():
        return
    start = _ASCENDING | _ZERO_FIRST * zero_first
    if zero_first and (values == 0).any():
        return
    dropped, floats = _encode_floats(values, zero_first)
    yield start | dropped, floats
    for low_bits, body in _encode_steps(values, zero_first):
        decoded = _decode_ascending(
            Cursor(np.frombuffer(body, np.uint8)), values.size, start | low_bits, values.dtype.name
        )
        if decoded.tobytes() == values.tobytes():
            yield start | low_bits, body


def _encode_places(places: list[int], grid: Floats | Integers) -> bytes:
    coder = RangeEncoder()
    SortedValues(coder, grid).code(len(places), places)
    data = coder.finish()
    return encode_varint(len(data)) + data


def _encode_floats(values: NDArray[Any], without_zero: bool) -> tuple[int, bytes]:
    """Bits that are left out of every mantissa, and the values."""
    mantissa, exponent = _FLOAT_BITS[values.dtype.name]
    bits = _bits(values)
    together = 0
    for number in bits:
        together |= number
    dropped = min((together & -together).bit_length() - 1, mantissa) if together else mantissa
    grid = Floats(mantissa, exponent, dropped, without_zero)
    return dropped, _encode_places([grid.place_of(number) for number in bits], grid)


def _bits(values: NDArray[Any]) -> list[int]:
    numbers: list[int] = np.ascontiguousarray(values).view(f"u{values.itemsize}").tolist()
    return numbers


def _encode_steps(values: NDArray[Any], without_zero: bool) -> Iterator[tuple[int, bytes]]:
    """Ways that may turn out not to be exact."""
    grid = Integers(without_zero)
    if (exponent := power_of_two(values)) is not None:
        multiples = [int(math.ldexp(value, -exponent)) for value in values.tolist()]
        places = [grid.place(number) for number in multiples]
        yield _POWER_STEP, bytes([exponent + _POWER_BIAS]) + _encode_places(places, grid)
    if values.size < 2:
        return
    if (found := find_step(values)) is not None:
        multiples, step = found
        places = [grid.place(number) for number in multiples]
        if all(a < b for a, b in pairwise(places)):
            for stored in _encode_number(*step):
                way = _FLOAT_STEP if len(stored) == 4 else _DOUBLE_STEP
                yield way, stored + _encode_places(places, grid)
    for first in likely_firsts(values):
        low, high = even_step(values, first)
        if low <= high and math.isfinite(high - low):
            first_bytes = _encode_number(first, first)[0]
            way = _EVEN + _EVEN_DOUBLE_FIRST * (len(first_bytes) == 8)
            for step_bytes in _encode_number(low, high):
                yield way + _EVEN_DOUBLE_STEP * (len(step_bytes) == 8), first_bytes + step_bytes


def _encode_number(low: float, high: float) -> list[bytes]:
    """A float between two bounds, if there is one, and a double."""
    middle = low + (high - low) / 2
    with np.errstate(over="ignore", under="ignore"):
        single = np.array(middle, "<f4")
    double = np.array(middle, "<f8").tobytes()
    return [single.tobytes(), double] if low <= float(single) <= high else [double]


def _decode_ascending(cursor: Cursor, count: int, storage: int, dtype: str) -> NDArray[Any]:
    """So many ascending values; those behind a zero if the storage says so."""
    way, without_zero = storage & 0x3F, bool(storage & _ZERO_FIRST)
    wide = carrier(dtype)
    mantissa, exponent = _FLOAT_BITS[wide.name]
    if way <= mantissa:
        floats = Floats(mantissa, exponent, way, without_zero)
        bits = [floats.bits(place) for place in _decode_places(cursor, count, floats)]
        return np.array(bits, f"u{wide.itemsize}").view(wide)
    if way >= _EVEN:
        first = _decode_number(cursor, double=bool(way & _EVEN_DOUBLE_FIRST))
        step = _decode_number(cursor, double=bool(way & _EVEN_DOUBLE_STEP))
        return _rounded([first + i * step for i in range(count)], wide)
    if way == _POWER_STEP:
        step = math.ldexp(1.0, cursor.byte() - _POWER_BIAS)
    elif way in (_FLOAT_STEP, _DOUBLE_STEP):
        step = _decode_number(cursor, double=way == _DOUBLE_STEP)
    else:
        _refuse_unknown(storage)
    grid = Integers(without_zero)
    return _rounded([grid.value(place) * step for place in _decode_places(cursor, count, grid)], wide)


def _decode_places(cursor: Cursor, count: int, grid: Floats | Integers) -> list[int]:
    coder = RangeDecoder(cursor.take(cursor.varint()).tobytes())
    places = SortedValues(coder, grid).code(count)
    coder.finish()
    return places


def _decode_number(cursor: Cursor, *, double: bool) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.frombuffer(cursor.take(8 if double else 4).tobytes(), "<f8" if double else "<f4")[0])


def _rounded(values: list[float], wide: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(
        over="ignore", under="ignore", invalid="ignore"
    ):  # the caller refuses what is not finite
        return np.array(values, np.float64).astype(wide)
