import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.coding.code_lengths import decode_lengths, encode_lengths, encode_single
from featherweight.coding.cursor import Cursor
from featherweight.errors import FormatError


def read(data, alphabet):
    cursor = Cursor(np.frombuffer(data, np.uint8))
    first, lengths = decode_lengths(cursor, alphabet)
    cursor.finish()
    return first, lengths.tolist()


@settings(deadline=None)
@given(st.lists(st.integers(0, 19), min_size=2, max_size=300).filter(lambda x: sum(n > 0 for n in x) > 1))
def test_round_trip(lengths):
    first, read_back = read(encode_lengths(np.array(lengths, np.uint8)), len(lengths))
    restored = [0] * first + read_back
    assert restored + [0] * (len(lengths) - len(restored)) == lengths


def test_single_symbol():
    assert read(encode_single(300), 301) == (300, [0])


def test_smooth_lengths_take_about_a_bit_each():
    lengths = np.repeat(np.arange(4, 10), 20).astype(np.uint8)
    assert len(encode_lengths(lengths)) <= 2 + (5 + 120 + 5 + 7) // 8


def bits(text):
    return np.packbits([int(c) for c in text.replace(" ", "")], bitorder="little").tobytes()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x04\x00", "symbol 4 of an alphabet of 4"),
        (b"\x01\x03", "symbol 4 of an alphabet of 4"),
        (b"\x00\x01", "cut short"),
        (b"\x00\x03" + bits("00001 0 0 1"), "cut short"),
        (b"\x00\x01" + bits("00000 0"), "codeword of 0 bits"),
        (b"\x00\x01" + bits("10100 0"), "codeword of 20 bits"),
        (b"\x00\x01" + bits("10011 10"), "codeword of 20 bits"),
        (b"\x00\x01" + bits("00001 110"), "codeword of 0 bits"),
        (b"\x00\x01" + bits("00001 1111 11111"), "codeword of 31 bits"),
        (b"\x00\x01" + bits("00001 1110 1 0"), "past its last symbol"),
        (b"\x00\x01" + bits("00001 1110 00000000000000000000"), "past its last symbol"),
        (b"\x00\x03" + bits("00001 1110 1 1110 1 0"), "two parts"),
        (b"\x00\x01" + bits("00001 0 01"), "other than zero bits"),
    ],
)
def test_bad_tables(data, reason):
    with pytest.raises(FormatError, match=reason):
        read(data, 4)
