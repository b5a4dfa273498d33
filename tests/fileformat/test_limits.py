"""What a file may claim: held against limits before anything is allocated."""

import os
import resource
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from bad_cases import EMPTY, quantized
from forge import HEADER, seal, single, tensor_file, varints
from fuzzing import check, quantized_samples, raw_samples
from samples import as_bytes, raw

from featherweight.coding import CODERS, RAW_CODERS
from featherweight.errors import FormatError
from featherweight.fileformat import FileReader, write_file
from featherweight.fileformat.directory import MAX_DIRECTORY_BYTES, MAX_NAME_BYTES
from featherweight.numpy import load_file
from featherweight.tensors import ITEM_SIZES

#: What a refusal may add to the resident memory, in bytes.
MOST_GROWTH = 64 << 20


def resident_bytes():
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc/self/statm")
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def crc(data):
    return zlib.crc32(data).to_bytes(4, "little")


@pytest.fixture
def path(fast_folder):
    return fast_folder / "f.fwt"


def refuse(path, data, reason, max_bytes=None):
    path.write_bytes(data)
    before = resident_bytes()
    start = time.perf_counter()
    with pytest.raises(FormatError, match=reason):
        load_file(path, max_bytes=max_bytes)
    assert time.perf_counter() - start < 1
    assert resident_bytes() - before < MOST_GROWTH


@pytest.mark.parametrize("coder", [*CODERS, *RAW_CODERS])
@pytest.mark.parametrize("shape", [(2**40,), (2**20, 2**20), (2**59,), (1, 2**40, 1)])
def test_bombs_of_every_coder(path, coder, shape):
    samples = quantized_samples(coder) if coder in CODERS else raw_samples(coder)
    for sample in samples:
        payload = b"".join(sample.sections.values())[:900]
        bomb = tensor_file(sample.dtype, shape, sample.coder_id, payload)
        assert len(bomb) < 1024
        refuse(path, bomb, f"decodes to {2**40 * ITEM_SIZES[sample.dtype]}|over the limit|more than")


@pytest.mark.parametrize("coder", CODERS)
def test_claims_within_the_budget_reach_the_decoder(path, coder):
    """Whether it refuses a payload of a smaller tensor or reads zeros after it, it names the file."""
    for sample in quantized_samples(coder)[:2]:
        payload = b"".join(sample.sections.values())
        check(path, tensor_file("float32", (1 << 18,), sample.coder_id, payload))


def test_many_tensors_of_one_payload(path):
    """Payloads have no positions and so cannot be shared; what is shared is tied, and counts once."""
    zeros = b"\x03\x00\x00\x00"  # a mask of one symbol: nothing is kept
    big = b"\x08\x01" + varints(1 << 20)
    record = big + b"\x01" + varints(len(zeros)) + crc(zeros)
    aliases = b"".join(varints(0) + varints(3) + f"b{i:02d}".encode() + big + b"\xff\0" for i in range(100))
    path.write_bytes(seal(zeros, b"\0" + varints(101) + b"\0\1a" + record + aliases))
    before = resident_bytes()
    loaded = load_file(path, max_bytes=1 << 20)
    assert len(loaded) == 101
    assert len({id(array) for array in loaded.values()}) == 1
    assert resident_bytes() - before < MOST_GROWTH
    refuse(path, path.read_bytes(), "decodes to 1048576 bytes, over the limit", max_bytes=(1 << 20) - 1)


def test_many_tensors_that_are_each_within_the_budget(path):
    zeros = b"\x03\x00\x00\x00"
    record = b"\x08\x01" + varints(1 << 20) + b"\x01" + varints(len(zeros)) + crc(zeros)
    names = b"".join(b"\0\2" + f"{i:02d}".encode() + record for i in range(20))
    data = seal(zeros * 20, b"\0" + varints(20) + names)
    assert len(data) < 1024
    reason = f"decodes to {20 << 20} bytes, over the limit of {16 << 20}"
    refuse(path, data, reason, max_bytes=16 << 20)
    from featherweight import files as torch_files

    with pytest.raises(FormatError, match=reason):
        torch_files.load_file(path, max_bytes=16 << 20)


