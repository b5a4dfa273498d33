"""Bad payloads of ``rans``, ``context``, ``planes`` and ``adaptive``, bad codebooks, and bad trailers.

Those that depend on what a coder makes of good input are made from it, so that they stay bad when it changes.
"""

import numpy as np
from bad_file import BadFile, quantized
from forge import CODED, JOINT, coded, seal, tensor_file, varints

from featherweight.coding import CODERS, RAW_CODERS
from featherweight.coding.range_coder import RangeEncoder
from featherweight.coding.rans import BLOCK_SIZE, Rans
from featherweight.coding.rans_table import plan
from featherweight.errors import FormatError

HUFFMAN, RANS, CONTEXT = 17, 18, 19
PLANES, ADAPTIVE = 2, 3

#: A stream of rans: symbols 0 and 1, shares of 4 digits each, n = 5, one lane.
TABLE = b"\x00\x01\x04\x04"

#: A head of context: nothing special, 4 negative levels, no lags.
HEAD = b"\x00\x04\x01\x01\x80"


def later_bad_cases() -> dict[str, dict[str, BadFile]]:
    """By group and name."""
    return {
        "rans": _rans() | _rans_blocks(),
        "context": _context(),
        "planes": _planes(),
        "adaptive": _adaptive(),
        "way": _ways(),
        "trailer": _trailers(),
    }


def _rans() -> dict[str, BadFile]:
    payloads = {
        "cut": (TABLE + b"\0\0\0", "without all of its states"),
        "low-state": (TABLE + b"\xff\xff\0\0", "no encoder leaves"),
        "words-missing": (TABLE + b"\0\0\1\0", "past its end"),
        "wrong-end": (TABLE + b"\x01\0\1\0" + bytes(6), "not decode"),
        "share-too-long": (b"\x00\x01\x04\x00\0\0\1\0", "share of 4 digits where"),
        "shares-too-large": (b"\x00\x02\x04\x03\0\0\1\0", "sum to more"),
        "table-padding": (TABLE[:-1] + b"\x74\xff\0\0\1\0", "padded"),
        "symbol-beyond-codebook": (b"\x03\x00", "symbol 3 of an alphabet of 3"),
    }
    return {
        name: BadFile(quantized(b"\0" + data, coder=RANS, size=3, shape=(3,)), reason)
        for name, (data, reason) in payloads.items()
    }


def _rans_blocks() -> dict[str, BadFile]:
    """Two blocks, the first with something behind it or too long for the file; many blocks of nothing."""
    symbols = np.zeros(BLOCK_SIZE + 100, np.uint8)
    symbols[:: 1 << 14] = 1
    counts = np.bincount(symbols, minlength=2)
    good, at = Rans().encode(symbols, counts), len(plan(counts).header)
    first = len(Rans().encode(symbols[:BLOCK_SIZE], counts)) - at
    size = len(varints(first))
    sizes = {
        "block-longer": (varints(first + 2), b"\0\0", "does not end where it says"),
        "block-past-the-end": (varints(2**40), b"", "runs past its end"),
    }
    cases = {}
    for name, (stored, inserted, reason) in sizes.items():
        blocks = good[at + size :][:first] + inserted + good[at + size + first :]
        data = quantized(b"\0" + good[:at] + stored + blocks, coder=RANS, size=2, shape=symbols.shape)
        cases[name] = BadFile(data, reason, 1 << 23)
    data = quantized(b"\0" + TABLE + b"\0", coder=RANS, size=2, shape=(8 * BLOCK_SIZE,))
    return cases | {"blocks-of-nothing": BadFile(data, "too short for 8 blocks", 1 << 26)}


