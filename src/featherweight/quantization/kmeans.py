"""K-means weight sharing in one dimension (Han, Mao & Dally 2015, section 3).

One dimension makes it cheap: with the weights sorted and their prefix sums at hand, a cluster is a
slice, a Lloyd step is k binary searches for the borders and k differences for the means, and its cost
does not depend on the number of weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from featherweight.errors import RecipeError, TensorError
from featherweight.quantization.assign import assign_nearest, midpoints
from featherweight.tensors import QuantizedTensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

#: Lloyd's steps at most; in one dimension it settles long before.
MAX_STEPS = 10_000

#: ``(sorted values, number of centroids, generator) -> centroids``.
Initialization: TypeAlias = "Callable[[NDArray[Any], int, np.random.Generator], NDArray[np.float64]]"


def linear(values: NDArray[Any], k: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Centroids evenly spaced over [min, max]: the paper's choice, since it keeps the large weights."""
    return np.linspace(float(values[0]), float(values[-1]), k)


def density(values: NDArray[Any], k: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Centroids at evenly spaced levels of the empirical cumulative distribution."""
    ranks = (np.arange(k) + 0.5) / k * values.size
    return values[ranks.astype(np.int64)].astype(np.float64)


def forgy(values: NDArray[Any], k: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Centroids at k weights drawn at random, without replacement."""
    return np.sort(generator.choice(values, size=k, replace=False)).astype(np.float64)


#: Initializations by the name that a recipe uses.
INITIALIZATIONS: dict[str, Initialization] = {"linear": linear, "density": density, "forgy": forgy}


def lloyd(
    values: NDArray[Any], centroids: NDArray[np.float64], max_steps: int = MAX_STEPS
) -> NDArray[np.float64]:
    """Lloyd's algorithm on sorted values, until no weight changes its cluster.

    Args:
        values: sorted, shape ``(n,)``.
        centroids: where to start, ascending, shape ``(k,)``.
        max_steps: steps at most.

    Returns:
        The centroids of the clusters that have members, ascending; at most k of them.
    """
    prefix = np.zeros(values.size + 1)
    np.cumsum(values, dtype=np.float64, out=prefix[1:])  # in place: it is the largest array here
    borders = np.full(centroids.size + 1, -1)
    for _ in range(max_steps):
        # A value halfway between two centroids goes to the lower one, here as in `assign_nearest`.
        inner = np.searchsorted(values, midpoints(centroids, values.dtype), side="right")
        moved = np.concatenate(([0], inner, [values.size]))
        if np.array_equal(moved, borders):
            break
        borders = moved
        counts = np.diff(borders)
        sums = np.diff(prefix[borders])
        # An empty cluster stays where it is: weights may come to it yet.
        centroids = np.sort(np.where(counts > 0, sums / np.maximum(counts, 1), centroids))
    return centroids[np.diff(borders) > 0]


def kmeans_codebook(
    values: NDArray[Any], k: int, init: str = "linear", seed: int = 0, max_steps: int = MAX_STEPS
) -> NDArray[np.float64]:
    """The centroids of a set of weights.

    Args:
        values: weights, any shape, finite.
        k: number of centroids, at least 1.
        init: a name in :data:`INITIALIZATIONS`.
        seed: for the random initializations.
        max_steps: Lloyd's steps at most.

    Returns:
        At most k centroids, ascending; the distinct values themselves where there are no more than k.
    """
    if init not in INITIALIZATIONS:
        raise RecipeError(f"unknown init {init!r}; known: {', '.join(INITIALIZATIONS)}")
    ordered = np.sort(values, axis=None)
    distinct = _distinct_up_to(ordered, k)
    if distinct is not None:
        return distinct
    start = INITIALIZATIONS[init](ordered, k, np.random.default_rng(seed))
    return lloyd(ordered, start, max_steps)


def _distinct_up_to(ordered: NDArray[Any], k: int) -> NDArray[np.float64] | None:
    """The distinct values of a sorted array, or ``None`` if there are more than k."""
    found: list[float] = []
    position = 0
    while position < ordered.size:
        if len(found) == k:
            return None
        value = ordered[position]
        found.append(float(value))
        position = int(np.searchsorted(ordered, value, side="right"))
    return np.array(found, dtype=np.float64)


def quantize_kmeans(
    weights: NDArray[Any], bits: int, init: str = "linear", fix_zeros: bool = True, seed: int = 0
) -> QuantizedTensor:
    """Share the weights of one tensor by k-means.

    Args:
        weights: float16, float32 or float64, any shape.
        bits: the codebook holds at most 2^bits values, 1 to 8.
        init: ``linear``, ``density`` or ``forgy``.
        fix_zeros: keep zeros (pruned weights) at index 0 with the value 0, and cluster the others with
            2^bits − 1 centroids.
        seed: for the random initializations.

    Returns:
        Indices and a codebook in the dtype of ``weights``, ascending behind the fixed zero.

    Raises:
        TensorError: where weights are not finite.
    """
    if not np.isfinite(weights).all():
        raise TensorError("the weights are not finite (NaN or infinity) and cannot be shared")
    kept = weights[weights != 0] if fix_zeros else weights.reshape(-1)
    centroids = kmeans_codebook(kept, 2**bits - fix_zeros, init, seed).astype(weights.dtype)
    if not fix_zeros:
        return QuantizedTensor(assign_nearest(weights, centroids), centroids)
    codebook = np.concatenate((np.zeros(1, weights.dtype), centroids))
    indices = assign_nearest(weights, centroids, offset=1)
    indices[weights == 0] = 0
    return QuantizedTensor(indices, codebook)
