"""A bad file for every check of the reader, each with the reason that it is refused for.

The small ones are committed in ``tests/golden/bad``, see ``tests/golden/make_golden.py``.
"""

import numpy as np
from bad_file import BadFile, quantized
from bad_payloads import later_bad_cases
from forge import HEADER, seal, single, split, tensor_file, varints
from fuzzing import BUDGET

from featherweight.coding import CODERS, RAW_CODERS
from featherweight.fileformat.directory import MAX_DIRECTORY_BYTES

FIXED, HUFFMAN, ALIAS = 16, 17, 255

#: Numbers that no coder is likely to get soon.
UNKNOWN_RAW_CODER, UNKNOWN_CODER = 15, 254

#: The entry of a float32 tensor of shape (0,), after its name.
EMPTY = b"\x01\x01\x00\x00\x00" + bytes(4)


def bits(text: str) -> bytes:
    """Bits written as text, first bit first, to bytes."""
    digits = [int(digit) for digit in text if digit in "01"]
    return np.packbits(digits, bitorder="little").tobytes()


def bad_files() -> dict[str, BadFile]:
    """By name, the coders' and the container's."""
    groups = {
        "file": _files(),
        "directory": _directories(),
        "entry": _entries(),
        "alias": _aliases(),
        "codebook": _codebooks(),
        "layout": _layouts(),
        "fixed": _fixed(),
        "huffman": _huffman(),
        "raw": _raw(),
    }
    groups |= later_bad_cases()
    return {f"{group}-{name}": bad for group, cases in groups.items() for name, bad in cases.items()}


def _files() -> dict[str, BadFile]:
    good = single(EMPTY)
    payloads, directory = split(good)
    limit = MAX_DIRECTORY_BYTES
    return {
        "empty": BadFile(b"", "is not a .fwt file"),
        "text": BadFile(b"hello, world, hello", "is not a .fwt file"),
        "short": BadFile(HEADER, "is too short, 5 bytes"),
        "version-1": BadFile(good[:4] + b"\1" + good[5:], "format version 1, .* upgrade"),
        "version-255": BadFile(good[:4] + b"\xff" + good[5:], "format version 255, .* upgrade"),
        "directory-too-long": BadFile(
            good[:-8] + (2**32 - 1).to_bytes(4, "little") + good[-4:], "claims a directory of 33554431"
        ),
        "directory-beyond-file": BadFile(
            good[:-8] + (10_000).to_bytes(4, "little") + good[-4:], "claims a directory of 10000 bytes, which"
        ),
        "directory-at-limit-plus-1": BadFile(
            seal(b"", bytes(limit + 1)), f"claims a directory of {limit + 1} bytes"
        ),
        "directory-checksum": BadFile(good[:-1] + bytes([good[-1] ^ 1]), "directory that does not match"),
        "hole": BadFile(seal(payloads + b"\0", directory), "payloads up to byte 6, its directory says 5"),
        "overlap": BadFile(single(b"\x01\x00\x00\x01" + bytes(4)), "payloads up to byte 5, .* says 6"),
        "payload-checksum": BadFile(
            single(b"\x08\x01\x01\x00\x01" + bytes(4), b"\x05"), "tensor 'a': does not match its checksum"
        ),
        "trailing": BadFile(good + b"\0", "claims a directory"),
        "two": BadFile(good + good, "payloads up to byte"),
        "over-budget": BadFile(
            tensor_file("int8", (BUDGET + 1,), 1, b"\x03\0\0\0"), "decodes to 1048577 bytes, over the limit"
        ),
        "bomb": BadFile(
            quantized(b"\0\0\0", coder=HUFFMAN, size=1, shape=(2**40,)),
            "over the limit .* max_bytes",
            16 << 30,
        ),
    }


def _directories() -> dict[str, BadFile]:
    many_names = b"".join(varints(60_000 + i, 1) + b"a" + EMPTY for i in range(2999))
    names = b"\0" + varints(3000) + b"\0" + varints(60_000) + b"a" * 60_000 + EMPTY + many_names
    directories = {
        "names-equal": (b"\0\2\0\1a" + EMPTY + b"\1\0" + EMPTY, "not in ascending order"),
        "names-descend": (b"\0\2\0\1b" + EMPTY + b"\0\1a" + EMPTY, "not in ascending order"),
        "name-empty": (b"\0\1\0\0" + EMPTY, "empty name"),
        "name-shares-more": (b"\0\1\1\1a" + EMPTY, "shares more"),
        "name-not-utf8": (b"\0\1\0\1\xff" + EMPTY, "not UTF-8"),
        "name-surrogate": (b"\0\1\0\3\xed\xa0\x80" + EMPTY, "not UTF-8"),
        "name-too-long": (b"\0\1\0" + varints(65536) + b"a" * 65536 + EMPTY, "a name of 65536 bytes"),
        "names-too-long": (names, "names of more than 67108864 bytes"),
        "metadata-descends": (b"\2\1b\0\1a\0\0", "metadata keys .* 'a'"),
        "metadata-twice": (b"\2\1a\0\1a\0\0", "metadata keys .* 'a'"),
        "metadata-not-utf8": (b"\1\1\xff\0\0", "not UTF-8"),
        "cut": (b"\0\3\0\1a" + EMPTY + b"\0\1b" + EMPTY, "ends too early"),
        "longer": (b"\0\1\0\1a" + EMPTY + b"\0", "1 bytes are left"),
        "count-2-62": (b"\0" + varints(2**62), "ends too early"),
        "integer-10-bytes": (b"\0" + b"\xff" * 9 + b"\1", "integer of more than 63 bits"),
        "integer-not-shortest": (b"\x80\x00\0", "not in its shortest form"),
    }
    return {name: BadFile(seal(b"", data), reason) for name, (data, reason) in directories.items()}


