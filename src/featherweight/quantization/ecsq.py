"""Entropy-constrained scalar quantization: squared error against the bits that the coder will take.

Each weight takes the codeword of least h (w − c_k)² − λ log₂ p_k; codewords and probabilities follow, and so
on until nothing changes (P. Chou, T. Lookabaugh & R. Gray, "Entropy-constrained vector quantization", 1989;
for networks Y. Choi, M. El-Khamy & J. Lee, "Towards the limit of network quantization", 2017). Zero is a
codeword, so that this prunes as well.

What a zero costs depends on where it stands: the ``context`` coder learns how full each row, each column
and each neighbourhood is. ``rate="context"`` follows it in that with a model of its own,
:func:`position_bits`; ``rate="entropy"`` takes one probability for the whole tensor, as a static code does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.errors import RecipeError
from featherweight.quantization.checks import check_finite, check_importance
from featherweight.quantization.compact import drop_unused
from featherweight.quantization.kmeans import few_distinct, kmeans_codebook
from featherweight.tensors import QuantizedTensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rounds of assigning and updating at most.
MAX_STEPS = 50

#: Where the bits of a zero come from.
RATES = ("context", "entropy")

#: Rows and columns count as if they had so many more elements of the whole tensor's density.
_PRIOR = 4.0

#: Weights assigned at a time.
_CHUNK = 1 << 18


def quantize_ecsq(
    weights: NDArray[Any],
    bits: int,
    lagrangian: float,
    sample_weights: NDArray[Any] | None = None,
    init: str = "density",
    seed: int = 0,
    rate: str = "context",
    power: float | None = None,
) -> QuantizedTensor:
    """Share the weights of one tensor by entropy-constrained scalar quantization.

    Args:
        weights: float16, float32 or float64, any shape; zeros (pruned weights) stay zero.
        bits: the codebook holds at most 2^bits values, zero included, 1 to 8.
        lagrangian: λ, the squared error that a bit is worth, as a fraction of the mean of h w² over the
            weights that are not zero; 0 is plain (weighted) k-means.
        sample_weights: h, in the shape of ``weights``, finite and not negative; 1 unless given.
        init: of the k-means that it starts from.
        seed: for the random initializations.
        rate: ``context`` or ``entropy``.
        power: in place of that mean of h w², so that tensors can be weighed against each other.

    Returns:
        Indices and a codebook in the dtype of ``weights``, ascending behind the zero at index 0; only
        codewords that are used. A tensor of no more distinct values than that stays as it is.

    Raises:
        RecipeError: for an unknown rate or a negative λ.
        TensorError: where weights are not finite, or ``sample_weights`` do not fit them.
    """
    if rate not in RATES:
        raise RecipeError(f"unknown rate {rate!r}; known: {', '.join(RATES)}")
    if not lagrangian >= 0:
        raise RecipeError(f"lagrangian must be at least 0, got {lagrangian}")
    check_finite(weights)
    importance = check_importance(weights, sample_weights)
    live = np.flatnonzero(weights.reshape(-1))
    values = weights.reshape(-1)[live].astype(np.float64)
    h = np.ones(live.size) if importance is None else importance.reshape(-1)[live]
    signal = float(np.mean(h * values**2)) if live.size else 0.0
    scale = lagrangian * (signal if power is None else power)
    centroids = kmeans_codebook(weights.reshape(-1)[live], 2**bits - 1, init, seed, importance=h)
    labels = 1 + np.searchsorted((centroids[1:] + centroids[:-1]) / 2, values)
    if scale > 0 and not few_distinct(values, 2**bits - 1):
        labels, centroids = _iterate(weights.shape, live, values, h, scale, labels, centroids, rate)
    codebook = np.concatenate(([0.0], centroids)).astype(weights.dtype)
    indices = np.zeros(weights.size, np.uint8)
    indices[live] = labels
    return drop_unused(QuantizedTensor(indices.reshape(weights.shape), codebook))


def _iterate(
    shape: tuple[int, ...],
    live: NDArray[np.int64],
    values: NDArray[np.float64],
    h: NDArray[np.float64],
    scale: float,
    labels: NDArray[np.int64],
    centroids: NDArray[np.float64],
    rate: str,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Assign and update until no weight changes its codeword."""
    rows = shape[0] if len(shape) > 1 else 1
    for _ in range(MAX_STEPS):
        counts = np.bincount(labels, minlength=centroids.size + 1)[1:]
        code_bits = -np.log2((counts + 0.5) / (counts.sum() + 0.5 * counts.size))
        zero, nonzero = position_bits(rows, int(np.prod(shape)), live, labels > 0, rate)
        new = assign(values, h, centroids, scale * zero, scale * nonzero, scale * code_bits)
        if np.array_equal(new, labels):
            break
        labels = new
        mass = np.bincount(labels, weights=h, minlength=centroids.size + 1)[1:]
        sums = np.bincount(labels, weights=h * values, minlength=centroids.size + 1)[1:]
        centroids = np.where(mass > 0, sums / np.where(mass > 0, mass, 1.0), centroids)
        used = np.bincount(labels, minlength=centroids.size + 1) > 0
        used[0] = True
        labels = (np.cumsum(used) - 1)[labels]
        centroids = centroids[used[1:]]
        order = np.argsort(centroids, kind="stable")
        rank = np.zeros(order.size + 1, np.int64)
        rank[order + 1] = np.arange(1, order.size + 1)
        labels, centroids = rank[labels], centroids[order]
    return labels, centroids


