import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.coding import Cursor, encode_varint
from featherweight.errors import FormatError


def cursor(*data):
    return Cursor(np.array(data, np.uint8))


@settings(deadline=None)
@given(st.integers(0, 2**63 - 1))
def test_varint_round_trip(value):
    data = encode_varint(value)
    assert len(data) == max(1, -(-value.bit_length() // 7))
    reader = cursor(*data)
    assert reader.varint() == value
    reader.finish()


@pytest.mark.parametrize("value", [-1, 2**63])
def test_varint_out_of_range(value):
    with pytest.raises(ValueError, match=r"0 to 2\^63 - 1"):
        encode_varint(value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([], "ends too early"),
        ([0x80], "ends too early"),
        ([0x80, 0], "shortest form"),
        ([0xFF, 0x80, 0], "shortest form"),
        ([0xFF] * 9 + [1], "more than 63 bits"),
    ],
)
def test_bad_varints(data, reason):
    with pytest.raises(FormatError, match=reason):
        cursor(*data).varint()


def test_reads_in_order_and_never_past_the_end():
    reader = cursor(7, 1, 2, 0, 0, 9, 9)
    assert reader.byte() == 7
    assert reader.uint32() == 513
    assert reader.rest().tolist() == [9, 9]
    with pytest.raises(FormatError, match="goes on after its end, 2 bytes"):
        reader.finish()
    with pytest.raises(FormatError, match="1 more bytes are needed"):
        reader.take(3)
    assert reader.take(2).tolist() == [9, 9]
    reader.finish()
