"""The three passes over a large float32 tensor that training under constraint needs, on the CPU.

PyTorch's own operators take up to ten times as long for the sums and the look-up. Each kernel works on
a fixed chunk of the tensor and releases the GIL; chunks run on a few threads and their sums are added
in order, so results do not depend on the number of threads.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numba import njit

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

#: Elements a chunk; a tensor of one chunk is worked on by the calling thread.
CHUNK = 1 << 22


@njit(nogil=True, cache=True)
def _zero_pruned(bits: NDArray[np.uint32], keep: NDArray[np.uint8]) -> None:
    # Written without a branch so that it becomes vector instructions.
    for i in range(bits.size):
        bits[i] &= np.uint32(0) - np.uint32(keep[i])


@njit(nogil=True, cache=True)
def _cluster_sums(
    values: NDArray[np.float32], indices: NDArray[np.uint8], skip_zero: bool, sums: NDArray[np.float64]
) -> None:
    # Four accumulators a cluster hide the latency of adding to the same one twice in a row.
    a, b, c, d = sums[0], sums[1], sums[2], sums[3]
    quads = indices[: indices.size // 4 * 4].view(np.uint32)
    for q in range(quads.size):
        if skip_zero and quads[q] == 0:  # four pruned weights
            continue
        i = 4 * q
        a[indices[i]] += values[i]
        b[indices[i + 1]] += values[i + 1]
        c[indices[i + 2]] += values[i + 2]
        d[indices[i + 3]] += values[i + 3]
    for i in range(4 * quads.size, indices.size):
        a[indices[i]] += values[i]


@njit(nogil=True, cache=True)
def _spread(values: NDArray[np.float32], indices: NDArray[np.uint8], table: NDArray[np.float32]) -> None:
    for i in range(values.size):
        values[i] = table[indices[i]]


@lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    # By process, since a fork inherits the pool but not its threads.
    return ThreadPoolExecutor(threads, thread_name_prefix="featherweight")


def _run(kernel: Callable[[slice, int], None], size: int) -> None:
    """Run ``kernel(part, chunk number)`` over all chunks of a tensor of ``size`` elements."""
    parts = [slice(start, start + CHUNK) for start in range(0, size, CHUNK)]
    if len(parts) <= 1:
        for number, part in enumerate(parts):
            kernel(part, number)
    else:
        list(_pool(torch.get_num_threads(), os.getpid()).map(kernel, parts, range(len(parts))))


def supports(tensor: torch.Tensor) -> bool:
    """Whether the kernels can work on ``tensor`` in place: contiguous float32 on the CPU."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.is_contiguous()


def _flat(tensor: torch.Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().reshape(-1).numpy()
    return array


def zero_pruned(tensor: torch.Tensor, keep: torch.Tensor) -> None:
    """Set ``tensor`` to +0 in place wherever ``keep`` (bool, the same shape) is false."""
    bits, kept = _flat(tensor).view(np.uint32), _flat(keep).view(np.uint8)
    _run(lambda part, _: _zero_pruned(bits[part], kept[part]), bits.size)


def cluster_sums(
    tensor: torch.Tensor, indices: torch.Tensor, codebook_size: int, skip_zero: bool
) -> NDArray[np.float64]:
    """Sum ``tensor`` over the members of each cluster, in float64.

    Args:
        tensor: float32.
        indices: each element's cluster, uint8 in the tensor's shape.
        codebook_size: number of clusters.
        skip_zero: leave out the sum of cluster 0 where that is cheaper; its value is then arbitrary.

    Returns:
        The sums, shape ``(codebook_size,)``.
    """
    values, clusters = _flat(tensor), _flat(indices)
    chunks = max(1, -(-values.size // CHUNK))
    sums = np.zeros((chunks, 4, max(codebook_size, 1)))
    _run(
        lambda part, number: _cluster_sums(values[part], clusters[part], skip_zero, sums[number]), values.size
    )
    total: NDArray[np.float64] = sums.sum(axis=(0, 1))[:codebook_size]
    return total


def spread(tensor: torch.Tensor, indices: torch.Tensor, table: NDArray[np.float32]) -> None:
    """Set ``tensor`` to ``table[indices]`` in place."""
    values, clusters = _flat(tensor), _flat(indices)
    _run(lambda part, _: _spread(values[part], clusters[part], table), values.size)
