"""No payload makes the ``context`` coder's kernel touch memory that is not its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import guarded_context
import numpy as np
import pytest

from featherweight.coding import CODERS, context, encode_varint
from featherweight.coding.context_block import GAMMA_DIGITS, PLACES, SIGN_SET, TREE_DEPTH, TREE_NODES
from featherweight.coding.context_kernel import _ONES
from featherweight.coding.context_tables import LEARNING, LEARNING_SHIFT
from featherweight.tensors import MAX_CODEBOOK_SIZE

CODER = CODERS["context"]

#: Shapes with lags of every kind: none, a kernel, one of more places than have contexts, whole rows.
SHAPES = [(300,), (7, 40), (40, 7), (3, 4, 3, 3), (2, 2, 9, 9), (4, 60), (60, 4), (1, 2), (5, 1, 1, 6)]

SIZES = [2, 3, 9, 40, 300, MAX_CODEBOOK_SIZE]


def good_payloads():
    """Levels of every size, few and many of them far, so that every question on a magnitude is asked."""
    generator = np.random.default_rng(0)
    for k in SIZES:
        for shape in SHAPES[: 4 if k > 40 else None]:
            near = generator.integers(1, min(k, 4), shape) if k > 2 else np.ones(shape, int)
            far = generator.integers(1, k, shape)
            for often in (0.02, 0.9):
                indices = np.where(generator.random(shape) < often, far, near)
                indices = np.where(generator.random(shape) < 0.5, indices, 0).astype(np.uint16)
                indices.reshape(-1)[:2] = [k - 1, 1][: indices.size]
                yield CODER.encode(indices, k), shape, k


def damaged(payloads):
    """Each with some of its bytes changed, those of the head more often."""
    generator = np.random.default_rng(1)
    for payload, shape, k in payloads:
        mutant = bytearray(payload)
        for _ in range(generator.integers(1, 4)):
            last = 8 if generator.random() < 0.5 else len(mutant)
            mutant[generator.integers(0, min(last, len(mutant)))] = generator.integers(0, 256)
        yield bytes(mutant), shape, k


def extreme_heads():
    """Streams of one bit and the other and of noise behind every head that is allowed at the limits."""
    generator = np.random.default_rng(2)
    bodies = [b"", b"\xff\xfe" * 200, b"\0\0\1" * 100, generator.bytes(400), b"\x7f\xff" * 200]
    for shape, flags, lag in (((3, 80), 0, 80), ((80, 3), 2, 80), ((3, 80), 4, 65), ((240,), 4, 1)):
        for k in (2, 300, MAX_CODEBOOK_SIZE):
            for negative in (0, k // 2, k - 1):
                for guess in (1, 255):
                    head = bytes([flags]) + b"".join(map(encode_varint, (negative, lag, lag)))
                    yield head + bytes([guess]) + bodies[generator.integers(0, len(bodies))], shape, k


@pytest.mark.timeout(900)
@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_no_access_is_out_of_bounds(every):
    good = list(good_payloads())
    jobs = [*good[::every], *list(damaged(good))[::every], *list(extreme_heads())[::every]]
    result = subprocess.run(
        [sys.executable, str(Path(guarded_context.__file__))],
        input=json.dumps([(payload.hex(), shape, k) for payload, shape, k in jobs]),
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    guarded = json.loads(result.stdout)
    compiled = [guarded_context.outcome(*job) for job in jobs]
    assert guarded["results"] == compiled
    # The questions at the very end of the states were among those asked.
    assert guarded["left"] < 64
    assert all(len(found) == 64 for found in compiled[: len(good[::every])])
    refusals = " ".join(found for found in compiled if len(found) != 64)
    for reason in ("level that the codebook", "goes on after its end"):
        assert reason in refusals


def test_tables_have_room_for_whatever_the_format_allows():
    # A block is whole rows of at most MAX_WIDTH, as many as fit.
    assert context.MAX_WIDTH <= context.BLOCK_SIZE <= LEARNING.size << LEARNING_SHIFT
    assert context.MAX_LAG <= context.MAX_WIDTH
    # Magnitudes less one are below MAX_CODEBOOK_SIZE - 1, so they have at most 16 digits.
    most_digits = (MAX_CODEBOOK_SIZE - 2).bit_length()
    assert most_digits == GAMMA_DIGITS == 16
    assert most_digits - 1 + (1 << TREE_DEPTH) - TREE_DEPTH < TREE_NODES
    assert max(_ONES) < SIGN_SET
    assert PLACES == 64
