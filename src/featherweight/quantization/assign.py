"""Assigning weights to the nearest centroid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray


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


def assign_nearest(weights: NDArray[Any], centroids: NDArray[Any], offset: int = 0) -> NDArray[Any]:
    """The index of the nearest centroid of each weight; halfway between two it is the lower one.

    Args:
        weights: any shape.
        centroids: ascending, shape ``(k,)``.
        offset: added to every index.

    Returns:
        Indices in the shape of ``weights``, uint8 if the last of them fits, else uint16.
    """
    dtype = np.uint8 if centroids.size + offset <= 256 else np.uint16
    if centroids.size <= 1:
        return np.full(weights.shape, offset, dtype=dtype)
    borders = torch.from_numpy(midpoints(centroids, weights.dtype))
    flat = torch.from_numpy(np.ascontiguousarray(weights)).reshape(-1)
    # PyTorch's search runs on all cores.
    found = torch.bucketize(flat, borders, out_int32=True).numpy()
    return (found + offset).astype(dtype).reshape(weights.shape)
