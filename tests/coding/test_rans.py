"""The rans coder: cheapest tables against brute force, sizes, blocks, threads, damage."""

import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from both_ways import BOTH, only
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.coding import CODERS, Cursor, entropy_bits, histogram
from featherweight.coding import rans as rans_module
from featherweight.coding import rans_avx2_kernel as avx2
from featherweight.coding.rans import Rans, encoding_table
from featherweight.coding.rans_table import (
    ALL_DIGITS,
    Table,
    decode_table,
    optimal_shares,
    plan,
    round_shares,
)
from featherweight.errors import FormatError

RANS = CODERS["rans"]


def as_array(payload):
    return np.frombuffer(payload, np.uint8)


def encode(symbols, alphabet):
    return Rans().encode(symbols, histogram(symbols, alphabet))


def decode(payload, count, alphabet):
    cursor = Cursor(as_array(payload))
    symbols = Rans().decode(cursor, count, alphabet)
    cursor.finish()
    return symbols


# -- tables ----------------------------------------------------------------------------------------


def cost(counts, shares):
    return -sum(c * math.log2(s / sum(shares)) for c, s in zip(counts, shares, strict=True) if c)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 50), min_size=2, max_size=4).filter(lambda c: sum(map(bool, c)) > 1))
def test_shares_are_the_cheapest(counts):
    shares = optimal_shares(np.array(counts), 4).tolist()
    assert sum(shares) == 16
    assert all((share > 0) == (count > 0) for share, count in zip(shares, counts, strict=True))
    choices = [range(1, 17) if count else [0] for count in counts]
    cheapest = min(cost(counts, some) for some in itertools.product(*choices) if sum(some) == 16)
    assert cost(counts, shares) == pytest.approx(cheapest)


def test_more_symbols_than_shares():
    with pytest.raises(ValueError, match="17 symbols cannot share 16"):
        optimal_shares(np.ones(17, np.int64), 4)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=40), st.integers(0, ALL_DIGITS))
