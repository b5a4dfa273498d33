"""All that a bad file can raise is a FormatError that names the file."""

import resource
import sys
import zlib

import numpy as np
import pytest
from forge import seal, single, split, varints, with_payloads
from fuzzing import BUDGET
from samples import as_bytes, raw, small_tensors

from featherweight.errors import FeatherweightError, FormatError
from featherweight.fileformat import FileReader, write_file
from featherweight.tensors import QuantizedTensor


@pytest.fixture
def path(fast_folder):
    return fast_folder / "bad.fwt"


@pytest.fixture
def good(path):
    write_file(path, small_tensors(), metadata={"author": "nobody"})
    return path.read_bytes()


def decode(path, data, max_bytes=BUDGET):
    path.write_bytes(data)
    with FileReader(path, max_bytes=max_bytes) as reader:
        reader.check_total()
        tensors = {}
        for name in reader.names:
            try:
                values = reader.read_values(name)
            except FormatError:
                values = None
            tensors[name] = as_bytes(reader.read(name))  # must refuse what the line above has refused
            assert values is not None
        return tensors


def refuse(path, data, reason=None, **options):
    with pytest.raises(FormatError, match=reason) as caught:
        decode(path, data, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert ";" in message, "an error says what to do"


def test_every_prefix(path, good):
    for size in range(len(good)):
        refuse(path, good[:size])


def test_every_flipped_bit(path, good):
    for position in range(8 * len(good)):
        flipped = bytearray(good)
        flipped[position // 8] ^= 1 << position % 8
        refuse(path, flipped)


@pytest.mark.parametrize("extra", [b"\0", b"\xff" * 8, b"\n", bytes(100)])
def test_trailing_bytes(path, good, extra):
    refuse(path, good + extra)


def test_two_files_concatenated(path, good):
    refuse(path, good + good)


CRC_OF_NOTHING = bytes(4)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"\x11\0\0\0" + CRC_OF_NOTHING, "dtype 17.*upgrade"),
        (b"\x01\x01\x00\x0e\0" + CRC_OF_NOTHING, "raw coder 14.*upgrade"),
        (b"\x01\x01\x00\x63\0" + CRC_OF_NOTHING, "coder 99.*upgrade"),
        (b"\x01\x21" + b"\x01" * 33 + b"\0\0" + CRC_OF_NOTHING, "33 dimensions"),
        (b"\x01" + b"\xff" * 8 + b"\x7f", "dimensions"),
        (b"\x01\x02" + varints(2**31, 2**31) + b"\0\0" + CRC_OF_NOTHING, "more than 2"),
        (b"\x01\x02" + varints(2**32, 2**32) + b"\0\0" + CRC_OF_NOTHING, "more than 2"),
        (b"\x01\x02" + varints(2**62, 0) + b"\0\0" + CRC_OF_NOTHING, "more than 2"),
        (b"\x01\x01" + b"\xff" * 9 + b"\x01" + b"\0\0" + CRC_OF_NOTHING, "more than 63 bits"),
        (b"\x01\x01\x80\x00\0\0" + CRC_OF_NOTHING, "shortest form"),
        (b"\x01\x00\x00\x01" + CRC_OF_NOTHING, "payloads up to byte 5, its directory says 6"),
        (b"\x01\x00\xff\x00", "ties tensor 'a'"),
        (b"\x01\x00\xff\x05", "ties tensor 'a'"),
        (b"\x01\x01\x00\x00\x00" + CRC_OF_NOTHING + b"\0", "1 bytes are left"),
        (b"\x0a\x01\x00\x11\x00" + CRC_OF_NOTHING, "quantized but of dtype int32"),
    ],
)
def test_bad_entries(path, record, reason):
    refuse(path, single(record), reason)


def test_smallest_valid_entry(path):
    assert decode(path, single(b"\x01\x01\x00\x00\x00" + CRC_OF_NOTHING)) == {"a": ("float32", (0,), b"")}


EMPTY = b"\x01\x01\x00\x00\x00" + CRC_OF_NOTHING


@pytest.mark.parametrize(
    ("directory", "reason"),
    [
        (b"\0\2\0\1a" + EMPTY + b"\0\1a" + EMPTY, "not in ascending order"),
        (b"\0\2\0\1b" + EMPTY + b"\0\1a" + EMPTY, "not in ascending order"),
        (b"\0\2\0\1a" + EMPTY + b"\1\0" + EMPTY, "not in ascending order"),
        (b"\0\1\0\0" + EMPTY, "empty name"),
        (b"\0\1\1\1a" + EMPTY, "shares more"),
        (b"\0\1\0\1\xff" + EMPTY, "not UTF-8"),
        (b"\0\1\0\3\xed\xa0\x80" + EMPTY, "not UTF-8"),
        (b"\0\1\0" + varints(65536) + b"a" * 65536 + EMPTY, "65536 bytes"),
        (b"\0\3\0\1a" + EMPTY + b"\0\1b" + EMPTY, "ends too early"),
        (b"\2\1a\0\1a\0\0", "metadata keys .* 'a'"),
        (b"\1\1\xff\0\0", "not UTF-8"),
        (b"\0" + varints(2**62), "ends too early"),
        (varints(2**62), "ends too early"),
        (b"\0\2\0\1a" + EMPTY + b"\0\1b\x01\x01\x01\xff\x00", "another kind"),
        (b"\0\3\0\1a" + EMPTY + b"\0\1b\x01\x01\0\xff\0\0\1c\x01\x01\0\xff\1", "ties tensor 'c'"),
    ],
)
def test_bad_directories(path, directory, reason):
    refuse(path, seal(b"", directory), reason)


