"""Values rounded to formats of 16 or 8 bits, in the dtype that they had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from featherweight.errors import TensorError
from featherweight.quantization.checks import check_finite
from featherweight.quantization.fixed_point import choose_integer_bits, round_fixed_point

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Bits of ``fixed_point`` values.
_FIXED_POINT_BITS = 8


def round_to(tensor: torch.Tensor, fmt: str) -> torch.Tensor:
    """Round every value to the nearest of a narrower format.

    Args:
        tensor: float16, bfloat16, float32 or float64, finite.
        fmt: ``float16``, ``bfloat16``, ``float8_e4m3fn``, ``float8_e5m2``, or ``fixed_point``: 8 bits with as
            few integer bits as hold the largest magnitude.

    Returns:
        A new tensor of the same dtype and shape; doing it again changes nothing.

    Raises:
        TensorError: where a value is not finite, or beyond the format's range.
    """
    wide = tensor.detach().cpu().double()
    check_finite(wide.numpy())
    if fmt == "fixed_point":
        rounded = torch.from_numpy(_round_8_bits(wide.numpy()))
    else:
        narrow = getattr(torch, fmt)
        largest = torch.finfo(narrow).max
        if wide.numel() and float(wide.abs().max()) > largest:
            raise TensorError(
                f"a value of {float(wide.abs().max()):g} is beyond {fmt}'s range of {largest:g}; "
                f"store it in another format"
            )
        rounded = wide.to(narrow).double()
    return rounded.to(tensor.dtype).to(tensor.device)


def _round_8_bits(values: NDArray[np.float64]) -> NDArray[np.float64]:
    bits = choose_integer_bits(values)
    rounded: NDArray[np.float64] = np.ldexp(
        round_fixed_point(values, bits, _FIXED_POINT_BITS - bits).astype(np.float64), bits - _FIXED_POINT_BITS
    )
    return rounded
