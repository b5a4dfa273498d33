"""Which channels to remove: greedy, lasso, at random, or by scores of the filters.

Z_c is what channel c adds to the outputs of the layers that read it, flattened over samples and outputs.
Greedy and lasso ask for nothing but the Gram matrix G = Z Zᵀ, ``(C, C)``, which
:func:`featherweight.pruning.channels.samples.gram` makes without ever holding Z.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Penalties tried, from the one that removes everything downwards, and how far down.
_PENALTIES, _SMALLEST_PENALTY = 100, 1e-6

#: Halvings of the last interval between two penalties.
_HALVINGS = 12


def greedy(gram: NDArray[np.float64], count: int, blocks: Sequence[int] | None = None) -> list[int]:
    """Channels to remove, one after another, each the one that least increases ‖Σ_{c∈T} Z_c‖².

    Adding c to T increases it by 2 Σ_{t∈T} G_ct + G_cc, so that a step costs O(C).

    Source: J.-H. Luo, J. Wu, W. Lin, "ThiNet" (2017).

    Args:
        gram: G = Z Zᵀ, ``(C, C)``.
        count: how many to remove, a multiple of the number of blocks.
        blocks: the block of each channel; from each as many are removed. One block unless given.

    Returns:
        The channels in the order in which they were chosen; of equals the first.
    """
    labels, quota = _quotas(len(gram), count, blocks)
    cost = np.diag(gram).astype(np.float64).copy()
    removed: list[int] = []
    for _ in range(count):
        chosen = int(np.argmin(np.where(quota[labels] > 0, cost, np.inf)))
        removed.append(chosen)
        quota[labels[chosen]] -= 1
        cost += 2.0 * gram[chosen]
        cost[chosen] = np.inf
    return removed


def lasso(gram: NDArray[np.float64], count: int, blocks: Sequence[int] | None = None) -> list[int]:
    """Channels to remove by minimising ‖Y − Σ β_c Z_c‖² + λ‖β‖₁, Y = Σ Z_c, λ raised until β has zeros.

    With G = RᵀR this is the lasso of R and R·1, of C samples only. Where λ jumps over the wanted number
    of zeros, those that were smallest just before come first or last.

    Source: Y. He, X. Zhang, J. Sun, "Channel Pruning for Accelerating Very Deep Neural Networks" (2017).

    Args:
        gram: G = Z Zᵀ, ``(C, C)``.
        count: how many to remove.
        blocks: as for :func:`greedy`.

    Returns:
        The channels, those with the smallest β first.
    """
    root = _square_root(gram)
    target = root.sum(axis=1)  # R·1
    largest = float(np.abs(root.T @ target).max()) / len(gram)
    if largest == 0:
        return lowest(np.zeros(len(gram)), count, blocks)
    wanted = len(gram) - count
    above, below = np.zeros(len(gram)), np.ones(len(gram))
    low, high = 0.0, largest
    for penalty in np.geomspace(largest, largest * _SMALLEST_PENALTY, _PENALTIES)[1:]:
        beta = _lasso_at(root, target, penalty, above)
        if np.count_nonzero(beta) > wanted:
            below, low = beta, penalty
            break
        above, high = beta, penalty
    for _ in range(_HALVINGS if low else 0):
        middle = (low * high) ** 0.5
        beta = _lasso_at(root, target, middle, above)
        if np.count_nonzero(beta) > wanted:
            below, low = beta, middle
        else:
            above, high = beta, middle
    order = np.lexsort((np.abs(below), np.abs(above)))
    ranks = np.empty(len(gram))
    ranks[order] = np.arange(len(gram))
    return lowest(ranks, count, blocks)


def lowest(scores: NDArray[np.float64], count: int, blocks: Sequence[int] | None = None) -> list[int]:
    """The channels with the lowest scores; of equals the first.

    Args:
        scores: ``(C,)``, higher for channels that matter more.
        count: how many.
        blocks: as for :func:`greedy`.
    """
    labels, quota = _quotas(len(scores), count, blocks)
    removed = []
    for channel in np.argsort(scores, kind="stable").tolist():
        if quota[labels[channel]] > 0:
            quota[labels[channel]] -= 1
            removed.append(channel)
    return removed


def at_random(channels: int, count: int, blocks: Sequence[int] | None = None, *, seed: int = 0) -> list[int]:
    """Channels drawn at random.

    Args:
        channels: how many there are.
        count: how many to remove.
        blocks: as for :func:`greedy`.
        seed: of the choice.
    """
    # NumPy's RandomState promises the same numbers in every version.
    return lowest(np.random.RandomState(seed).permutation(channels).astype(np.float64), count, blocks)


def _quotas(
    channels: int, count: int, blocks: Sequence[int] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The block of each channel, and how many are to leave each block."""
    labels = np.zeros(channels, dtype=np.int64) if blocks is None else np.asarray(blocks, dtype=np.int64)
    number = int(labels.max()) + 1
    if count % number:
        raise ValueError(f"{count} channels cannot leave {number} blocks in equal parts")
    return labels, np.full(number, count // number, dtype=np.int64)


def _square_root(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """R with RᵀR = G, ``(C, C)``, for a G that may be singular."""
    values, vectors = np.linalg.eigh(gram)
    root: NDArray[np.float64] = np.sqrt(np.clip(values, 0.0, None))[:, None] * vectors.T
    return root


def _lasso_at(
    root: NDArray[np.float64], target: NDArray[np.float64], penalty: float, start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """β for one λ, in scikit-learn's scale: ‖·‖² / 2n + λ‖β‖₁ with n rows."""
    # Imported here, as scikit-learn takes a second to import.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import Lasso

    model = Lasso(alpha=penalty, fit_intercept=False, warm_start=True, max_iter=5000, tol=1e-7)
    model.coef_ = start.copy()
    with warnings.catch_warnings():
        # An approximate path picks the same channels; an exact one would be no better a choice.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(root, target)
    beta: NDArray[np.float64] = model.coef_
    return beta
