"""The kernels against NumPy, around the sizes where quads and chunks end."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from featherweight.constraints.kernels import CHUNK, cluster_sums, spread, supports, zero_pruned

SIZES = [0, 1, 3, 4, 5, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5]


def sample(size: int, clusters: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=size).astype(np.float32)
    indices = generator.integers(0, clusters, size).astype(np.uint8)
    indices[generator.random(size) < 0.5] = 0  # runs of zeros
    return values, indices


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("skip_zero", [False, True])
def test_cluster_sums(size, skip_zero):
    values, indices = sample(size)
    sums = cluster_sums(torch.from_numpy(values), torch.from_numpy(indices), 9, skip_zero)
    expected = np.bincount(indices, weights=values.astype(np.float64), minlength=9)
    start = 1 if skip_zero else 0  # the sum of cluster 0 is arbitrary if it may be skipped
    assert sums.shape == (9,)
    np.testing.assert_allclose(sums[start:], expected[start:], rtol=1e-12, atol=1e-9)


def test_cluster_sums_do_not_lose_small_gradients_beside_large_ones():
    values = np.full(100_000, 1e-3, np.float32)
    values[0] = 1e5
    sums = cluster_sums(torch.from_numpy(values), torch.zeros(100_000, dtype=torch.uint8), 1, False)
    assert sums[0] == pytest.approx(1e5 + 99_999 * float(np.float32(1e-3)), rel=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_spread(size):
    _, indices = sample(size)
    table = np.array([0.0, -0.0, 1.5, -2.5, 1e-40, np.inf, 3.0], np.float32)
    tensor = torch.full((size,), 9.0)
    spread(tensor, torch.from_numpy(indices), table)
    assert tensor.numpy().tobytes() == table[indices].tobytes()


@pytest.mark.parametrize("size", SIZES)
def test_zero_pruned(size):
    values, indices = sample(size)
    values[indices == 0] = np.resize(np.array([np.nan, np.inf, -1.0, -0.0], np.float32), (indices == 0).sum())
    tensor, keep = torch.from_numpy(values.copy()), torch.from_numpy(indices != 0)
    zero_pruned(tensor, keep)
    expected = np.where(indices != 0, values, np.float32(0))
    assert tensor.numpy().tobytes() == expected.tobytes()  # +0, also where it was NaN or -0.0


def test_many_dimensions_keep_their_order():
    values, indices = sample(24)
    tensor = torch.from_numpy(values.reshape(2, 3, 4).copy())
    shaped = torch.from_numpy(indices.reshape(2, 3, 4))
    spread(tensor, shaped, np.arange(7, dtype=np.float32))
    assert torch.equal(tensor, shaped.float())


def test_results_do_not_depend_on_the_number_of_threads():
    values, indices = sample(3 * CHUNK + 17)
    tensor, clusters = torch.from_numpy(values), torch.from_numpy(indices)
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            sums = cluster_sums(tensor, clusters, 7, False)
            spreads, masked = tensor.clone(), tensor.clone()
            spread(spreads, clusters, sums.astype(np.float32))
            zero_pruned(masked, clusters != 0)
            results.append((sums.tobytes(), spreads.numpy().tobytes(), masked.numpy().tobytes()))
    finally:
        torch.set_num_threads(threads)
    assert results[0] == results[1] == results[2]


def test_what_the_kernels_support():
    matrix = torch.zeros(4, 6)
    assert supports(matrix)
    assert not supports(matrix.t())
    assert not supports(matrix.double())
    assert not supports(matrix.bfloat16())
    assert not supports(torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last))


def test_a_forked_process_has_its_own_threads():
    # Nothing but the kernels may use threads here: PyTorch's own do not survive a fork.
    script = """
import os
import numpy as np
import torch
from featherweight.constraints.kernels import CHUNK, zero_pruned

keep = torch.from_numpy(np.zeros(3 * CHUNK, bool))
zero_pruned(torch.from_numpy(np.ones(3 * CHUNK, np.float32)), keep)
child = os.fork()
if child == 0:
    values = np.ones(3 * CHUNK, np.float32)
    zero_pruned(torch.from_numpy(values), keep)
    os._exit(17 if not values.any() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=280)
