from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import idx_files
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featherweight.data import gzipped
from featherweight.data.idx import parse_idx, read_idx
from featherweight.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@given(
    st.sampled_from(sorted(idx_files.CODES)).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))
    )
)
def test_arrays_of_every_type_and_shape_come_back(array: NDArray[np.generic]) -> None:
    found = parse_idx(idx_files.encode(array), "array")
    assert found.dtype == array.dtype
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, array)


def test_literal_bytes() -> None:
    data = bytes.fromhex("00 00 0B 02  00 00 00 01  00 00 00 02  01 00  FF FE")
    np.testing.assert_array_equal(parse_idx(data, "array"), np.array([[256, -2]], np.int16))


DATA = idx_files.encode(np.arange(6, dtype=np.uint8).reshape(2, 3))  # 12 bytes of header, 6 of elements


@pytest.mark.parametrize("name", ["array.gz", "array"])
@pytest.mark.parametrize("compress", [True, False])
def test_compression_is_seen_from_the_contents(tmp_path: Path, name: str, compress: bool) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(DATA) if compress else DATA)
    assert read_idx(path).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes, too few"),
        (DATA[:3], "3 bytes, too few"),
        (DATA[:11], "11 bytes of an IDX header of 12"),
        (DATA[:-1], r"cut short: an IDX array of shape \(2, 3\) takes 18 bytes, there are 17"),
        (DATA + b"\0", "too long: .* takes 18 bytes, there are 19"),
        (b"\x01" + DATA[1:], "no IDX file: .* starts with 01 00 08 02"),
        (DATA[:2] + b"\x0a" + DATA[3:], "no IDX file: .* starts with 00 00 0a 02"),
        (DATA[:3] + b"\x00", "no IDX file: .* starts with 00 00 08 00"),
        (b"<html>Moved", "no IDX file: .* starts with 3c 68 74 6d"),
        (b"\0\0\x0e\xff" + b"\xff" * 1020, "cut short"),
    ],
)
def test_damage_is_named_with_the_remedy(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "array"
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"array.*{message}.*delete it and run again") as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_every_truncation_of_a_gzip_file_is_noticed(tmp_path: Path) -> None:
    whole = gzip.compress(DATA)
    path = tmp_path / "array.gz"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"array\.gz.*delete it and run again"):
            read_idx(path)


def test_a_truncated_gzip_file_is_told_in_uncompressed_bytes(tmp_path: Path) -> None:
    data = idx_files.encode(np.random.default_rng(0).integers(256, size=(100, 100), dtype=np.uint8))
    path = tmp_path / "array.gz"
    path.write_bytes(gzip.compress(data)[:5000])
    with pytest.raises(DataError, match=r"cut short: .* takes 10,012 bytes, there are [45],\d\d\d"):
        read_idx(path)


def test_a_flipped_bit_in_a_gzip_file_is_noticed(tmp_path: Path) -> None:
    whole = gzip.compress(DATA)
    path = tmp_path / "array.gz"
    for position in range(10, len(whole)):  # the gzip header before has bits that mean nothing
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(DataError, match="delete it and run again"):
            read_idx(path)


def test_a_gzip_bomb_is_not_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gzipped, "MAX_BYTES", 1000)
    path = tmp_path / "array.gz"
    path.write_bytes(gzip.compress(bytes(1_000_000)))
    with pytest.raises(DataError, match="more than one gzip stream of at most 1,000 bytes"):
        read_idx(path)


def test_bytes_after_the_gzip_stream_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "array.gz"
    path.write_bytes(gzip.compress(DATA) + b"more")
    with pytest.raises(DataError, match="more than one gzip stream"):
        read_idx(path)


def test_an_unreadable_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)