def assign(
    values: NDArray[np.float64],
    h: NDArray[np.float64],
    centroids: NDArray[np.float64],
    zero_cost: NDArray[np.float64],
    nonzero_cost: NDArray[np.float64],
    code_cost: NDArray[np.float64],
) -> NDArray[np.int64]:
    """For each weight the codeword of least cost: 0 for zero, k + 1 for ``centroids[k]``.

    Args:
        values: ``(n,)``.
        h: importance, ``(n,)``.
        centroids: ``(k,)``.
        zero_cost: λ · bits of a zero where each weight stands, ``(n,)``.
        nonzero_cost: λ · bits of saying that it is not zero, ``(n,)``.
        code_cost: λ · bits of each codeword, given that it is not zero, ``(k,)``.
    """
    labels = np.zeros(values.size, np.int64)
    for start in range(0, values.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        w, weight, best = values[part], h[part], zero_cost[part] + h[part] * values[part] ** 2
        chosen = labels[part]
        for k, (centroid, cost) in enumerate(zip(centroids, code_cost, strict=True)):
            costs = weight * (w - centroid) ** 2 + (nonzero_cost[part] + cost)
            better = costs < best
            best[better] = costs[better]
            chosen[better] = k + 1
    return labels


def position_bits(
    rows: int, size: int, live: NDArray[np.int64], nonzero: NDArray[np.bool_], rate: str = "context"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What it takes to say of each weight at hand that it is zero, and that it is not.

    The odds of a nonzero are the product of those of its row and of its column over those of the whole
    tensor; the weight itself is left out of the counts, since the coder does not know it.

    Args:
        rows: the tensor is a matrix of so many rows.
        size: its elements.
        live: flat positions of the weights at hand, ascending, ``(n,)``; all others are zero.
        nonzero: which of them are not zero as things stand, ``(n,)``.
        rate: ``context``, or ``entropy`` for the whole tensor's density everywhere.

    Returns:
        Bits of a zero and of a nonzero, each ``(n,)``.
    """
    columns = max(size // max(rows, 1), 1)
    whole = (nonzero.sum() + 0.5) / (size + 1.0)
    if rate == "entropy":
        logit = np.full(live.size, np.log(whole / (1 - whole)))
    else:
        row, column = live // columns, live % columns
        in_row = np.bincount(row[nonzero], minlength=rows)
        in_column = np.bincount(column[nonzero], minlength=columns)
        logit = (
            _logit(in_row[row] - nonzero, columns - 1, whole)
            + _logit(in_column[column] - nonzero, rows - 1, whole)
            - np.log(whole / (1 - whole))
        )
    zero: NDArray[np.float64] = np.logaddexp(0, logit) / np.log(2)
    return zero, zero - logit / np.log(2)


def _logit(count: NDArray[Any], others: int, whole: float) -> NDArray[np.float64]:
    density = (count + _PRIOR * whole) / (others + _PRIOR)
    odds: NDArray[np.float64] = np.log(density / (1 - density + 1e-12))
    return odds