def test_names_cannot_fill_the_memory(path):
    start = b"\0" + varints(3000) + b"\0" + varints(60_000) + b"a" * 60_000 + EMPTY
    step = b"".join(varints(60_000 + i, 1) + b"a" + EMPTY for i in range(2999))
    refuse(path, seal(b"", start + step), "names of more than")


def test_unknown_version(path, good):
    refuse(path, good[:4] + b"\1" + good[5:], "newer Featherweight: upgrade")


@pytest.mark.parametrize("length", [2**32 - 1, 2**29, 10_000])
def test_directory_length_beyond_the_file(path, good, length):
    refuse(path, good[:-8] + length.to_bytes(4, "little") + good[-4:], "claims a directory")


def huge(path, payload, dtype=b"\x01", coder=b"\x11", shape=None):
    shape = shape or varints(1, 2**40)
    record = dtype + shape + coder + varints(len(payload)) + zlib.crc32(payload).to_bytes(4, "little")
    return single(record, payload)


def test_bombs_are_refused_before_allocating(path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    one_value = b"\x01\x02\x00\x00"  # a codebook of one float16
    bombs = [
        huge(path, one_value + b"\0\0\0"),
        huge(path, one_value + b"\x01\0"),
        huge(path, b"\x02\x01\0", coder=b"\x01"),
        huge(path, b"", coder=b"\0"),
    ]
    for bomb in bombs:
        assert len(bomb) < 1024
        refuse(path, bomb, "over the limit of 17179869184; raise max_bytes", max_bytes=None)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 64 << 20


def test_claims_inside_a_payload_are_held_against_the_tensor(path):
    small = varints(1, 8)
    refuse(path, huge(path, varints(2**40) + b"\x02", shape=small), "codebook of 1099511627776 values")
    refuse(path, huge(path, b"\x01\x02\x00\x00\x01" + varints(2**40), shape=small), "entries for 8 elements")
    refuse(path, huge(path, varints(2**40), coder=b"\x01", shape=small), "ends too early")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\x01\x02\x00\x7c\x00\x00\x00", "NaN or infinity"),
        (b"\x01\x00" + bytes(8) + b"\0", "stored as float64 for elements of float32"),
        (b"\x01\x08\0\0", "stored in way 8, .*upgrade"),
        (b"\x01\x63\0\0", "stored in way 99, .*upgrade"),
        (b"\x00\x01\x00", "empty codebook"),
        (varints(65537) + b"\x02", "65537 values"),
        (b"\x02\x01\x00", "ends too early"),
    ],
)
def test_bad_codebooks(path, payload, reason):
    refuse(path, huge(path, payload, shape=varints(1, 8)), reason)


def test_bool_of_other_bytes(path):
    refuse(path, huge(path, b"\1\0\2", dtype=b"\x10", coder=b"\0", shape=varints(1, 3)), "other than 0 and 1")


def test_budget_to_the_byte(path):
    indices = np.ones((10, 10), np.uint8)
    write_file(path, {"q": QuantizedTensor(indices, np.array([0, 1.5], np.float32)), "r": raw(np.ones(8))})
    data = path.read_bytes()
    assert len(decode(path, data, max_bytes=464)) == 2
    refuse(path, data, "decodes to 464 bytes, over the limit of 463", max_bytes=463)
    with FileReader(path, max_bytes=400) as reader:
        assert reader.read("q").numel == 100
    with (
        FileReader(path, max_bytes=399) as reader,
        pytest.raises(FormatError, match=r"tensor 'q': .* 400 bytes"),
    ):
        reader.read("q")


def test_reading_one_tensor_leaves_damage_elsewhere_alone(path, good):
    good = with_payloads(good, lambda name, payload: payload)  # which gives each one its own checksum
    payloads, _ = split(good)
    data = bytearray(good)
    data[5 + len(payloads) - 1] ^= 1  # in "step", the last in order that has a payload
    path.write_bytes(data)
    with FileReader(path) as reader:
        assert reader.read("fc1.weight").numel == 120
        with pytest.raises(FormatError, match="tensor 'step': does not match its checksum; the file is"):
            reader.verify()


def test_damage_of_a_small_file_is_found_when_it_is_opened(path, good):
    data = bytearray(good)
    data[5] ^= 1
    refuse(path, bytes(data), "content that does not match its checksum")


def test_not_a_file(tmp_path):
    with pytest.raises(FormatError, match="is not a file but a directory"):
        FileReader(tmp_path)
    with pytest.raises(FeatherweightError, match=r"nothing\.fwt: cannot be opened: No such file"):
        FileReader(tmp_path / "nothing.fwt")
    text = tmp_path / "notes.txt"
    text.write_text("hello, world")
    with pytest.raises(FormatError, match=r"notes\.txt: is not a \.fwt file; check the path"):
        FileReader(text)
