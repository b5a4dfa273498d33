"""Round trips, sizes and refusals of the coders of index arrays."""

import math
from dataclasses import replace

import numpy as np
import pytest
from both_ways import BOTH, only
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.coding import (
    AUTO,
    CODERS,
    UnknownCoderError,
    coder_by_id,
    coder_by_name,
    encode_indices,
    entropy_bits,
    histogram,
    layout,
)
from featherweight.coding.cursor import encode_varint
from featherweight.coding.gaps import measure_gaps
from featherweight.coding.huffman import CanonicalCode
from featherweight.errors import FeatherweightError, FormatError, TensorError


def as_array(payload):
    return np.frombuffer(payload, np.uint8)


def round_trip(name, indices, codebook_size):
    payload = CODERS[name].encode(indices, codebook_size)
    decoded = CODERS[name].decode(as_array(payload), indices.shape, codebook_size)
    assert decoded.dtype == (np.uint8 if codebook_size <= 256 else np.uint16)
    assert decoded.shape == indices.shape
    assert np.array_equal(decoded, indices)
    return payload


@st.composite
def index_arrays(draw):
    codebook_size = draw(st.sampled_from([1, 2, 3, 16, 17, 255, 256, 257, 5000, 65536]))
    seed = draw(st.integers(0, 2**32))
    generator = np.random.default_rng(seed)
    shape = tuple(draw(st.lists(st.integers(0, 12), max_size=3)))
    indices = np.minimum(generator.geometric(draw(st.floats(0.001, 1)), shape) - 1, codebook_size - 1)
    indices = np.where(generator.random(shape) < draw(st.floats(0, 1)), indices, 0)
    return indices.astype(np.uint8 if codebook_size <= 256 else np.uint16), codebook_size


@pytest.mark.parametrize("name", CODERS)
@settings(deadline=None, max_examples=150)
@given(case=index_arrays())
def test_round_trip(name, case):
    round_trip(name, *case)


@pytest.mark.parametrize("name", CODERS)
@settings(deadline=None, max_examples=60)
@given(case=index_arrays())
def test_plain_python_and_numba_are_the_same(name, case):
    payloads = set()
    for compiled in BOTH:
        with only(compiled):
            payloads.add(round_trip(name, *case))
    assert len(payloads) == 1


@pytest.mark.parametrize("name", CODERS)
@pytest.mark.parametrize("count", [65535, 65536, 65537, 65538, 65539, 200_001])
def test_round_trip_of_one_and_of_four_bit_streams(name, count):
    generator = np.random.default_rng(count)
    dense = np.minimum(generator.geometric(0.2, count), 30).astype(np.uint8)
    round_trip(name, dense, 31)
    round_trip(name, (dense * (generator.random(count) < 0.8)).astype(np.uint16), 300)


@pytest.mark.parametrize("name", CODERS)
def test_every_index_of_the_largest_codebook(name):
    indices = np.random.default_rng(0).permutation(np.repeat(np.arange(65536), 2)).astype(np.uint16)
    assert len(round_trip(name, indices, 65536)) < 2 * indices.size + 16_500


@pytest.mark.parametrize("name", CODERS)
@pytest.mark.parametrize("value", [0, 1, 200])
def test_constant_arrays_are_tiny_in_huffman(name, value):
    payload = round_trip(name, np.full((300, 300), value, np.uint8), 256)
    assert len(payload) <= (1 + 90_000 if name == "fixed" else 4)


@pytest.mark.parametrize("name", CODERS)
def test_wide_input_of_a_small_codebook_and_strided_input(name):
    indices = np.arange(200, dtype=np.uint16).reshape(10, 20)[:, ::3]
    round_trip(name, indices, 200)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.floats(0.05, 0.9), st.integers(2, 200))
def test_huffman_is_within_a_bit_of_the_entropy(seed, p, codebook_size):
    generator = np.random.default_rng(seed)
    indices = np.minimum(generator.geometric(p, 3000), codebook_size - 1).astype(np.uint8)
    payload = round_trip("huffman", indices, codebook_size)
    sizes = CODERS["huffman"].describe(as_array(payload), indices.shape, codebook_size)
    entropy = entropy_bits(histogram(indices, codebook_size)) / indices.size
    assert entropy - 1e-9 <= sizes.code_bits_mean < entropy + 1


