"""The exact optimum of k-means in one dimension, by dynamic programming.

Clusters of an optimal solution are intervals of the sorted weights, and where the last of j clusters begins
moves to the right as the weights that it has to end with do. So each of the k rows of the table takes
O(n log n) by divide and conquer (X. Wu, "Optimal quantization by matrix searching", 1991; A. Grønlund et al.,
"Fast exact k-means, k-medians and Bregman divergence clustering in 1D", 2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.quantization.sorted_weights import SortedWeights
    from featherweight.tensors import QuantizedTensor

#: The optimum is exact while distinct values times centroids stay below this: a table of 64 MiB.
EXACT_ENTRIES = 1 << 24

#: Where there are more, weights are first put into so many bins of equal width, each at its mean.
BINS = 1 << 16


def optimal_codebook(weights: SortedWeights, k: int) -> NDArray[np.float64]:
    """The k centroids of least squared error.

    Args:
        weights: sorted, with importance or without.
        k: centroids, at least 1.

    Returns:
        Ascending, at most k. Exact while distinct values · k ≤ 2²⁴ (8 bits: 65,793 distinct values, 5 bits:
        541,200); beyond that the optimum of 65,536 bins of equal width, which Lloyd's steps then refine.
    """
    if weights.size == 0:
        return np.zeros(0)
    starts = _distinct_starts(weights.values, EXACT_ENTRIES // k)
    if starts is None:
        edges = np.linspace(float(weights.values[0]), float(weights.values[-1]), BINS + 1)[1:-1]
        starts = np.unique(
            np.concatenate(([0], np.searchsorted(weights.values, edges.astype(weights.values.dtype))))
        )
        starts = starts[starts < weights.size]
    borders = np.append(starts, weights.size)
    mass, first = weights.masses(borders), weights.sums(borders)
    heavy = mass > 0
    if not heavy.any():
        return np.zeros(0)
    # A group is as good as a point at its mean: what its members differ is the same in every solution.
    return _solve(mass[heavy], first[heavy] / mass[heavy], k)


def _distinct_starts(values: NDArray[Any], most: int) -> NDArray[np.int64] | None:
    """Where each distinct value begins, or ``None`` if there are more than ``most``."""
    # A few slices settle it for most large tensors, without a pass over all of it.
    if values.size > 4 * most and np.unique(values[:: values.size // (4 * most) + 1]).size > most:
        return None
    count, starts = 1, [np.zeros(1, np.int64)]
    step = 1 << 22
    for begin in range(1, values.size, step):
        part = values[begin : begin + step] != values[begin - 1 : min(begin + step, values.size) - 1]
        starts.append(np.flatnonzero(part) + begin)
        count += starts[-1].size
        if count > most:
            return None
    return np.concatenate(starts)


def _solve(mass: NDArray[np.float64], points: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    if points.size <= k:
        return points
    from featherweight.quantization.optimal_kernel import fill_table  # which loads Numba

    # About the mean, differences of sums lose the fewest digits.
    shift = float(np.average(points, weights=mass))
    near = points - shift
    prefixes = np.zeros((3, points.size + 1))
    np.cumsum([mass, mass * near, mass * near**2], axis=1, out=prefixes[:, 1:])
    begins = fill_table(prefixes, k)
    ends = [points.size]
    for row in range(k - 1, 0, -1):
        ends.append(int(begins[row, ends[-1] - 1]))
    borders = np.unique([0, *ends])
    centroids: NDArray[np.float64] = np.diff(prefixes[1, borders]) / np.diff(prefixes[0, borders]) + shift
    return centroids


def quantize_optimal(
    weights: NDArray[Any], bits: int, fix_zeros: bool = True, sample_weights: NDArray[Any] | None = None
) -> QuantizedTensor:
    """Share the weights of one tensor by the k-means of least squared error.

    Args:
        weights: float16, float32 or float64, any shape.
        bits: the codebook holds at most 2^bits values, 1 to 8.
        fix_zeros: keep zeros at index 0 with the value 0, and cluster the others with 2^bits − 1 centroids.
        sample_weights: how much each weight's squared error counts; 1 unless given.

    Returns:
        Indices and a codebook in the dtype of ``weights``, ascending behind the fixed zero.

    Raises:
        TensorError: where weights are not finite, or ``sample_weights`` do not fit them.
    """
    from featherweight.quantization.kmeans import quantize_kmeans

    return quantize_kmeans(weights, bits, "optimal", fix_zeros, sample_weights=sample_weights)