def _context() -> dict[str, BadFile]:
    indices = np.where(np.arange(600) % 7 == 0, np.arange(600) % 9, 0).astype(np.uint8).reshape(20, 30)
    good = CODERS["context"].encode(indices, 9)
    payloads = {
        "nothing": (b"", "ends too early"),
        "flags": (b"\x08" + HEAD[1:], "flags 8, .* upgrade"),
        "constant-beyond-codebook": (b"\x01\x09", "index 9 of a codebook of 9"),
        "constant-longer": (b"\x01\x00\x00", "goes on after its end"),
        "negative-levels": (b"\x00\x09\x01\x01\x80", "9 negative levels in a codebook of 9"),
        "lag-0": (b"\x00\x04\x00\x00\x80", "lags 0 and 0"),
        "lag-beyond-row": (b"\x00\x04\x1f\x01\x80", "lags 31 and 1 in rows of 30"),
        "inner-lag-longer": (b"\x00\x04\x01\x02\x80", "lags 1 and 2"),
        "guess-0": (HEAD[:-1] + b"\0", "probability of 0"),
        "outside-interval": (HEAD + b"\xff" * 6, "outside of the range coder's interval"),
        "longer": (good + b"0123456789abcdef", "goes on after its end"),
        "zero-behind": (good + b"\0", "does not end where it should|goes on after its end"),
    }
    cases = {
        name: BadFile(quantized(data, coder=CONTEXT, size=9, shape=(20, 30)), reason)
        for name, (data, reason) in payloads.items()
    }
    cases["transposed-vector"] = BadFile(
        quantized(b"\x02" + HEAD[1:], coder=CONTEXT, size=9, shape=(600,)), "is transposed"
    )
    cases["blocks-of-nothing"] = BadFile(
        quantized(HEAD, coder=CONTEXT, size=9, shape=(1 << 12, 1 << 11)), "too short for 8388608", 1 << 26
    )
    # Three positive levels take two digits, which also tell a fourth.
    digits, reason = b"\x04" + HEAD[1:], "level that the codebook does not have"

    def decode(noise: bytes) -> None:
        CODERS["context"].decode(np.frombuffer(digits + noise, np.uint8), (30, 30), 8)

    payload = digits + _found_by_chance(decode, reason)
    bad = quantized(payload, coder=CONTEXT, size=8, shape=(30, 30))
    cases["level-beyond-codebook"] = BadFile(bad, reason)
    return cases


def _found_by_chance(decode, reason: str) -> bytes:
    """Bytes that are refused for a reason; the first of a sequence of random ones."""
    generator = np.random.default_rng(0)
    for number in range(1000):
        noise = b"\xff\xff\xff" * (number % 2) + generator.bytes(100)
        try:
            decode(noise)
        except FormatError as error:
            if reason in str(error):
                return noise
    raise AssertionError(f"nothing was refused because it {reason}")


def _planes() -> dict[str, BadFile]:
    payloads = {
        "kind": (b"\x04", "plane of kind 4, .* upgrade"),
        "long-matrix-second": (b"\x00abc\x03", "plane of kind 3, .* here; upgrade"),
        "long-matrix-0": (b"\x03\x00", "3 words with 0 mantissa bits"),
        "long-matrix-8": (b"\x03\x08", "3 words with 8 mantissa bits"),
        "long-matrix-greatest": (b"\x03\x01\x00\x02\x00\x00\x03\x00", "symbols from 0 to 512 in 9 bits"),
        "long-matrix-padding": (b"\x03\x01\x07\x00\x07\x00\x03\x02\x01\x00\x00\x00\x20", "padded with other"),
        "matrix-of-nothing": (b"\x02\x05\x06\x03\x00", "symbols from 6 to 5 in 8 bits"),
        "matrix-width-0": (b"\x02\x06\x05\x00\x00", "3 bytes in rows of 0"),
        "matrix-width-2": (b"\x02\x06\x05\x02\x00", "3 bytes in rows of 2"),
        "matrix-cut": (b"\x02\x06\x05\x03\x09\x01", "ends too early"),
        "cut": (b"\x00" + bytes(2), "ends too early"),
        "missing": (b"\x00" + bytes(3), "ends too early"),
        "stream": (b"\x01" + TABLE + b"\xff\xff\0\0", "no encoder leaves"),
        "longer": ((b"\x00" + bytes(3)) * 4 + b"\0", "1 bytes are left"),
    }
    long = BadFile(tensor_file("int16", (65_537,), PLANES, b"\x03\x01"), "65537 words with 1 mantissa bits")
    return _raw_cases(payloads, PLANES) | {"long-matrix-65537": long}


def _raw_cases(payloads: dict[str, tuple[bytes, str]], coder: int) -> dict[str, BadFile]:
    return {
        name: BadFile(tensor_file("float32", (3,), coder, payload), reason)
        for name, (payload, reason) in payloads.items()
    }