def test_rounded_shares(counts, digits):
    counts = np.array([*counts, 3, 5])
    exact = optimal_shares(counts, 10)
    rounded = round_shares(exact, digits)
    assert digits < ALL_DIGITS or rounded is not None
    if rounded is not None:
        assert rounded.sum() == 1024
        assert ((rounded > 0) == (counts > 0)).all()


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 2**32),
    alphabet=st.sampled_from([2, 3, 30, 256, 300, 5000, 65536]),
    p=st.floats(0.01, 1),
)
def test_tables_come_back(seed, alphabet, p):
    generator = np.random.default_rng(seed)
    counts = generator.geometric(p, alphabet) * (generator.random(alphabet) < generator.random())
    counts[generator.integers(alphabet)] += 1
    best = plan(counts)
    cursor = Cursor(as_array(best.header))
    table = decode_table(cursor, alphabet)
    cursor.finish()
    assert (table.first, table.scale, table.lanes) == (best.table.first, best.table.scale, best.table.lanes)
    assert table.shares.tolist() == best.table.shares.tolist()


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_multiplication_divides_exactly(data):
    """Of any state that an encoder may have, the greatest and those beside multiples of the share too."""
    scale = data.draw(st.integers(1, 16))
    share = data.draw(st.integers(1, (1 << scale) - 1))
    table = Table(0, np.array([share, (1 << scale) - share]), scale)
    for f, (full, factor, addend, last) in zip(
        table.shares.tolist(), encoding_table(table).tolist(), strict=True
    ):
        multiple = data.draw(st.integers(0, (full - 1) // f)) * f
        for x in (multiple, multiple + f - 1, full - 1, data.draw(st.integers(0, full - 1))):
            assert x * factor + addend < 1 << 64
            assert (x * factor + addend) >> (last & 63) == x // f


# -- streams ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 2**32),
    alphabet=st.sampled_from([1, 2, 5, 256, 257, 65536]),
    count=st.integers(0, 400),
    block=st.sampled_from([1, 7, 32, 100]),
    lanes_from=st.sampled_from([0, 10**9]),
    compiled=st.booleans(),
)
def test_round_trip_over_block_borders(seed, alphabet, count, block, lanes_from, compiled):
    generator = np.random.default_rng(seed)
    symbols = np.minimum(generator.geometric(0.1, count) - 1, alphabet - 1)
    symbols = symbols.astype(np.uint8 if alphabet <= 256 else np.uint16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featherweight.coding.rans.BLOCK_SIZE", block)
        patch.setattr("featherweight.coding.rans_table._LANES_FROM_BITS", lanes_from)
        with only(not compiled):
            payload = encode(symbols, alphabet)
        with only(compiled):
            assert encode(symbols, alphabet) == payload
            assert decode(payload, count, alphabet).tolist() == symbols.tolist()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_bytes_do_not_depend_on_threads(monkeypatch, threads):
    symbols = np.minimum(np.random.default_rng(0).geometric(0.1, 50_000), 255).astype(np.uint8)
    monkeypatch.setattr(rans_module, "BLOCK_SIZE", 7001)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    payload = encode(symbols, 256)
    monkeypatch.setenv("NUMBA_NUM_THREADS", str(threads))
    assert encode(symbols, 256) == payload
    assert np.array_equal(decode(payload, symbols.size, 256), symbols)


def bell(count, scale, k):
    steps = np.rint(np.random.default_rng(0).normal(scale=scale, size=count))
    return (steps.clip(-(k // 2), k // 2 - 1) + k // 2).astype(np.uint8)


@pytest.mark.parametrize(("scale", "k"), [(0.3, 8), (1, 16), (4, 64), (30, 256)])
@pytest.mark.parametrize("count", [100_001, 1_200_000])
def test_dense_arrays_are_within_a_percent_of_the_entropy(scale, k, count):
    indices = bell(count, scale, k)
    payload = RANS.encode(indices, k)
    assert 8 * len(payload) < 1.01 * entropy_bits(histogram(indices, k))
    assert np.array_equal(RANS.decode(as_array(payload), indices.shape, k), indices)


@pytest.mark.parametrize("density", [0.001, 0.005, 0.02, 0.09, 0.2])
def test_sparse_arrays_are_within_three_percent_of_the_entropy(density):
    indices = bell(400_000, 3, 16) * (np.random.default_rng(1).random(400_000) < density)
    payload = RANS.encode(indices, 16)
    assert 8 * len(payload) < 1.03 * entropy_bits(histogram(indices, 16))


def test_small_arrays_cost_little_more_than_their_entropy():
    indices = bell(1000, 2, 16)
    assert 8 * len(encode(indices, 16)) < entropy_bits(histogram(indices, 16)) + 8 * 24


def test_announced_bits_are_those_spent():
    indices = bell(300_000, 3, 64)
    counts = histogram(indices, 64)
    announced = Rans().header_bits(counts) + Rans().body_bits(counts)
    assert abs(8 * len(encode(indices, 64)) - announced) < 0.001 * announced


# -- damage ----------------------------------------------------------------------------------------


def refuse(payload, count, alphabet, reason):
    for compiled in BOTH:
        with only(compiled), pytest.raises(FormatError, match=reason):
            decode(payload, count, alphabet)


def test_faults_of_a_stream():
    symbols = bell(300, 2, 16)
    good = encode(symbols, 16)
    refuse(good[:-1], 300, 16, "past its end")
    refuse(good[:-2], 300, 16, "past its end")
    refuse(good + b"\0", 300, 16, "1 bytes are left")
    refuse(good[:8], 300, 16, "cut short|too early|all of its states")
    refuse(good, 299, 16, "not decode|are left")
    refuse(good, 301, 16, "not decode|past its end")
    refuse(good[:-1] + bytes([good[-1] ^ 1]), 300, 16, "not decode|past its end|left")
    refuse(good, 300, 8, "alphabet of 8")


# Symbols 0 and 1, lengths 4 and 4, n = 5, one lane: 0 has 32 - 8 - digits slots.
TABLE = b"\x00\x01\x04\x04"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\x00\x01\x05\x00", "share of 20 digits|1 to 19"),
        (b"\x00\x01\x04\x00\0\0\1\0", "share of 4 digits where"),
        (b"\x00\x02\x04\x03\0\0\1\0", "sum to more"),
        (TABLE + b"\0\0\0", "without all of its states"),
        (TABLE + b"\xff\xff\0\0", "no encoder leaves"),
        (TABLE + b"\0\0\1\0", "past its end"),
        (TABLE + b"\x01\0\1\0" + bytes(6), "not decode"),
        (TABLE[:-1] + b"\x84" + b"\0" * 127, "without all of its states"),
        (TABLE[:-1] + b"\x74" + b"\xff\0\0\1\0", "padded"),
    ],
)
def test_bad_tables_and_states(payload, reason):
    refuse(payload, 3, 3, reason)


def test_sizes_of_blocks_are_checked(monkeypatch):
    monkeypatch.setattr(rans_module, "BLOCK_SIZE", 100)
    symbols = bell(250, 2, 16)
    good = encode(symbols, 16)
    at = len(plan(histogram(symbols, 16)).header)
    for size in (good[at] - 2, good[at] + 2, good[at] - 1, 0):
        refuse(good[:at] + bytes([size]) + good[at + 1 :], 250, 16, "block|state")
    refuse(good[:at] + b"\xff\xff\xff\x7f" + good[at + 1 :], 250, 16, "past its end")
    refuse(good[: at + 1], 250, 16, "too short|past its end|too early")


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_damaged_streams_raise_or_decode(data):
    count, alphabet, lanes_from = data.draw(st.sampled_from([(70, 5, 0), (90, 300, 10**9), (400, 40, 0)]))
    symbols = (np.random.default_rng(0).geometric(0.2, count) % alphabet).astype(
        np.uint8 if alphabet <= 256 else np.uint16
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featherweight.coding.rans_table._LANES_FROM_BITS", lanes_from)
        payload = bytearray(encode(symbols, alphabet))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    payload = bytes(
        payload[: data.draw(st.integers(0, len(payload)))] if data.draw(st.booleans()) else payload
    )
    results = []
    for compiled in BOTH:
        with only(compiled):
            try:
                decoded = decode(payload, count, alphabet)
            except FormatError:
                results.append(None)
            else:
                assert decoded.max() < alphabet
                results.append(decoded.tolist())
    assert results[0] == results[1]


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_decoder_says_the_same_of_damage_to_32_lanes(data):
    """Vector code, compiled scalar code and plain Python; at 12 bits, where all three are used."""
    symbols = bell(data.draw(st.integers(30_000, 30_100)), 12, 256)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featherweight.coding.rans_table._LANES_FROM_BITS", 0)
        best = plan(histogram(symbols, 256))
        assert (best.table.scale, best.table.lanes) == (12, True)
        payload = bytearray(encode(symbols, 256))
    for _ in range(data.draw(st.integers(0, 2))):
        payload[data.draw(st.integers(len(best.header), len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    payload = bytes(payload[: len(payload) - data.draw(st.integers(0, 3))])
    results = []
    for compiled, vectors in ((True, True), (True, False), (False, False)):
        with only(compiled), pytest.MonkeyPatch.context() as patch:
            if not vectors:
                patch.setattr("featherweight.coding.rans_avx2_kernel.is_supported", lambda: False)
            try:
                results.append(decode(payload, symbols.size, 256).tolist())
            except FormatError as error:
                results.append(str(error))
    assert results[0] == results[1] == results[2]


#: Decodes a payload as on a processor that has AVX2 and no AVX-512.
WITHOUT_AVX512 = """
import sys
import llvmlite.binding
features = llvmlite.binding.get_host_cpu_features()
features["avx512vl"] = False
llvmlite.binding.get_host_cpu_features = lambda: features
import numpy as np
from featherweight.coding import CODERS, rans_avx2_kernel
assert rans_avx2_kernel.is_supported() and not rans_avx2_kernel.can_expand()
payload = np.fromfile(sys.argv[1], np.uint8)
CODERS["rans"].decode(payload, (int(sys.argv[2]),), 256).tofile(sys.argv[3])
"""


@pytest.mark.skipif(
    not avx2.can_expand(), reason="this processor has no AVX-512, so all other tests are without"
)
def test_words_are_handed_out_alike_by_a_table_and_by_one_instruction(tmp_path):
    symbols = bell(300_000, 12, 256)
    payload, decoded = tmp_path / "payload", tmp_path / "decoded"
    payload.write_bytes(RANS.encode(symbols, 256))
    subprocess.run(
        [sys.executable, "-c", WITHOUT_AVX512, payload, str(symbols.size), decoded],
        check=True,
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
    )
    assert np.array_equal(np.fromfile(decoded, np.uint8), symbols)
