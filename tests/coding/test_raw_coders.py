import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.coding import RAW_CODERS, encode_raw, raw_coder_by_id
from featherweight.errors import FormatError


def as_bytes(array):
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def as_bits(weights):
    return weights.view(np.uint32)


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 2**32),
    numel=st.integers(0, 400),
    item_size=st.sampled_from([1, 2, 4, 8, 16]),
    density=st.floats(0, 1),
)
def test_round_trip_takes_the_smaller(seed, numel, item_size, density):
    generator = np.random.default_rng(seed)
    items = generator.integers(0, 3, (numel, item_size), np.uint8)
    items[generator.random(numel) >= density] = 0
    coder, payload = encode_raw(items.reshape(-1), item_size)
    assert len(payload) <= items.size
    decoded = coder.decode(np.frombuffer(payload, np.uint8), numel, item_size)
    assert np.array_equal(decoded, items.reshape(-1))


def test_pruned_floats_shrink_and_keep_every_bit():
    generator = np.random.default_rng(0)
    weights = np.where(generator.random(50_000) < 0.1, generator.normal(size=50_000), 0).astype(np.float32)
    weights[:3] = -0.0, np.nan, np.float32(1e-45)
    coder, payload = encode_raw(as_bytes(weights), 4)
    assert coder.name == "sparse"
    # The positions' entropy is 0.47 bits an element.
    assert len(payload) < 4 * np.count_nonzero(as_bits(weights)) + 50_000 * 0.49 / 8
    decoded = coder.decode(np.frombuffer(payload, np.uint8), 50_000, 4)
    assert np.array_equal(decoded, as_bytes(weights))


def test_a_few_dense_floats_stay_plain():
    coder, payload = encode_raw(as_bytes(np.pi ** np.arange(1, 9, dtype=np.float32)), 4)
    assert coder.name == "plain"
    assert len(payload) == 32


def decode(name, payload, numel, item_size=4):
    return RAW_CODERS[name].decode(np.frombuffer(payload, np.uint8), numel, item_size)


@pytest.mark.parametrize(
    ("name", "payload", "reason"),
    [
        ("plain", bytes(11), "has 11 bytes of elements, expected 12"),
        ("plain", bytes(13), "has 13 bytes"),
        ("sparse", b"", "ends too early"),
        ("sparse", b"\x09\x00", "ends too early"),
        ("sparse", b"\x03\x00\x01\x00" + b"\1" * 11, "ends too early"),
        ("sparse", b"\x03\x00\x01\x00" + b"\1" * 13, "1 bytes are left"),
        ("sparse", b"\x03\x00\x01\x00" + b"\1" * 8 + bytes(4), "stores a zero"),
        ("sparse", b"\x03\x00\x02\x00" + b"\1" * 12, "alphabet of 2"),
    ],
)
def test_bad_payloads(name, payload, reason):
    with pytest.raises(FormatError, match=reason):
        decode(name, payload, 3)


def test_unknown_id():
    assert raw_coder_by_id(0).name == "plain"
    with pytest.raises(FormatError, match="upgrade"):
        raw_coder_by_id(4)
