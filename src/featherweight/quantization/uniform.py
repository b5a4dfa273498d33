"""Uniform quantization: levels at equal distances over the range of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.quantization.checks import check_finite, kept_weights
from featherweight.quantization.compact import drop_unused
from featherweight.quantization.kmeans import distinct_up_to, share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.tensors import QuantizedTensor


def uniform_levels(low: float, high: float, k: int) -> NDArray[np.float64]:
    """The middles of k cells of equal width (high − low) / k, ascending."""
    step = (high - low) / k
    return low + step * (np.arange(k, dtype=np.float64) + 0.5)


def quantize_uniform(weights: NDArray[Any], bits: int, fix_zeros: bool = True) -> QuantizedTensor:
    """Put each weight into one of k cells of equal width over [min, max], and to the middle of its cell.

    The step is (max − min) / k, and no weight moves by more than half of it (but for the rounding of levels
    to the weights' dtype).

    Args:
        weights: float16, float32 or float64, any shape.
        bits: k = 2^bits levels, 1 to 16.
        fix_zeros: keep zeros at index 0 with the value 0, and lay k = 2^bits − 1 levels over the range of
            the others.

    Returns:
        Indices and a codebook in the dtype of ``weights``, of the levels that are used; the distinct values
        themselves where there are no more than k.

    Raises:
        TensorError: where weights are not finite.
    """
    check_finite(weights)
    kept, _ = kept_weights(weights, None, fix_zeros)
    k = 2**bits - fix_zeros
    few = distinct_up_to(np.sort(kept), k) if kept.size else np.zeros(0)
    if few is not None:
        return share(weights, few.astype(weights.dtype), fix_zeros)
    levels = uniform_levels(float(kept.min()), float(kept.max()), k)
    # Levels of a narrow dtype may coincide.
    return drop_unused(share(weights, np.unique(levels.astype(weights.dtype)), fix_zeros))