def _adaptive() -> dict[str, BadFile]:
    coder = RAW_CODERS["adaptive"]
    good = coder.encode(np.array([1.5, -0.3, 7], np.float32).view(np.uint8), 4)

    def decode(noise: bytes) -> None:
        coder.decode(np.frombuffer(b"\x08\x00" + noise, np.uint8), 3, 4)

    unused = _found_by_chance(decode, "no range coder writes")
    payloads = {
        "nothing": (b"\x08", "ends too early"),
        "exponent-12": (b"\x0c\x00", "32-bit words with 12 bits coded"),
        "word-too-short": (b"\x08\x18", "32-bit words with 8 bits coded and 24 left out"),
        "outside-interval": (b"\x08\x00" + b"\xff" * 4, "outside of the range coder's interval"),
        "unused-number": (b"\x08\x00" + unused, "no range coder writes"),
        "zero-behind": (good + b"\0", "range-coded bytes that do not end|end of its range coder"),
        "longer": (good + b"12345678", "end of its range coder, [0-9]+ bytes are left"),
    }
    cases = _raw_cases(payloads, ADAPTIVE)
    cases["1025"] = BadFile(
        tensor_file("int8", (1025,), ADAPTIVE, b"\x08\x00"), "1025 adaptively coded words"
    )
    return cases


def _ways() -> dict[str, BadFile]:
    """Codebooks that are not stored plainly."""
    coder = RangeEncoder()
    for below, number in ((32, 2), (2, 0), (2, 0)):  # the greatest value is 2, so there are at most five
        coder.uniform(below, number)
    crowded = coder.finish()
    nan = np.array(np.nan, "<f4").tobytes()
    payloads = {
        "53": (b"\x02\xb5", "stored in way 181, .* upgrade"),
        "63-plain": (b"\x02\x3f", "stored in way 63, .* upgrade"),
        "zero-without-values": (b"\x00\xc0\x00", "without values that begins with a zero"),
        "4097": (varints(4097) + b"\x80\x00", "sorted codebook of 4097 values"),
        "cut": (b"\x02\x80\x05\x00", "ends too early"),
        "crowded": (b"\x06\xb8\xc0" + varints(len(crowded)) + crowded, "do not fit between"),
        "outside-interval": (b"\x02\x80\x04" + b"\xff" * 4, "outside of the range coder's interval"),
        "longer": (b"\x00\x80\x05\x01\x02\x03\x04\x05", "end of its range coder, 1 bytes|do not end where"),
        "even-nan": (b"\x02\xbc" + bytes(4) + nan + bytes(3), "NaN or infinity"),
        "step-cut": (b"\x02\xb9\x00\x00", "ends too early"),
    }
    cases = {
        name: BadFile(tensor_file("float32", (8,), HUFFMAN, payload), reason)
        for name, (payload, reason) in payloads.items()
    }
    fine = b"\x01\xbc" + np.array([0.1, 0], "<f4").tobytes()
    cases["no-bfloat16"] = BadFile(
        tensor_file("bfloat16", (8,), HUFFMAN, fine + b"\0\0\0"), "not bfloat16 values"
    )
    return cases


def _trailers() -> dict[str, BadFile]:
    empty, joint = b"\0\0", seal(b"\5", b"\0\1\0\1a\x08\x01\x01\x00\x01", JOINT)
    twice = b"\0\2" + 2 * b"\0\1a\x01\x01\x00\x00\x00"
    return {
        "flag-26": BadFile(seal(b"", empty, 1 << 26), "flags 0x4000000, .* upgrade"),
        "joint-checksum": BadFile(joint[:5] + b"\4" + joint[6:], "content that does not match"),
        "joint-too-large": BadFile(
            seal(bytes((1 << 20) + 1), b"\0\0", JOINT), "one checksum for 1048577 bytes of payloads"
        ),
        "coded-4097": BadFile(seal(b"", varints(4097), CODED), "a coded directory of 4097 bytes"),
        "coded-longer": BadFile(
            seal(b"", coded(empty) + b"12345678", CODED), "end of its range coder, [0-9]+ bytes are left"
        ),
        "coded-zero-behind": BadFile(
            seal(b"", coded(empty) + b"\0", CODED), "end of its range coder|do not end where"
        ),
        "coded-names-equal": BadFile(seal(b"", coded(twice), CODED | JOINT), "not in ascending order"),
    }
