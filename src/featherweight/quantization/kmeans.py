"""K-means weight sharing in one dimension (Han, Mao & Dally 2015, section 3).

One dimension makes it cheap: with the weights sorted and their prefix sums at hand, a cluster is a
slice, a Lloyd step is k binary searches for the borders and k differences for the means, and its cost
does not depend on the number of weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from featherweight.errors import RecipeError
from featherweight.quantization.assign import assign_nearest, midpoints
from featherweight.quantization.checks import check_finite, check_importance, kept_weights
from featherweight.quantization.optimal import optimal_codebook
from featherweight.quantization.sorted_weights import SortedWeights
from featherweight.tensors import QuantizedTensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

#: Lloyd's steps at most; in one dimension it settles long before.
MAX_STEPS = 10_000

#: ``(sorted weights, number of centroids, generator) -> ascending centroids``.
Initialization: TypeAlias = "Callable[[SortedWeights, int, np.random.Generator], NDArray[np.float64]]"


def linear(weights: SortedWeights, k: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Centroids evenly spaced over [min, max]: the paper's choice, since it keeps the large weights.

    Of pruned weights it loses those that lie in the gap around zero: they get no members.
    """
    return np.linspace(float(weights.values[0]), float(weights.values[-1]), k)


def density(weights: SortedWeights, k: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Centroids at evenly spaced levels of the empirical cumulative distribution."""
    ranks = (np.arange(k) + 0.5) / k * weights.size
    return weights.values[ranks.astype(np.int64)].astype(np.float64)


def forgy(weights: SortedWeights, k: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Centroids at k weights drawn at random, without replacement (Forgy 1965)."""
    return np.sort(generator.choice(weights.values, size=k, replace=False)).astype(np.float64)


def kmeans_plus_plus(weights: SortedWeights, k: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Centroids at weights drawn one by one, each with the square of its distance to those before.

    D. Arthur & S. Vassilvitskii, "k-means++: the advantages of careful seeding", 2007. The squared distances
    of a whole cell come from prefix sums and the weight within it is found by bisection, so that a draw
    takes O(k + log n).
    """
    edges = np.array([0, weights.size])
    total = float(weights.masses(edges)[0])
    first = _bisect(weights, 0, weights.size, generator.uniform(0, total), None)
    chosen = [float(weights.values[first])]
    for _ in range(1, k):
        centroids = np.unique(chosen)
        inner = np.searchsorted(weights.values, midpoints(centroids, weights.values.dtype), side="right")
        borders = np.concatenate(([0], inner, [weights.size]))
        errors = np.cumsum(squared_errors(weights, borders, centroids))
        if not errors[-1] > 0:
            break
        drawn = generator.uniform(0, errors[-1])
        cell = min(int(np.searchsorted(errors, drawn, side="right")), centroids.size - 1)
        left = drawn - (errors[cell - 1] if cell else 0.0)
        at = _bisect(weights, int(borders[cell]), int(borders[cell + 1]), left, centroids[cell])
        chosen.append(float(weights.values[at]))
    return np.unique(chosen)


def optimal(weights: SortedWeights, k: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """The centroids of least squared error: :func:`~featherweight.quantization.optimal.optimal_codebook`."""
    return optimal_codebook(weights, k)


#: Initializations by the name that a recipe uses.
INITIALIZATIONS: dict[str, Initialization] = {
    "linear": linear,
    "density": density,
    "forgy": forgy,
    "k-means++": kmeans_plus_plus,
    "optimal": optimal,
}


def squared_errors(
    weights: SortedWeights, borders: NDArray[np.int64], centroids: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mass · squared distance to its centroid, summed over each slice between borders, ``(k,)``."""
    mass, first = weights.masses(borders), weights.sums(borders)
    errors = weights.sums(borders, 2) - 2 * centroids * first + centroids**2 * mass
    return np.maximum(errors, 0.0)


def _bisect(weights: SortedWeights, start: int, stop: int, drawn: float, centroid: float | None) -> int:
    """The first position in a slice up to which mass, or squared error about a centroid, passes ``drawn``."""
    low, high = start, stop - 1
    while low < high:
        middle = (low + high) // 2
        borders = np.array([start, middle + 1])
        if centroid is None:
            reached = float(weights.masses(borders)[0])
        else:
            reached = float(squared_errors(weights, borders, np.array([centroid]))[0])
        low, high = (low, middle) if reached > drawn else (middle + 1, high)
    return low


def lloyd(
    weights: SortedWeights | NDArray[Any], centroids: NDArray[np.float64], max_steps: int = MAX_STEPS
) -> NDArray[np.float64]:
    """Lloyd's algorithm on sorted weights, until no weight changes its cluster.

    Args:
        weights: sorted, shape ``(n,)``, with their importance if means are to be weighted.
        centroids: where to start, ascending, shape ``(k,)``.
        max_steps: steps at most.

    Returns:
        The centroids of the clusters that have members, ascending; at most k of them.
    """
    if not isinstance(weights, SortedWeights):
        weights = SortedWeights(weights)
    values = weights.values
    borders = np.full(centroids.size + 1, -1)
    for _ in range(max_steps):
        # A value halfway between two centroids goes to the lower one, here as in `assign_nearest`.
        inner = np.searchsorted(values, midpoints(centroids, values.dtype), side="right")
        moved = np.concatenate(([0], inner, [values.size]))
        if np.array_equal(moved, borders):
            break
        borders = moved
        masses = weights.masses(borders)
        sums = weights.sums(borders)
        # An empty cluster stays where it is: weights may come to it yet.
        heavy = masses > 0
        centroids = np.sort(np.where(heavy, sums / np.where(heavy, masses, 1.0), centroids))
    return centroids[np.diff(borders) > 0]


def kmeans_codebook(
    values: NDArray[Any],
    k: int,
    init: str = "linear",
    seed: int = 0,
    max_steps: int = MAX_STEPS,
    importance: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """The centroids of a set of weights.

    Args:
        values: weights, any shape, finite.
        k: number of centroids, at least 1.
        init: a name in :data:`INITIALIZATIONS`.
        seed: for the random initializations.
        max_steps: Lloyd's steps at most.
        importance: how much each weight's squared error counts, in the shape of ``values``; 1 unless given.

    Returns:
        At most k centroids, ascending; the distinct values themselves where there are no more than k.
    """
    if init not in INITIALIZATIONS:
        raise RecipeError(f"unknown init {init!r}; known: {', '.join(INITIALIZATIONS)}")
    ordered = SortedWeights.of(values, importance)
    distinct = distinct_up_to(ordered.values, k)
    if distinct is not None:
        return distinct
    start = INITIALIZATIONS[init](ordered, k, np.random.default_rng(seed))
    return lloyd(ordered, start, max_steps)


def distinct_up_to(ordered: NDArray[Any], k: int) -> NDArray[np.float64] | None:
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


def few_distinct(weights: NDArray[Any], most: int) -> bool:
    """Whether a tensor has at most so many distinct values."""
    flat = weights.reshape(-1)
    sample = flat[:: max(1, flat.size // (4 * most))]  # which settles it for most tensors
    return np.unique(sample).size <= most and distinct_up_to(np.sort(flat), most) is not None


def quantize_kmeans(
    weights: NDArray[Any],
    bits: int,
    init: str = "linear",
    fix_zeros: bool = True,
    seed: int = 0,
    sample_weights: NDArray[Any] | None = None,
) -> QuantizedTensor:
    """Share the weights of one tensor by k-means.

    Args:
        weights: float16, float32 or float64, any shape.
        bits: the codebook holds at most 2^bits values, 1 to 8.
        init: a name in :data:`INITIALIZATIONS`.
        fix_zeros: keep zeros (pruned weights) at index 0 with the value 0, and cluster the others with
            2^bits − 1 centroids.
        seed: for the random initializations.
        sample_weights: how much each weight's squared error counts, in the shape of ``weights``, finite and
            not negative; see :mod:`featherweight.quantization.weighted`.

    Returns:
        Indices and a codebook in the dtype of ``weights``, ascending behind the fixed zero.

    Raises:
        TensorError: where weights are not finite, or ``sample_weights`` do not fit them.
    """
    check_finite(weights)
    importance = check_importance(weights, sample_weights)
    kept, kept_importance = kept_weights(weights, importance, fix_zeros)
    centroids = kmeans_codebook(kept, 2**bits - fix_zeros, init, seed, importance=kept_importance)
    del kept, kept_importance
    return share(weights, centroids.astype(weights.dtype), fix_zeros)


def share(weights: NDArray[Any], centroids: NDArray[Any], fix_zeros: bool) -> QuantizedTensor:
    """Weights at their nearest centroids, ascending ``(k,)``, behind a fixed zero if there is to be one."""
    if not fix_zeros:
        return QuantizedTensor(assign_nearest(weights, centroids), centroids)
    codebook = np.concatenate((np.zeros(1, weights.dtype), centroids))
    return QuantizedTensor(assign_nearest(weights, centroids, offset=1, zero_first=True), codebook)