def _entries() -> dict[str, BadFile]:
    scalar, no_payload = b"\x01\x00", b"\0" + bytes(4)
    entries = {
        "dtype-17": (b"\x11\0\0" + no_payload, "dtype 17, .* upgrade"),
        "dimensions-33": (
            b"\x01\x21" + b"\x01" * 33 + b"\0" + no_payload,
            "'a' that has 33 dimensions",
        ),
        "dimensions-2-62": (b"\x01" + varints(2**62), f"has {2**62} dimensions"),
        "raw-coder-unknown": (
            b"\x01\x00" + bytes([UNKNOWN_RAW_CODER]) + no_payload,
            "raw coder 15, .* upgrade",
        ),
        "coder-unknown": (scalar + bytes([UNKNOWN_CODER]) + no_payload, "coder 254, .* upgrade"),
        "length-2-63-minus-1": (b"\x01\x00\x00" + varints(2**63 - 1) + bytes(4), "payloads up to byte 5"),
    }
    shapes = {
        "2-62": (2**31, 2**31),
        "2-63-minus": (2**61 - 1, 2),
        "2-64": (2**32, 2**32),
        "zero-times-2-63": (0, 2**62, 2),
        "wraps-to-1": (2**62, 2**62, 2**4),
    }
    for name, shape in shapes.items():
        record = b"\x01" + varints(len(shape), *shape) + b"\0" + no_payload
        entries[f"shape-{name}"] = (record, r"more than 2\^63 bytes")
    return {name: BadFile(single(record), reason) for name, (record, reason) in entries.items()}


def _aliases() -> dict[str, BadFile]:
    b, c = b"\0\1b", b"\0\1c"
    directories = {
        "to-itself": (b"\0\1\0\1a\x01\x00\xff\x00", "ties tensor 'a' to something"),
        "past-the-end": (b"\0\1\0\1a\x01\x00\xff\x05", "ties tensor 'a' to something"),
        "to-an-alias": (
            b"\0\3\0\1a" + EMPTY + b + b"\x01\x01\0\xff\0" + c + b"\x01\x01\0\xff\1",
            "ties tensor 'c' to something",
        ),
        "of-another-shape": (
            b"\0\2\0\1a" + EMPTY + b + b"\x01\x01\x01\xff\x00",
            "which is of another kind",
        ),
        "of-another-dtype": (
            b"\0\2\0\1a" + EMPTY + b + b"\x0a\x01\x00\xff\x00",
            "which is of another kind",
        ),
    }
    return {name: BadFile(seal(b"", data), reason) for name, (data, reason) in directories.items()}


def _codebooks() -> dict[str, BadFile]:
    payloads = {
        "infinity": (b"\x01\x02\x00\x7c\x00\x00\x00", "NaN or infinity"),
        "nan": (b"\x01\x02\x00\x7e\x00\x00\x00", "NaN or infinity"),
        "signalling-nan": (b"\x01\x02\x01\x7c\x00\x00\x00", "NaN or infinity"),
        "too-wide": (b"\x01\x00" + bytes(8) + b"\0", "stored as float64 for elements of float32"),
        "of-integers": (b"\x01\x08\0\0", "stored in way 8, .* upgrade"),
        "unknown-way": (b"\x01\x63\0\0", "stored in way 99, .* upgrade"),
        "empty": (b"\x00\x01\x00", "elements but an empty codebook"),
        "65537": (varints(65537) + b"\x02", "a codebook of 65537 values"),
        "2-40": (varints(2**40) + b"\x02", "a codebook of 1099511627776 values"),
        "cut": (b"\x02\x01\x00", "ends too early"),
    }
    cases = {
        name: BadFile(tensor_file("float32", (8,), HUFFMAN, payload), reason)
        for name, (payload, reason) in payloads.items()
    }
    cases["of-int32"] = BadFile(tensor_file("int32", (8,), HUFFMAN, b"\0"), "quantized but of dtype int32")
    return cases


def _layouts() -> dict[str, BadFile]:
    payloads = {
        "nothing": (b"", "ends too early"),
        "13": (b"\x0d", "layout 13, .* upgrade"),
        "255": (b"\xff", "layout 255, .* upgrade"),
        "more-entries-than-elements": (b"\x01\x09", "9 entries for 8 elements"),
        "gap-past-the-end": (b"\x02\x03\x3f\x49\x00", "gap that runs past the end"),
        "filler-last": (b"\x01\x01\x01\x00", "does not fill a gap"),
        "filler-too-early": (b"\x01\x02\x00\x08", "does not fill a gap"),
        "longer": (b"\x00" + bytes(4), "1 bytes are left"),
    }
    return _quantized_cases(payloads, FIXED)


