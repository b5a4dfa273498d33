"""What the range coder writes it reads, in few bytes; and the models that use it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.coding.adaptive_bytes import AdaptiveBytes
from featherweight.coding.adaptive_floats import AdaptiveFloats
from featherweight.coding.range_coder import RangeDecoder, RangeEncoder
from featherweight.coding.raw import encode_raw
from featherweight.errors import FormatError

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("bit"), st.integers(1, 65535), st.integers(0, 1)),
        st.integers(1, 2**53).flatmap(
            lambda count: st.tuples(st.just("uniform"), st.just(count), st.integers(0, count - 1))
        ),
        st.lists(st.integers(1, 3000), min_size=1, max_size=20).flatmap(
            lambda counts: st.tuples(st.just("pick"), st.just(counts), st.integers(0, len(counts) - 1))
        ),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=300)
@given(steps=STEPS)
def test_what_is_written_is_read(steps):
    encoder = RangeEncoder()
    bits = 0.0
    for kind, argument, symbol in steps:
        getattr(encoder, kind)(argument, symbol)
        if kind == "bit":
            bits -= math.log2((argument if symbol else 65536 - argument) / 65536)
        else:
            bits += math.log2(argument if kind == "uniform" else sum(argument) / argument[symbol])
    data = encoder.finish()
    assert len(data) <= bits / 8 * 1.01 + 0.002 * len(steps) + 2
    decoder = RangeDecoder(data)
    assert [getattr(decoder, kind)(argument, None) for kind, argument, _ in steps] == [s for *_, s in steps]
    decoder.finish()


def test_carries_run_through():
    encoder = RangeEncoder()
    for _ in range(50):
        encoder.share(65534, 2, 65536)
    encoder.share(0, 1, 2)
    for _ in range(5):
        encoder.share(65535, 1, 65536)
    decoder = RangeDecoder(encoder.finish())
    found = [decoder.pick([65534, 2], None) for _ in range(50)]
    assert found == [1] * 50


def test_every_other_ending_is_refused():
    encoder = RangeEncoder()
    for number in (3, 1, 4, 1, 5, 9, 2, 6):
        encoder.uniform(10, number)
    data = encoder.finish()

    def read(other):
        decoder = RangeDecoder(other)
        numbers = [decoder.uniform(10, None) for _ in range(8)]
        decoder.finish()
        return numbers

    assert read(data) == [3, 1, 4, 1, 5, 9, 2, 6]
    for other in (data + b"\0", data + b"12345", data[:-1], data + b"\x01"):
        try:
            assert read(other) != [3, 1, 4, 1, 5, 9, 2, 6]
        except FormatError:
            continue
    with pytest.raises(FormatError, match="outside of the range coder's interval"):
        RangeDecoder(b"\xff\xff\xff\xff\0")


@given(data=st.binary(max_size=200), primer=st.binary(max_size=50))
def test_strings_come_back(data, primer):
    encoder = RangeEncoder()
    AdaptiveBytes(primer).code(encoder, len(data), data)
    decoder = RangeDecoder(encoder.finish())
    assert AdaptiveBytes(primer).code(decoder, len(data), None) == data
    decoder.finish()


def test_a_string_that_the_primer_knows_costs_little():
    text = b"layer1.0.conv1.weight"
    sizes = []
    for primer in (b"", text):
        encoder = RangeEncoder()
        AdaptiveBytes(primer).code(encoder, len(text), text)
        sizes.append(len(encoder.finish()))
    assert sizes[1] <= 6 < 15 < sizes[0]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c16", "i1", "i4"])
@pytest.mark.parametrize("count", [1, 2, 30, 500])
def test_words_come_back(dtype, count):
    values = (np.random.default_rng(0).normal(size=count) * 20).astype(dtype)
    data = values.view(np.uint8)
    payload = AdaptiveFloats().encode(data, values.itemsize)
    decoded = AdaptiveFloats().decode(np.frombuffer(payload, np.uint8), count, values.itemsize)
    assert decoded.tobytes() == data.tobytes()


def test_biases_cost_about_their_entropy():
    values = np.random.default_rng(0).normal(size=300).astype(np.float32)
    exponents = np.bincount(values.view(np.uint32) >> 23)
    exponents = exponents[exponents > 0]
    entropy = (exponents * np.log2(300 / exponents)).sum() + 23 * 300
    coder, payload = encode_raw(values.view(np.uint8), 4)
    assert coder.name == "adaptive"
    assert len(payload) < entropy / 8 + 25


@pytest.mark.parametrize(("kept", "bits"), [(7, 12), (10, 15)])
def test_floats_of_a_narrower_type_cost_no_more_than_it(kept, bits):
    words = np.random.default_rng(0).normal(size=300).astype(np.float32).view(np.uint32)
    words = words >> (23 - kept) << (23 - kept)
    assert len(encode_raw(words.view(np.uint8), 4)[1]) < 300 * bits / 8


def test_fast_files_have_none():
    data = np.random.default_rng(0).normal(size=300).astype(np.float32).view(np.uint8)
    assert encode_raw(data, 4, fast=True)[0].name == "planes"
    assert AdaptiveFloats().encode(np.zeros(1025, np.uint8), 1) is None
    assert AdaptiveFloats().encode(np.zeros(0, np.uint8), 1) is None
