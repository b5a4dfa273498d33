"""Fixed-point numbers: i integer bits, the sign included, and f fraction bits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.errors import TensorError
from featherweight.quantization.checks import check_finite
from featherweight.tensors import QuantizedTensor

if TYPE_CHECKING:
    from numpy.typing import NDArray


def choose_integer_bits(weights: NDArray[Any]) -> int:
    """The fewest integer bits, the sign included, whose range holds the largest magnitude; may be negative.

    Only a positive weight within half a step of the upper end saturates.
    """
    largest = float(np.abs(weights).max(initial=0))
    if largest == 0:
        return 1
    mantissa, exponent = math.frexp(largest)
    lowest_alone = (
        mantissa == 0.5 and not (weights == largest).any()
    )  # −2^(i−1) is in range, its opposite not
    return exponent + (0 if lowest_alone else 1)


def round_fixed_point(weights: NDArray[Any], integer_bits: int, fraction_bits: int) -> NDArray[np.int64]:
    """Each weight in units of 2^−f: round(w · 2^f), half to even, saturating at −2^(b−1) and 2^(b−1) − 1."""
    most = 1 << (integer_bits + fraction_bits - 1)
    units = np.rint(np.ldexp(weights.astype(np.float64), fraction_bits))
    return np.clip(units, -most, most - 1).astype(np.int64)


def quantize_fixed_point(
    weights: NDArray[Any], bits: int, integer_bits: int | None = None
) -> QuantizedTensor:
    """Round each weight to a fixed-point number, round(w · 2^f) / 2^f, half to even, saturating.

    Args:
        weights: float16, float32 or float64, any shape.
        bits: i + f, 2 to 16.
        integer_bits: i, the sign included; it may be negative or above ``bits``. Unless given, the fewest
            that hold the largest magnitude. f is the rest.

    Returns:
        Indices and a codebook in the dtype of ``weights``, of 0 at index 0 and then of the values that occur.

    Raises:
        TensorError: where weights are not finite, or their dtype cannot hold the numbers.
    """
    check_finite(weights)
    i = choose_integer_bits(weights) if integer_bits is None else integer_bits
    f = bits - i
    units = round_fixed_point(weights, i, f).astype(np.int32)
    offset = 1 << (bits - 1)
    occurs = np.bincount((units + offset).reshape(-1), minlength=2 * offset) > 0
    occurs[offset] = False
    present = np.concatenate(([0], np.flatnonzero(occurs) - offset))
    exact = np.ldexp(present.astype(np.float64), -f)
    codebook = exact.astype(weights.dtype)
    if not np.array_equal(codebook.astype(np.float64), exact):
        raise TensorError(
            f"{weights.dtype} cannot hold all {bits}-bit fixed-point numbers with {f} fraction bits; take "
            f"fewer bits, or a float32 checkpoint"
        )
    table = np.zeros(2 * offset, np.uint8 if present.size <= 256 else np.uint16)
    table[present + offset] = np.arange(present.size)
    return QuantizedTensor(table[units + offset], codebook)
