"""Trained ternary quantization (C. Zhu, S. Han, H. Mao & W. J. Dally, "Trained ternary quantization", 2017).

A weight is +W_p where its full-precision shadow is above Δ = t · max abs(W), −W_n where that is below −Δ,
else 0. W_p and W_n are trained, a pair for each layer: :class:`featherweight.constraints.Ternary`. Here is
where they start, and what a layer becomes without training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.quantization.checks import check_finite
from featherweight.tensors import QuantizedTensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The paper's t.
THRESHOLD = 0.05

#: Index of each value in a ternary codebook.
ZERO, NEGATIVE, POSITIVE = 0, 1, 2


def ternary_indices(weights: NDArray[Any], threshold: float = THRESHOLD) -> NDArray[np.uint8]:
    """2 where w > Δ, 1 where w < −Δ, else 0, with Δ = threshold · max abs(w); the shape of ``weights``."""
    delta = threshold * float(np.abs(weights).max(initial=0))
    return ((weights > delta) * POSITIVE + (weights < -delta) * NEGATIVE).astype(np.uint8)


def quantize_ternary(weights: NDArray[Any], threshold: float = THRESHOLD) -> QuantizedTensor:
    """Each weight as 0, −W_n or W_p, the means of those below −Δ and above Δ.

    Given which weights take which value, these have the least squared error; training changes them.

    Args:
        weights: float16, float32 or float64, any shape.
        threshold: Δ over the largest magnitude, 0 to 1.

    Returns:
        Indices and the codebook (0, −W_n, W_p) in the dtype of ``weights``; a side that no weight is on
        has the value 0. A tensor that is ternary already stays as it is.

    Raises:
        TensorError: where weights are not finite.
    """
    check_finite(weights)
    values = np.unique(weights.reshape(-1)[:: max(1, weights.size // 64)])
    if values.size <= 3 and (values > 0).sum() <= 1 and (values < 0).sum() <= 1:
        values = np.unique(weights)
        if (values > 0).sum() <= 1 and (values < 0).sum() <= 1:  # ternary already, whatever its Δ
            threshold = 0.0
    indices = ternary_indices(weights, threshold)
    codebook = np.zeros(3, weights.dtype)
    for side in (NEGATIVE, POSITIVE):
        members = weights[indices == side]
        if members.size:
            same = members[0] == members[-1] and (members == members[0]).all()  # a mean may round
            codebook[side] = members[0] if same else members.mean(dtype=np.float64)
    return QuantizedTensor(indices, codebook)
