"""Least squares: weights of the channels that stay, so that a layer's outputs stay what they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from featherweight.pruning.channels.samples import parts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from featherweight.pruning.channels.samples import Sample

#: Penalty on the change of the weights, as a fraction of the mean square of a feature.
RIDGE = 1e-4


def least_squares(
    kept: NDArray[np.float64], gone: NDArray[np.float64], *, ridge: float = RIDGE
) -> NDArray[np.float64]:
    """Δ that minimises ‖gone − kept Δ‖² + ridge · s · ‖Δ‖², s the mean square norm of a kept feature.

    Solved for the weights or, where samples are fewer, for the samples. Features that are zero get Δ = 0.

    Args:
        kept: what the remaining features are, ``(N, K)``.
        gone: what was contributed by those that leave, ``(N, outputs)``.
        ridge: see above; 0 only where ``kept`` has full rank.

    Returns:
        ``(K, outputs)``, to be added to the weights.
    """
    samples, features = kept.shape
    penalty = ridge * float(np.square(kept).sum()) / max(1, features)
    if features <= samples:
        moments = kept.T @ kept
        moments[np.diag_indices(features)] += penalty
        return _solve(moments, kept.T @ gone)
    moments = kept @ kept.T
    moments[np.diag_indices(samples)] += penalty
    dual: NDArray[np.float64] = kept.T @ _solve(moments, gone)
    return dual


def _solve(moments: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    if not moments.any():
        return np.zeros_like(right)
    try:
        return np.linalg.solve(moments, right).astype(np.float64)
    except np.linalg.LinAlgError:
        return np.linalg.lstsq(moments, right, rcond=None)[0].astype(np.float64)


@torch.no_grad()
def reconstruct(sample: Sample, removed: Sequence[int], *, ridge: float = RIDGE) -> None:
    """Change a layer's weights, and its bias if it has one, to make up for channels that leave it.

    The weights of the channels that leave stay as they are: they are removed afterwards.

    Source: J.-H. Luo et al., "ThiNet" (2017), section 3.2.3; Y. He et al. (2017), section 3.1.

    Args:
        sample: the layer and its inputs.
        removed: channels of the group that leave.
        ridge: see :func:`least_squares`.
    """
    layer = sample.member.layer
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)  # noqa: S101
    flat = weight.detach().flatten(1).clone()  # (out, F / groups)
    groups = parts_of(layer)
    leaving = np.zeros(flat.shape[1] * groups, dtype=bool)
    leaving[sample.features(removed)] = True
    rows = sample.rows.cpu().numpy()
    outputs = len(flat) // groups
    for part in range(groups):
        mine = slice(part * flat.shape[1], (part + 1) * flat.shape[1])
        out = slice(part * outputs, (part + 1) * outputs)
        X, gone = rows[:, mine].astype(np.float64), leaving[mine]
        kept = X[:, ~gone]
        if bias is not None:
            kept = np.concatenate([kept, np.ones((len(kept), 1))], axis=1)
        old = flat[out].double().cpu().numpy()
        change = least_squares(kept, X[:, gone] @ old[:, gone].T, ridge=ridge).T  # (outputs, K)
        if bias is not None:
            assert isinstance(bias, Tensor)  # noqa: S101
            bias[out] += torch.from_numpy(change[:, -1].copy()).to(bias)
            change = change[:, :-1]
        old[:, ~gone] += change
        flat[out] = torch.from_numpy(old).to(flat)
    weight.copy_(flat.view(weight.shape))
