"""What every quantizer asks of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.errors import TensorError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Weights looked at in one go.
_CHUNK = 1 << 22


def check_finite(weights: NDArray[Any]) -> None:
    """Raise a TensorError where weights are NaN or infinite."""
    flat = weights.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        if not np.isfinite(flat[start : start + _CHUNK]).all():
            raise TensorError("the weights are not finite (NaN or infinity) and cannot be shared")


def check_importance(
    weights: NDArray[Any], sample_weights: NDArray[Any] | None
) -> NDArray[np.float64] | None:
    """Importance as float64, or ``None``; all zero counts as none.

    Raises:
        TensorError: where its shape is not that of the weights, or a value is negative or not finite.
    """
    if sample_weights is None:
        return None
    if sample_weights.shape != weights.shape:
        raise TensorError(
            f"sample_weights have shape {sample_weights.shape}, the weights {weights.shape}; give one each"
        )
    importance = sample_weights.astype(np.float64)
    if not (np.isfinite(importance).all() and (importance >= 0).all()):
        raise TensorError("sample_weights must be finite and at least 0")
    return importance if importance.any() else None


def kept_weights(
    weights: NDArray[Any], importance: NDArray[np.float64] | None, fix_zeros: bool
) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
    """Weights and importance, flat, without those that stay zero."""
    flat = weights.reshape(-1)
    flat_importance = None if importance is None else importance.reshape(-1)
    if not fix_zeros or flat.all():
        return flat, flat_importance
    kept = flat != 0
    return flat[kept], None if flat_importance is None else flat_importance[kept]
