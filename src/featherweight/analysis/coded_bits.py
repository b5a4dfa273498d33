"""Bits that a weight takes while it trains, by Han's accounting, before any file is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.coding import paper_sizes
from featherweight.coding.gaps import measure_gaps
from featherweight.fileformat import find_codebook

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CODEBOOK_VALUE_BITS = 32


def coded_bits(weights: NDArray[Any]) -> int:
    """Bits of a tensor, positions of nonzero weights and the codebook included (P+Q).

    A weight that shares its value takes the index of that value, another one its own bits; of a pruned tensor
    those that are left are stored, with their positions.

    Args:
        weights: float16, float32 or float64, any shape.
    """
    dense = 8 * weights.nbytes
    shared = find_codebook(weights)
    if shared is not None:
        if shared.codebook[0] == 0:
            return paper_sizes(shared.indices, shared.codebook.size).total_bits_pq
        # No zero is left out: every weight has an index.
        size = shared.codebook.size
        return weights.size * max(1, (size - 1).bit_length()) + _CODEBOOK_VALUE_BITS * size
    kept = (weights != 0).astype(np.uint8)
    if weights.size == 0 or kept.all():
        return dense
    gaps = measure_gaps(kept.reshape(-1))
    return min(dense, *(gaps.stored(r) * (8 * weights.itemsize + r) for r in gaps.widths()))
