"""Codebooks without the values that no weight has."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.errors import TensorError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.tensors import QuantizedTensor

#: Formats that codebook values can be rounded to, with their largest value.
LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}


def drop_unused(tensor: QuantizedTensor) -> QuantizedTensor:
    """The same tensor without codebook values that none of its elements has; a zero at index 0 stays."""
    size = tensor.codebook.size
    used = np.bincount(tensor.indices.reshape(-1), minlength=size) > 0
    if size and tensor.codebook[0] == 0:
        used[0] = True
    if used.all():
        return tensor
    return _renumber(tensor, np.cumsum(used) - 1, tensor.codebook[used])


def round_codebook(tensor: QuantizedTensor, dtype: str) -> QuantizedTensor:
    """Round codebook values to float16 or bfloat16, in the codebook's own dtype; equal ones become one.

    Raises:
        TensorError: where a value is beyond the format's range.
    """
    import torch

    codebook = tensor.codebook
    if codebook.size and float(np.abs(codebook).max()) > LARGEST[dtype]:
        raise TensorError(
            f"a shared value of {float(np.abs(codebook).max()):g} is beyond {dtype}'s range of "
            f"{LARGEST[dtype]:g}; leave out codebook_dtype or take bfloat16"
        )
    narrow = torch.from_numpy(codebook).to(getattr(torch, dtype)).to(torch.from_numpy(codebook).dtype)
    rounded = narrow.numpy() + codebook.dtype.type(0)  # no -0
    # By first appearance, so that index 0 stays the zero of pruned weights.
    values, first, place = np.unique(rounded, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(order.size, np.int64)
    rank[order] = np.arange(order.size)
    return _renumber(tensor, rank[place.reshape(-1)], values[order])


def _renumber(tensor: QuantizedTensor, new_index: NDArray[Any], codebook: NDArray[Any]) -> QuantizedTensor:
    dtype = np.uint8 if codebook.size <= 256 else np.uint16
    return replace(tensor, indices=new_index.astype(dtype)[tensor.indices], codebook=codebook)