@pytest.mark.parametrize("size", [0, 1, 400])
def test_budget_to_the_byte(path, size):
    write_file(path, {"a": raw(np.ones(size, np.int8))})
    assert load_file(path, max_bytes=size)["a"].size == size
    if size:
        refuse(path, path.read_bytes(), f"{size} bytes, over the limit of {size - 1}", max_bytes=size - 1)


def test_directory_at_its_limit(path):
    fill = MAX_DIRECTORY_BYTES - len(varints(1) + b"\1k" + varints(1 << 23) + b"\0")
    at_limit = b"\1\1k" + varints(fill) + b"v" * fill + b"\0"
    assert len(at_limit) == MAX_DIRECTORY_BYTES
    path.write_bytes(seal(b"", at_limit))
    with FileReader(path) as reader:
        assert len(reader.metadata["k"]) == fill
    refuse(path, seal(b"", at_limit + b"\0"), f"claims a directory of {MAX_DIRECTORY_BYTES + 1} bytes")
    for length in (MAX_DIRECTORY_BYTES, 2**25 - 1):
        word = length.to_bytes(4, "little")
        refuse(path, HEADER + word + bytes(4), f"claims a directory of {length} bytes")
    for flag in range(25, 30):
        refuse(path, seal(b"", b"\0\0", 1 << flag), f"flags {1 << flag:#x}, .* upgrade")


def test_name_at_its_limit(path):
    longest = b"\0\1\0" + varints(MAX_NAME_BYTES) + b"n" * MAX_NAME_BYTES + EMPTY
    path.write_bytes(seal(b"", longest))
    with FileReader(path) as reader:
        assert [len(name) for name in reader.names] == [MAX_NAME_BYTES]


@pytest.mark.parametrize("at", range(4))
def test_counts_without_end(path, at):
    """The greatest integer at each count: metadata pairs, tensors, a name's bytes, dimensions."""
    starts = [b"", b"\0", b"\0\1\0", b"\0\1\0\1a\x01"]
    refuse(path, seal(b"", starts[at] + varints(2**63 - 1)), "ends too early|a name of|dimensions")
    refuse(path, seal(b"", starts[at] + b"\x80" * 9 + b"\x01"), "more than 63 bits")


GREATEST = 2**63 - 1


@pytest.mark.parametrize("shape", [(GREATEST,), (2**62,), (2**61,), (2**31, 2**31, 2), (2**32, 2**32)])
@pytest.mark.parametrize("more", [(), (0,), (2**21,) * 3, (0, GREATEST), (2**62, 2**62)])
def test_products_near_the_widest_integers(path, shape, more):
    for coder, payload in ((0, b""), (1, b"\x03\0\0\0"), (16, b"\1\2\0\0\0"), (17, b"\1\2\0\0\0\0\0")):
        refuse(
            path,
            tensor_file("float32", shape + more, coder, payload),
            r"more than 2\^63 bytes|over the limit",
        )


def test_greatest_shape_without_elements(path):
    path.write_bytes(tensor_file("int8", (0, 2**62), 0, b""))
    assert load_file(path)["a"].shape == (0, 2**62)


# -- extents ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lengths", [(3, 6), (5, 4), (4, 6), (4, 4), (0, 9), (9, 0), (4, 2**62), (2**63 - 1, 1)]
)
def test_extents_that_leave_their_places(path, lengths):
    """Payloads follow one another without positions: an extent can only be too long or too short."""
    payloads = bytes([1, 2, 3, 4, 5, 6, 7, 8, 9])
    entries, start = b"", 0
    for name, length, size in zip(b"ab", lengths, (4, 5), strict=True):
        record = b"\x08\x01" + varints(size) + b"\0" + varints(length) + crc(payloads[start : start + length])
        entries += b"\0\1" + bytes([name]) + record
        start += length
    refuse(path, seal(payloads, b"\0\2" + entries), "bytes of elements, expected|payloads up to byte")