def _fixed() -> dict[str, BadFile]:
    payloads = {
        "cut": (b"\x00\x00", "too short for 8 symbols of 3 bits"),
        "index-beyond-codebook": (b"\x00" + b"\xff" * 3, "symbol 7 of an alphabet of 5"),
        "padding": (b"\x01\x01\x02\x01", "padded with other than zero bits"),
    }
    return _quantized_cases(payloads, FIXED)


def _huffman() -> dict[str, BadFile]:
    # Dense: layout 0; first symbol; last minus first; code lengths; bit stream.
    payloads = {
        "no-table": (b"\x00", "ends too early"),
        "symbol-beyond-codebook": (b"\x00\x05\x00", "symbol 5 of an alphabet of 5"),
        "span-beyond-codebook": (b"\x00\x01\x04\x10\x00", "symbol 5 of an alphabet of 5"),
        "length-0": (b"\x00\x00\x01" + bits("00000 0") + b"\0", "codeword of 0 bits"),
        "length-20": (b"\x00\x00\x01" + bits("10100 0") + b"\0", "codeword of 20 bits"),
        "table-cut": (b"\x00\x00\x04" + bits("00001 000"), "code table that is cut short"),
        "table-past-last": (b"\x00\x00\x01" + bits("00001 1110 1 0"), "runs past its last symbol"),
        "run-in-two-parts": (b"\x00\x00\x04" + bits("00001 1110 1 1110 1 0"), "run of absent symbols in two"),
        "run-too-long": (b"\x00\x00\x04" + bits("00001 1110" + "0" * 17 + "1"), "runs past its last symbol"),
        "table-padding": (b"\x00\x00\x01" + bits("00001 0 11") + b"\0", "code table padded"),
        "over-subscribed": (b"\x00\x00\x02" + bits("00001 0 0") + b"\0", "over-subscribed"),
        "under-subscribed": (b"\x00\x00\x01" + bits("00010 0") + b"\0", "under-subscribed"),
        "stream-missing": (b"\x00\x00\x01" + bits("00001 0"), "too short for 8 symbols"),
        "stream-cut": (b"\x00\x00\x02" + bits("00001 10 0") + b"\xff", "bit stream that runs past its end"),
        "stream-padding": (b"\x01\x01\x00\x01" + bits("00001 0") + b"\x02\x01\x00", "padded with other than"),
        "stream-longer": (b"\x00\x00\x01" + bits("00001 0") + b"\0\0", "1 bytes are left"),
        "one-symbol-longer": (b"\x00\x00\x00\x00", "1 bytes are left"),
    }
    cases = {
        name: BadFile(quantized(data, coder=HUFFMAN), reason) for name, (data, reason) in payloads.items()
    }
    indices = np.tile(np.arange(4, dtype=np.uint8), 20_000)
    good = CODERS["huffman"].encode(indices, 4)
    # The position in bits of a stream after 2^61 bytes would wrap around to 0.
    faults = {4999: "does not end where", 5001: "runs past", 2**40: "runs past", 2**61: "runs past"}
    for size, reason in faults.items():
        bad = good.replace(varints(5000), varints(size), 1)
        cases[f"stream-of-{size}"] = BadFile(quantized(bad, coder=HUFFMAN, size=4, shape=(80_000,)), reason)
    return cases


def _quantized_cases(payloads: dict[str, tuple[bytes, str]], coder: int) -> dict[str, BadFile]:
    return {name: BadFile(quantized(data, coder=coder), reason) for name, (data, reason) in payloads.items()}


def _raw() -> dict[str, BadFile]:
    plain, sparse = RAW_CODERS["plain"].id, RAW_CODERS["sparse"].id
    payloads = {
        "plain-cut": (plain, bytes(11), "11 bytes of elements, expected 12"),
        "plain-longer": (plain, bytes(13), "13 bytes of elements, expected 12"),
        "sparse-nothing": (sparse, b"", "ends too early"),
        "sparse-mask-2-40": (sparse, varints(2**40), "ends too early"),
        "sparse-mask-of-2": (sparse, b"\x03\x00\x02\x00" + b"\1" * 12, "alphabet of 2"),
        "sparse-cut": (sparse, b"\x03\x00\x01\x00" + b"\1" * 11, "ends too early"),
        "sparse-longer": (sparse, b"\x03\x00\x01\x00" + b"\1" * 13, "1 bytes are left"),
        "sparse-keeps-zero": (sparse, b"\x03\x00\x01\x00" + b"\1" * 8 + bytes(4), "stores a zero"),
    }
    cases = {
        name: BadFile(tensor_file("float32", (3,), coder, payload), reason)
        for name, (coder, payload, reason) in payloads.items()
    }
    cases["bool-2"] = BadFile(
        tensor_file("bool", (3,), plain, b"\1\0\2"), "bool but has bytes other than 0 and 1"
    )
    return cases
