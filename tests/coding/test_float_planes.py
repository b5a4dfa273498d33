"""Byte planes: every bit comes back, and floats shrink as much as they can."""

import numpy as np
import pytest
from both_ways import only
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.coding import RAW_CODERS, encode_raw, entropy_bits, histogram
from featherweight.coding.exponents import LEAST, MOST, _likely_widths, encode_matrix, likely_shape
from featherweight.errors import FormatError

PLANES = RAW_CODERS["planes"]


def as_bytes(array):
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def round_trip(data, item_size):
    payload = PLANES.encode(data, item_size)
    if payload is None:
        return data.tobytes()
    decoded = PLANES.decode(np.frombuffer(payload, np.uint8), data.size // item_size, item_size)
    assert decoded.tobytes() == data.tobytes()
    return payload


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    numel=st.integers(0, 500),
    item_size=st.sampled_from([1, 2, 4, 8, 16]),
    values=st.integers(1, 256),
    compiled=st.booleans(),
)
def test_round_trip(seed, numel, item_size, values, compiled):
    data = np.random.default_rng(seed).integers(0, values, numel * item_size).astype(np.uint8)
    with only(compiled):
        assert len(round_trip(data, item_size)) <= data.size + 16


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_kind_of_float(dtype):
    """All sign and exponent bits, NaNs with payloads, subnormals and -0.0 among them."""
    width = 8 * np.dtype(dtype).itemsize
    high = np.arange(1 << 16, dtype=np.uint64) << np.uint64(width - 16)
    bits = np.concatenate([high, high | np.uint64(1)])
    data = as_bytes(bits.astype(f"u{width // 8}"))
    round_trip(data, width // 8)
    repeated = np.concatenate([data, np.zeros(100_000 * width // 8, np.uint8)])
    assert len(round_trip(repeated, width // 8)) < repeated.size


def bfloat16(array):
    return (array.astype(np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16)


@pytest.mark.parametrize(
    ("convert", "saved"), [(bfloat16, 0.335), (np.float32, 0.168), (np.float16, 0.155), (np.float64, 0.04)]
)
def test_gaussian_weights_shrink(convert, saved):
    weights = convert(np.random.default_rng(0).normal(scale=0.02, size=200_000))
    payload = round_trip(as_bytes(weights), weights.itemsize)
    assert len(payload) < (1 - saved) * weights.nbytes
    assert encode_raw(as_bytes(weights), weights.itemsize)[0].name == "planes"


def test_a_thread_more_or_less_changes_nothing(monkeypatch):
    weights = as_bytes(np.random.default_rng(0).normal(size=200_000).astype(np.float32))
    payloads = set()
    for threads in "1", "3":
        monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
        payloads.add(round_trip(weights, 4))
    assert len(payloads) == 1


def test_noise_is_left_to_plain():
    noise = np.random.default_rng(0).integers(0, 256, 40_000).astype(np.uint8)
    assert PLANES.encode(noise, 4) is None
    assert encode_raw(noise, 4)[0].name == "plain"


def layer(rows, columns, dtype):
    """A layer whose rows and columns have scales of their own, from 2^-6 to 2^6."""
    generator = np.random.default_rng(0)
    scales = [np.exp2(generator.uniform(-6, 6, size)) for size in ((rows, 1), (1, columns))]
    return (generator.normal(size=(rows, columns)) * scales[0] * scales[1]).astype(dtype)


@pytest.mark.parametrize(("rows", "columns"), [(48, 64), (20, 99)])
def test_scales_of_rows_and_columns_are_found(rows, columns):
    weights = layer(rows, columns, np.float32)
    words = weights.view(np.uint32).reshape(-1)
    exponents = (words >> 23).astype(np.uint8)
    assert columns in _likely_widths(exponents)
    payload = round_trip(as_bytes(weights), 4)
    assert payload[0] in (2, 3)
    counts = histogram(exponents, 256)
    static = weights.size * 3 + entropy_bits(counts) / 8
    assert len(payload) < 0.995 * static


def test_exponents_of_every_size_and_sort_come_back():
    generator = np.random.default_rng(0)
    for count in (LEAST, 1031, 2048, MOST, MOST + 1):
        weights = np.repeat(generator.normal(size=-(-count // 64)), 64)[:count] * generator.normal(size=count)
        weights = weights.astype(np.float32)
        weights[:6] = 0, -0.0, np.inf, -np.inf, np.nan, 1e-45
        payload = round_trip(as_bytes(weights), 4)
        assert count <= MOST or payload[0] == 1


@pytest.mark.parametrize("itemsize", [2, 4, 8])
def test_bits_of_mantissas_are_taken_along(itemsize):
    """Within an exponent, weights of a bell are rather small."""
    weights = layer(64, 64, np.float64).astype(f"f{itemsize}")
    if itemsize == 2:
        weights = bfloat16(weights)
    payload = round_trip(as_bytes(weights), itemsize)
    assert payload[0] == 3
    assert 1 <= payload[1] <= 3
    exponents_alone = [b"\2" + encode_matrix(plane, likely_shape(plane), 1) for plane in first_plane(weights)]
    assert len(payload) < len(exponents_alone[0]) + weights.size * (itemsize - 1) + itemsize


def first_plane(weights):
    words = weights.view(f"u{weights.itemsize}").reshape(-1)
    return [(words >> (8 * weights.itemsize - 9)).astype(np.uint8)]


def test_a_kernel_is_found_in_a_width():
    generator = np.random.default_rng(0)
    scale = np.exp2(generator.uniform(-6, 6, (40, 16, 1, 1))) * np.exp2(
        generator.uniform(-2, 2, (1, 1, 3, 3))
    )
    weights = (generator.normal(size=(40, 16, 3, 3)) * scale).astype(np.float32)
    (plane,) = first_plane(weights)
    assert likely_shape(plane) == (640, 1, 3, 3)  # a row for each kernel, since each has a scale of its own
    assert round_trip(as_bytes(weights), 4)[0] in (2, 3)


# A plane of 6 bytes: kind, greatest, least, width, size, constant index 1.
MATRIX = b"\2\x80\x7f\3\2\1\1"


def test_a_matrix_with_bits_of_mantissas():
    # Kind, two bits, greatest and least symbol, width, size, constant index 0; six times six bits.
    head = b"\3\2\x01\x02\x00\x02\3\2\1\0"
    low = [0b111111, 0, 1, 0b100000, 0b101010, 7]
    packed = sum(bits << 6 * i for i, bits in enumerate(low)).to_bytes(5, "little")
    words = PLANES.decode(np.frombuffer(head + packed, np.uint8), 6, 2).view("<u2")
    rotated = [0x201 << 6 | bits for bits in low]
    assert words.tolist() == [word >> 1 | (word & 1) << 15 for word in rotated]


def test_a_matrix_of_exponents():
    payload = np.frombuffer(MATRIX + b"\0abcdef", np.uint8)
    planes = PLANES.decode(payload, 6, 2).view("<u2")
    assert planes.tolist() == [(0x7F << 8 | low) >> 1 | (low & 1) << 15 for low in b"abcdef"]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\2\x7f\x80\3\2\1\1", "symbols from 128 to 127 in 8 bits"),
        (b"\2\x80\x7f\0\2\1\1", "rows of 0"),
        (b"\2\x80\x7f\4\2\1\1", "rows of 4"),
        (b"\2\x80\x7f\3\2\1\2", "index 2"),
        (b"\2\x80\x7f\3\3\1\1\0", "1 bytes are left"),
        (b"\2\x80\x7f\3\x7f\1\1", "too early"),
    ],
)
def test_bad_matrices(payload, reason):
    with pytest.raises(FormatError, match=reason):
        PLANES.decode(np.frombuffer(payload + b"\0abcdef", np.uint8), 6, 2)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "ends too early"),
        (b"\0abc", "ends too early"),
        (b"\0abc\0de", "ends too early"),
        (b"\0abc\0def\0", "1 bytes are left"),
        (b"\0abc\x03def", "kind 3.*upgrade"),
        (b"\4abc", "kind 4.*upgrade"),
        (b"\0abc\1\7\0def", "3 bytes are left"),
    ],
)
def test_bad_payloads(payload, reason):
    with pytest.raises(FormatError, match=reason):
        PLANES.decode(np.frombuffer(payload, np.uint8), 3, 2)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_damaged_payloads_raise_or_decode(data):
    weights = as_bytes(np.random.default_rng(0).normal(size=120).astype(np.float32))
    payload = bytearray(PLANES.encode(weights, 4))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    payload = payload[: data.draw(st.integers(0, len(payload)))] if data.draw(st.booleans()) else payload
    try:
        decoded = PLANES.decode(np.frombuffer(bytes(payload), np.uint8), 120, 4)
    except FormatError:
        return
    assert decoded.size == 480
