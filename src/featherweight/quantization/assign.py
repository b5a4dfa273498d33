"""Assigning weights to the nearest centroid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


#: Arrays of so many weights are worth loading Numba.
_COMPILED_FROM = 1 << 18


def midpoints(centroids: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The borders between ascending centroids, shape ``(k − 1,)``: a weight at a border is the lower's.

    Args:
        centroids: shape ``(k,)``.
        dtype: the weights'. Borders are rounded down to it, so that no weight just above one falls below.
    """
    wide = centroids.astype(np.float64)
    exact = (wide[1:] + wide[:-1]) / 2
    borders = exact.astype(dtype)
    return np.where(borders > exact, np.nextafter(borders, dtype.type(-np.inf)), borders)


def assign_nearest(
    weights: NDArray[Any], centroids: NDArray[Any], offset: int = 0, zero_first: bool = False
) -> NDArray[Any]:
    """The index of the nearest centroid of each weight; halfway between two it is the lower one.

    Args:
        weights: any shape.
        centroids: ascending, shape ``(k,)``.
        offset: added to every index.
        zero_first: whether weights of 0 have index 0, whatever lies nearest.

    Returns:
        Indices in the shape of ``weights``, uint8 if the last of them fits, else uint16.
    """
    dtype = np.uint8 if centroids.size + offset <= 256 else np.uint16
    borders = midpoints(centroids, weights.dtype)
    if weights.size >= _COMPILED_FROM and weights.dtype == np.float32:
        from featherweight.quantization.assign_kernel import assign_float32  # which loads Numba

        indices = np.empty(weights.shape, dtype)
        flat = np.ascontiguousarray(weights).reshape(-1)
        assign_float32(flat, borders, offset, zero_first, indices.reshape(-1))
        return indices
    indices = np.asarray(np.searchsorted(borders, weights) + offset).astype(dtype).reshape(weights.shape)
    if zero_first:
        indices[np.asarray(weights == 0)] = 0
    return indices
