"""Each output channel by itself, with levels of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.errors import TensorError
from featherweight.tensors import MAX_CODEBOOK_SIZE, QuantizedTensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def quantize_per_channel(
    weights: NDArray[Any],
    quantize: Callable[[NDArray[Any], NDArray[Any] | None], QuantizedTensor],
    importance: NDArray[Any] | None = None,
) -> QuantizedTensor:
    """Quantize each row of a tensor by itself; the codebook holds the values of all rows.

    Worth it where channels differ in scale. The codebook grows with the number of channels, so that few bits
    and large rows suit it best.

    Args:
        weights: ``(channels, …)``; of fewer than two dimensions it is one channel.
        quantize: quantizes a row, ``(1, …)``, with the importance of its weights.
        importance: in the shape of ``weights``, or ``None``.

    Returns:
        A zero at index 0 if any row has one, then all values in ascending order.

    Raises:
        TensorError: where the rows have more than 65,536 values together.
    """
    if weights.ndim < 2 or not weights.size:
        return quantize(weights, importance)
    rows = [
        quantize(weights[i : i + 1], None if importance is None else importance[i : i + 1])
        for i in range(weights.shape[0])
    ]
    codebook = np.unique(np.concatenate([row.codebook for row in rows]) + weights.dtype.type(0))
    if codebook.size > MAX_CODEBOOK_SIZE:
        raise TensorError(
            f"{len(rows)} channels have {codebook.size} values together, a codebook holds at most "
            f"{MAX_CODEBOOK_SIZE}; take fewer bits or leave out per_channel"
        )
    codebook = codebook[np.argsort(codebook != 0, kind="stable")]  # zero first
    order = np.argsort(codebook)
    dtype = np.uint8 if codebook.size <= 256 else np.uint16
    places = [order[np.searchsorted(codebook, row.codebook, sorter=order)].astype(dtype) for row in rows]
    indices = np.concatenate([place[row.indices] for place, row in zip(places, rows, strict=True)])
    return QuantizedTensor(indices, codebook)
