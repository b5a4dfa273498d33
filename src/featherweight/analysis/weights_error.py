"""How far weights are from others: the signal-to-quantization-noise ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

#: Elements that are looked at in one go.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class WeightsError:
    """The squared weights of a reference and the squared differences from it, as sums.

    Attributes:
        signal: Σ w² over the reference.
        noise: Σ (w − ŵ)².
        identical: whether every element is equal; NaN is equal to NaN.
        finite: whether every element that differs is finite on both sides.
    """

    signal: float
    noise: float
    identical: bool
    finite: bool = True

    @property
    def sqnr_db(self) -> float | None:
        """10 log₁₀ (signal / noise) in dB: infinite without noise; ``None`` where it is not defined."""
        if self.identical:
            return math.inf
        if not (self.finite and math.isfinite(self.signal) and math.isfinite(self.noise) and self.noise):
            return None
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf


def weights_error(reference: NDArray[Any], other: NDArray[Any]) -> WeightsError:
    """Compare two tensors of one shape, in doubles; those of complex numbers by their absolute values.

    Args:
        reference: weights of any numeric type.
        other: of the same shape; its type may differ.

    Raises:
        ValueError: where the shapes differ.
    """
    if reference.shape != other.shape:
        raise ValueError(f"shapes differ: {reference.shape} and {other.shape}")
    flat, others = reference.reshape(-1), other.reshape(-1)
    starts = range(0, flat.size, _CHUNK)
    parts = [_chunk_error(flat[start : start + _CHUNK], others[start : start + _CHUNK]) for start in starts]
    return total_error(parts)


def total_error(errors: Iterable[WeightsError]) -> WeightsError:
    """The error of several tensors together; that of none is identical."""
    errors = list(errors)
    return WeightsError(
        math.fsum(error.signal for error in errors) if all(map(_summable, errors)) else math.inf,
        math.fsum(error.noise for error in errors) if all(map(_summable, errors)) else math.inf,
        all(error.identical for error in errors),
        all(error.finite for error in errors),
    )


def _summable(error: WeightsError) -> bool:
    return math.isfinite(error.signal) and math.isfinite(error.noise)


def _chunk_error(reference: NDArray[Any], other: NDArray[Any]) -> WeightsError:
    equal = (reference == other) | ((reference != reference) & (other != other))
    identical = bool(equal.all())
    wide = np.complex128 if "c" in (reference.dtype.kind, other.dtype.kind) else np.float64
    with np.errstate(over="ignore", invalid="ignore"):
        left = reference.astype(wide)
        difference = np.where(equal, 0, left - other.astype(wide))
        finite = bool(np.isfinite(difference).all())
        signal = np.square(np.abs(left[np.isfinite(left)])).sum()
        noise = np.square(np.abs(difference)).sum()
    return WeightsError(float(signal), float(noise) if finite else math.inf, identical, finite)