def test_layout_is_the_smallest():
    generator = np.random.default_rng(1)
    for density in (0.001, 0.02, 0.1, 0.3, 0.6, 1.0):
        indices = np.where(generator.random(20_000) < density, generator.integers(1, 16, 20_000), 0)
        payload = CODERS["fixed"].encode(indices.astype(np.uint8), 16)
        dense_bits = 4 * indices.size
        sparse_bits = [len(slow_entries(indices, r)) * (4 + r) for r in range(1, 13)]
        assert abs(len(payload) - min(dense_bits, *sparse_bits) / 8) < 6


def slow_entries(indices, gap_bits):
    gaps = np.diff(np.flatnonzero(indices), prepend=-1) - 1
    return [0] * int((gaps // 2**gap_bits + 1).sum())


def test_rans_takes_the_slower_layout_only_where_that_saves():
    generator = np.random.default_rng(0)
    rare = generator.integers(1, 3, 1 << 18).astype(np.uint8)
    rare[1000] = 0
    sparse = replace(CODERS["rans"], sparse_slack=0.0).encode(rare, 3)
    dense = round_trip("rans", rare, 3)
    assert (sparse[0], dense[0]) == (1, 0)
    assert len(dense) < 1.001 * len(sparse)
    runs = np.repeat(generator.integers(0, 2, 1 << 12), 64).astype(np.uint8) * rare
    assert np.count_nonzero(runs) > runs.size // 4
    assert round_trip("rans", runs, 3)[0] > 0


@pytest.mark.parametrize("fill", [0, 1])
def test_rans_finds_the_layout_of_a_large_array_in_a_sample(fill, monkeypatch):
    generator = np.random.default_rng(0)
    values = generator.integers(1, 16, 1 << 18).astype(np.uint8)
    kept = np.repeat(generator.random(1 << 12) < 0.6, 64) if fill else generator.random(1 << 18) < 0.6
    indices = values * kept
    whole = round_trip("rans", indices, 16)
    monkeypatch.setattr(layout, "_SAMPLED_FROM", 1 << 18)
    measured = []
    monkeypatch.setattr(layout, "measure_gaps", lambda flat: measured.append(flat.size) or measure_gaps(flat))
    assert round_trip("rans", indices, 16) == whole
    assert measured == [1 << 14, 1 << 18][: 1 + (whole[0] > 0)]
    assert (whole[0] > 0) == bool(fill)


def test_describe_counts_fillers():
    indices = np.zeros(4000, np.uint8)
    indices[[0, 3999]] = 1, 2
    coder = CODERS["fixed"]
    sizes = coder.describe(as_array(coder.encode(indices, 3)), (4000,), 3)
    assert (sizes.layout, sizes.nonzero, sizes.code_bits_fixed) == ("sparse", 2, 2)
    assert sizes.stored == 2 + 3998 // 2**sizes.gap_bits_fixed
    assert (sizes.code_bits_mean, sizes.gap_bits_mean) == (2, sizes.gap_bits_fixed)


@pytest.mark.parametrize("name", CODERS)
def test_index_outside_the_codebook_is_refused_when_encoding(name):
    with pytest.raises(TensorError, match="index 4 is outside a codebook of 4 values"):
        CODERS[name].encode(np.array([4], np.uint8), 4)


def test_registry():
    assert coder_by_name("fixed").id == 16
    assert coder_by_id(17).name == "huffman"
    with pytest.raises(
        UnknownCoderError, match="unknown coder 'zip'; known: fixed, huffman, rans, context, auto"
    ):
        coder_by_name("zip")
    assert issubclass(UnknownCoderError, FeatherweightError)
    with pytest.raises(FormatError, match="upgrade"):
        coder_by_id(99)


@settings(deadline=None, max_examples=30)
@given(case=index_arrays())
def test_auto_is_the_smallest(case):
    coder, payload = encode_indices(*case, AUTO)
    assert len(payload) == min(len(each.encode(*case)) for each in CODERS.values())
    assert np.array_equal(coder.decode(as_array(payload), case[0].shape, case[1]), case[0])
    assert encode_indices(*case, "fixed")[0].name == "fixed"


def test_auto_is_no_coder():
    with pytest.raises(UnknownCoderError, match="encode_indices"):
        coder_by_name(AUTO)


def payload_of(*parts):
    return b"".join(bytes([p]) if isinstance(p, int) else p for p in parts)


@pytest.mark.parametrize(
    ("name", "payload", "reason"),
    [
        ("fixed", b"", "ends too early"),
        ("fixed", b"\x0d", "layout 13.*upgrade"),
        ("fixed", b"\x00\x00", "too short for 8 symbols"),
        ("fixed", b"\x00" + b"\xff" * 3, "symbol 7 of an alphabet of 5"),
        ("fixed", b"\x00" + bytes(4), "1 bytes are left"),
        ("fixed", b"\x01\x09", "9 entries for 8 elements"),
        ("fixed", b"\x01\x01\x02\x01", "other than zero bits"),
        ("fixed", b"\x02\x03\x3f\x49\x00", "past the end"),
        ("huffman", b"\x00", "ends too early"),
        ("huffman", b"\x00\x05\x00", "symbol 5 of an alphabet of 5"),
        ("huffman", b"\x00\x00\x00\x00", "1 bytes are left"),
        ("huffman", b"\x00\x00\x01\x10", "too short for 8 symbols"),
        ("huffman", b"\x00\x00\x01\x10\x00\x00", "1 bytes are left"),
        ("huffman", b"\x00\x00\x02\x10\x00", "over-subscribed"),
        ("huffman", b"\x00\x00\x01\x08\x00", "under-subscribed"),
    ],
)
def test_bad_payloads(name, payload, reason):
    with pytest.raises(FormatError, match=reason):
        CODERS[name].decode(as_array(payload), (8,), 5)


def test_elements_need_a_codebook():
    with pytest.raises(FormatError, match="empty codebook"):
        CODERS["huffman"].decode(as_array(b"\x00\x00\x00"), (1,), 0)
    assert CODERS["huffman"].decode(as_array(b"\x00"), (0, 3), 0).shape == (0, 3)


@pytest.mark.parametrize("lengths", [[1, 1, 1], [2, 2, 2], [1], [19] * 3, [1, 2, 3]])
def test_incomplete_codes_are_refused(lengths):
    with pytest.raises(FormatError, match="subscribed"):
        CanonicalCode(np.array(lengths, np.uint8))


def test_sizes_of_four_bit_streams_are_checked():
    indices = np.tile(np.arange(4, dtype=np.uint8), 20_000)
    good = CODERS["huffman"].encode(indices, 4)
    size = encode_varint(5000)
    assert good.count(size) >= 3
    for bad in (encode_varint(4999), encode_varint(5001), encode_varint(2**40), encode_varint(0)):
        with pytest.raises(FormatError, match="bit stream"):
            CODERS["huffman"].decode(as_array(good.replace(size, bad, 1)), indices.shape, 4)


@pytest.mark.parametrize("name", CODERS)
@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_mutated_payloads_raise_or_decode(name, data):
    with only(data.draw(st.booleans())):
        check_mutant(name, data)


def check_mutant(name, data):
    indices = np.zeros(300, np.uint8)
    indices[::7] = np.arange(43) % 5
    payload = bytearray(CODERS[name].encode(indices, 5))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(payload)))
    mutant = payload[:cut] if data.draw(st.booleans()) else payload
    try:
        decoded = CODERS[name].decode(as_array(bytes(mutant)), (300,), 5)
    except FormatError:
        return
    assert decoded.shape == (300,)
    assert decoded.max() < 5


def test_entropy_of_a_fair_coin():
    assert entropy_bits(np.array([8, 8, 0])) == 16
    assert math.isclose(entropy_bits(np.array([1, 3])), 4 * 0.811278, rel_tol=1e-6)