@pytest.mark.parametrize("inserted", [b"\0", bytes(100)])
def test_holes(path, inserted):
    refuse(path, seal(inserted, b"\0\1\0\1a" + EMPTY), "payloads up to byte")
    refuse(path, seal(inserted, b"\0\0"), "payloads up to byte")


# -- what a later version may write ----------------------------------------------------------------


def test_all_unknown_versions_say_to_upgrade(path):
    good = single(EMPTY)
    for version in range(1, 256):
        refuse(path, good[:4] + bytes([version]) + good[5:], f"format version {version}, .* upgrade")


def test_all_unknown_coders_say_to_upgrade(path):
    known = {coder.id for coder in (*CODERS.values(), *RAW_CODERS.values())}
    for coder in set(range(255)) - known:
        refuse(path, tensor_file("float32", (0,), coder, b"\0\1"), f"coder {coder}, .* upgrade")


def test_all_unknown_dtypes_say_to_upgrade(path):
    for dtype in range(len(ITEM_SIZES), 256):
        refuse(path, single(bytes([dtype]) + EMPTY[1:]), f"dtype {dtype}, .* upgrade")


def test_all_unknown_ways_of_codebooks_say_to_upgrade(path):
    for way in [*range(4, 128), *(128 + kind for kind in (53, 54, 55, 59)), 128 + 64 + 24, 255 - 8]:
        codebook = b"\1" + bytes([way]) + bytes(8)
        refuse(path, tensor_file("float32", (8,), 17, codebook), f"stored in way {way}, .* upgrade")


def test_all_unknown_layouts_say_to_upgrade(path):
    for layout in range(13, 256):
        for coder in (16, 17):
            refuse(path, quantized(bytes([layout]), coder=coder), f"layout {layout}, .* upgrade")


# -- every bit of every coder, with right checksums ------------------------------------------------


@pytest.mark.parametrize("coder", [*CODERS, *RAW_CODERS])
def test_every_flipped_bit_of_a_payload_raises_or_decodes(path, coder):
    samples = quantized_samples(coder)[:4] if coder in CODERS else raw_samples(coder)[:4]
    for sample in samples:
        payload = b"".join(sample.sections.values())[:200]
        for bit in range(8 * len(payload)):
            flipped = bytearray(payload)
            flipped[bit // 8] ^= 1 << bit % 8
            check(path, tensor_file(sample.dtype, sample.shape, sample.coder_id, bytes(flipped)), again=False)


def tensor_elements(path, data):
    path.write_bytes(data)
    with FileReader(path) as reader:
        return as_bytes(reader.read("a"))


@pytest.mark.parametrize("coder", [*CODERS, *RAW_CODERS])
def test_every_prefix_of_a_payload_is_refused_or_means_something_else(path, coder):
    samples = quantized_samples(coder)[:5] if coder in CODERS else raw_samples(coder)
    for sample in samples:
        payload = b"".join(sample.sections.values())
        whole = tensor_elements(path, sample.file())
        for size in range(len(payload)):
            prefix = tensor_file(sample.dtype, sample.shape, sample.coder_id, payload[:size])
            if check(path, prefix, again=False):
                # A prefix of an arithmetic code can be the whole code of other values.
                assert coder in ("context", "adaptive")
                assert tensor_elements(path, prefix) != whole
        longer = tensor_file(sample.dtype, sample.shape, sample.coder_id, payload + b"\0")
        assert not check(path, longer)
        assert check(path, sample.file())


def test_the_file_system_has_no_surprises(path):
    """A file that is replaced by a shorter one while it is open is told, not trusted."""
    path.write_bytes(tensor_file("int8", (100,), 0, bytes(range(100))))
    with FileReader(path) as reader:
        os.truncate(path, 50)
        with pytest.raises(FormatError, match="become shorter"):
            reader.read("a")
