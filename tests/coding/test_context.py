"""The context coder: round trips, sizes against the entropy, and payloads that are wrong."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.coding import CODERS, context, entropy_bits, histogram
from featherweight.coding.context_tables import LEARNING, LOGARITHM, RATE, SQUASH, STRETCH
from featherweight.errors import FormatError, TensorError

CODER = CODERS["context"]

TABLES = ["1f5c3f8c3a036686", "94cc24326834ea42", "224da8aa0189ef7a", "54490b40caa35cf3", "f47ba6df3c970763"]
GOLDEN = {
    "matrix": "e684b3b1bd76bc0c",
    "convolution": "5ef17826c4dd763a",
    "vector": "1bc39b29fa1f5cf0",
    "digits": "a935f23c9f10df8a",
}


def as_array(payload):
    return np.frombuffer(payload, np.uint8)


def round_trip(indices, codebook_size):
    payload = CODER.encode(indices, codebook_size)
    decoded = CODER.decode(as_array(payload), indices.shape, codebook_size)
    assert decoded.dtype == (np.uint8 if codebook_size <= 256 else np.uint16)
    assert decoded.shape == indices.shape
    assert np.array_equal(decoded, indices)
    return payload


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).astype("<i4").tobytes()).hexdigest()[:16]


@st.composite
def index_arrays(draw):
    codebook_size = draw(st.sampled_from([1, 2, 3, 4, 8, 16, 31, 44, 255, 256, 257, 5000, 65536]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = tuple(draw(st.lists(st.integers(0, 9), max_size=5)))
    kind = draw(st.sampled_from(["low", "uniform", "middle"]))
    if kind == "low":
        indices = np.minimum(generator.geometric(draw(st.floats(0.001, 1)), shape) - 1, codebook_size - 1)
    elif kind == "uniform":
        indices = generator.integers(0, codebook_size, shape)
    else:
        indices = (codebook_size // 2 + 3 * generator.standard_normal(shape)).astype(int)
        indices = indices.clip(0, codebook_size - 1)
    indices = np.where(generator.random(shape) < draw(st.floats(0, 1)), indices, 0)
    return indices.astype(np.uint8 if codebook_size <= 256 else np.uint16), codebook_size


@settings(deadline=None, max_examples=300)
@given(case=index_arrays())
def test_round_trip(case):
    round_trip(*case)


@pytest.mark.parametrize(
    "shape", [(), (1,), (3000,), (1, 5000), (5000, 1), (40, 70_000), (70_000, 40), (2, 3, 1, 1)]
)
def test_odd_shapes(shape):
    generator = np.random.default_rng(5)
    indices = (generator.integers(1, 8, shape) * (generator.random(shape) < 0.03)).astype(np.uint8)
    assert len(round_trip(indices, 8)) < 12 + 0.05 * indices.size


@pytest.mark.parametrize("codebook_size", [2, 21, 22, 23, 45, 300, 65536])
@pytest.mark.parametrize("sign", [0, 1])
def test_the_farthest_levels_among_small_ones(codebook_size, sign):
    indices = np.zeros(4000, np.uint16)
    indices[::2] = (np.arange(2000) % 2 + max(1, codebook_size // 2)) % codebook_size
    indices[7], indices[9] = (1, codebook_size - 1)[:: 1 - 2 * sign]
    round_trip(indices, codebook_size)


def test_constant_arrays_take_two_bytes():
    assert len(round_trip(np.zeros((1000, 1000), np.uint8), 16)) == 2
    assert len(round_trip(np.full((3, 3), 7, np.uint8), 16)) == 2


@pytest.mark.parametrize("zero_at", [0, 5000, -1])
@pytest.mark.parametrize("size", [1 << 20, 3 << 20])
def test_sure_decisions_may_take_no_bytes(size, zero_at):
    indices = np.ones(size, np.uint8)
    indices[zero_at] = 0
    assert len(round_trip(indices, 2)) < 60


def test_no_elements_take_no_bytes():
    assert round_trip(np.zeros((0, 3), np.uint8), 0) == b""


def test_every_thread_count_gives_the_same_bytes(monkeypatch):
    generator = np.random.default_rng(3)
    indices = (generator.integers(1, 16, (300, 400)) * (generator.random((300, 400)) < 0.1)).astype(np.uint8)
    monkeypatch.setattr(context, "BLOCK_SIZE", 10_000)
    payloads = set()
    for threads in (1, 2, 5):
        monkeypatch.setenv("NUMBA_NUM_THREADS", str(threads))
        payloads.add(round_trip(indices, 16))
    assert len(payloads) == 1


@pytest.mark.parametrize("density", [0.002, 0.03, 0.09, 0.5])
def test_independent_levels_come_near_the_entropy(density):
    generator = np.random.default_rng(11)
    shape = (256, 2048)
    indices = (generator.integers(1, 16, shape) * (generator.random(shape) < density)).astype(np.uint8)
    entropy = entropy_bits(histogram(indices, 16)) / 8
    assert len(round_trip(indices, 16)) < 1.012 * entropy + 60


def test_rounded_gaussian_comes_near_the_entropy():
    levels = np.rint(3 * np.random.default_rng(2).standard_normal((512, 512))).astype(int)
    indices = np.where(levels == 0, 0, levels - levels.min() + (levels < 0)).astype(np.uint8)
    codebook_size = int(indices.max()) + 1
    entropy = entropy_bits(histogram(indices, codebook_size)) / 8
    assert len(round_trip(indices, codebook_size)) < 1.008 * entropy


def test_structure_is_found():
    generator = np.random.default_rng(4)
    columns, rows = generator.random(400) ** 4, generator.random(300) ** 2
    mask = generator.random((300, 400)) < columns * rows[:, None]
    indices = (generator.integers(1, 8, mask.shape) * mask).astype(np.uint8)
    probability = columns * rows[:, None]
    entropy = -np.where(mask, np.log2(probability), np.log2(1 - probability)).sum() / 8
    values = mask.sum() * math.log2(7) / 8
    plain = entropy_bits(histogram(indices, 8)) / 8
    size = len(round_trip(indices, 8))
    assert size < entropy + values + 0.25 * (plain - entropy - values)
    # A matrix with rows and columns exchanged has the same structure.
    assert len(round_trip(np.ascontiguousarray(indices.T), 8)) == pytest.approx(size, rel=0.02)


def test_levels_of_images_are_found_to_lie_below_one_another():
    generator = np.random.default_rng(6)
    mask = np.zeros((60, 20, 20), bool)
    for image in mask:
        y, x = generator.integers(0, 15, 2)
        image[y : y + 5, x : x + 5] = generator.random((5, 5)) < 0.8
    indices = mask.reshape(60, 400).astype(np.uint8)
    assert len(round_trip(indices, 2)) < 0.7 * entropy_bits(histogram(indices, 2)) / 8


def test_index_outside_the_codebook_is_refused_when_encoding():
    with pytest.raises(TensorError, match="index 4 is outside a codebook of 4 values"):
        CODER.encode(np.array([4], np.uint8), 4)


def sample():
    generator = np.random.default_rng(9)
    return (generator.integers(1, 9, (20, 30)) * (generator.random((20, 30)) < 0.3)).astype(np.uint8)


@settings(deadline=None, max_examples=500)
@given(data=st.data())
def test_damage_raises_or_decodes_to_other_indices(data):
    payload = bytearray(CODER.encode(sample(), 9))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(payload)))
    mutant = payload[:cut] if data.draw(st.booleans()) else payload
    try:
        decoded = CODER.decode(as_array(bytes(mutant)), (20, 30), 9)
    except FormatError:
        return
    assert decoded.shape == (20, 30)
    assert decoded.max() < 9


@settings(deadline=None, max_examples=300)
@given(
    payload=st.binary(max_size=60),
    shape=st.sampled_from([(7,), (4, 5), (3, 2, 3, 3), (100, 30)]),
    codebook_size=st.sampled_from([0, 1, 2, 9, 60, 256, 65536]),
    flags=st.sampled_from([None, 0, 2, 4, 6]),
)
def test_any_bytes_raise_or_decode(payload, shape, codebook_size, flags):
    if flags is not None:
        payload = bytes([flags, 1, 1, 1, 100]) + payload
    try:
        decoded = CODER.decode(as_array(payload), shape, codebook_size)
    except FormatError:
        return
    assert decoded.shape == shape
    assert decoded.max() < codebook_size


def decodes_to_another_array_if_at_all(payload, indices, codebook_size):
    try:
        decoded = CODER.decode(as_array(bytes(payload)), indices.shape, codebook_size)
    except FormatError:
        return True
    # What does decode is the one payload of what it decodes to, so it cannot be the array that was coded.
    return not np.array_equal(decoded, indices)


def test_the_end_is_exact():
    indices = sample()
    payload = CODER.encode(indices, 9)
    with pytest.raises(FormatError):
        CODER.decode(as_array(payload + b"\0"), indices.shape, 9)
    with pytest.raises(FormatError, match="goes on after its end"):
        CODER.decode(as_array(payload + b"0123456789abcdef"), indices.shape, 9)
    assert decodes_to_another_array_if_at_all(payload[:-1], indices, 9)
    for byte in set(range(256)) - {payload[-1]}:
        assert decodes_to_another_array_if_at_all(payload[:-1] + bytes([byte]), indices, 9)
        assert decodes_to_another_array_if_at_all(payload + bytes([byte]), indices, 9)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "ends too early"),
        (b"\x08\x04\x01\x01\x80", "flags 8.*upgrade"),
        (b"\x01\x09", "index 9 of a codebook of 9"),
        (b"\x01\x00\x00", "goes on after its end"),
        (b"\x00\x09\x01\x01\x80", "9 negative levels in a codebook of 9"),
        (b"\x00\x04\x00\x00\x80", "lags 0 and 0"),
        (b"\x00\x04\x1f\x01\x80", "lags 31 and 1 in rows of 30"),
        (b"\x00\x04\x01\x02\x80", "lags 1 and 2"),
        (b"\x00\x04\x01\x01\x00", "begins with a probability of 0"),
    ],
)
def test_bad_payloads(payload, reason):
    with pytest.raises(FormatError, match=reason):
        CODER.decode(as_array(payload), (20, 30), 9)


def test_a_few_bytes_are_not_expanded_without_limit():
    with pytest.raises(FormatError, match="too short"):
        CODER.decode(as_array(b"\x00\x04\x01\x01\x80"), (1 << 20, 1 << 20), 9)


def test_block_sizes_are_checked(monkeypatch):
    monkeypatch.setattr(context, "BLOCK_SIZE", 300)
    indices = sample()
    payload = CODER.encode(indices, 9)
    assert np.array_equal(CODER.decode(as_array(payload), indices.shape, 9), indices)
    for change in (-1, 1, 100):
        wrong = bytearray(payload)
        wrong[5] += change
        assert decodes_to_another_array_if_at_all(wrong, indices, 9)


def test_describe_counts_all_bits():
    indices = sample()
    payload = as_array(CODER.encode(indices, 9))
    sizes = CODER.describe(payload, indices.shape, 9)
    assert (sizes.layout, sizes.stored, sizes.code_bits_fixed) == ("dense", 600, 4)
    assert sizes.nonzero == np.count_nonzero(indices)
    assert sizes.code_bits_mean * 600 == pytest.approx(8 * payload.size)


def test_tables_are_those_of_the_format():
    assert [digest(table) for table in (SQUASH, STRETCH, LOGARITHM, RATE, LEARNING)] == TABLES
    logits = (np.arange(SQUASH.size) - SQUASH.size // 2) / 128
    assert np.allclose(SQUASH, (65536 / (1 + np.exp(-logits))).clip(12, 65524), atol=0.5001)


def test_payloads_are_those_of_the_format():
    assert {name: hashlib.sha256(payload).hexdigest()[:16] for name, payload in golden()} == GOLDEN


def golden():
    # A generator of our own: NumPy's streams may change.
    state, numbers = 1, []
    for _ in range(6000):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        numbers.append(state >> 40)
    numbers = np.array(numbers)
    sparse = np.where(numbers % 10 == 0, numbers // 16 % 7 + 1, 0).astype(np.uint8)
    yield "matrix", CODER.encode(sparse.reshape(60, 100), 8)
    yield "convolution", CODER.encode(sparse[:4500].reshape(10, 50, 3, 3), 8)
    yield "vector", CODER.encode((numbers % 41 * (numbers // 64 % 41) // 40).astype(np.uint8), 41)
    yield "digits", CODER.encode((numbers % 60_000).astype(np.uint16).reshape(60, 100), 60_000)
