"""Rounding that keeps a layer's outputs rather than its weights, without data.

A layer's output changes by e·x where its weights change by e and its input is x, so that the mean squared
change is eᵀ H e, H = E[x xᵀ]. Rounding each weight to the nearest level minimises it for inputs that are
independent and of mean 0, which hardly any layer gets. With inputs at hand, H = XᵀX / samples: E. Frantar &
D. Alistarh, "Optimal Brain Compression", 2022, minimise the same. Without, C. Guo et al., "SQuant", 2022, let
the errors of each kernel and of each filter sum to nearly 0. Here H is a prior (a variant of our own):

    H = I ⊗ R + β 11ᵀ,    R_pq = ρ^distance(p, q)

R says that what neighbouring pixels of a feature map hold is alike, β that inputs have a mean of one sign, as
they do behind a ReLU. A layer that sees an image has correlated colours besides. Coordinate descent moves
each weight to its best level, the others as they are; then levels move to where they are best (least
squares), and so on. Nothing ever increases eᵀ H e. H is never formed: a sweep costs a kernel's size per
weight, however
large the layer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.errors import TensorError
from featherweight.quantization.checks import check_finite
from featherweight.quantization.compact import drop_unused
from featherweight.quantization.kmeans import few_distinct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from featherweight.tensors import QuantizedTensor

#: ρ, the correlation of neighbouring pixels.
PIXELS = 0.6

#: β, the squared mean of an input over its variance.
MEAN = 0.3

#: The correlation of an image's colours; a convolution of 2 to 4 input channels is taken to see an image.
COLOURS = 0.9
_IMAGE_CHANNELS = (2, 4)

#: Sweeps over a row at most, each time; and how often levels move.
SWEEPS, REFITS = 6, 3

#: Kernels of more positions have no correlations between pixels: a sweep costs as many steps per weight.
_MOST_POSITIONS = 1024


@dataclass(frozen=True)
class InputCovariance:
    """H = I ⊗ ``within`` + ``between`` · 11ᵀ: inputs of a layer of n weights a row.

    Attributes:
        within: ``(b, b)``, symmetric, b a divisor of n: of inputs in one block, a kernel's positions say.
            With b = n it is any H, such as XᵀX / samples.
        between: of every two inputs.
    """

    within: NDArray[np.float64]
    between: float = 0.0

    def __post_init__(self) -> None:
        within = self.within
        if within.ndim != 2 or within.shape[0] != within.shape[1] or not within.size:
            raise TensorError(f"a covariance is square, got shape {within.shape}")
        if not (np.isfinite(within).all() and np.allclose(within, within.T)):
            raise TensorError("a covariance is finite and symmetric")
        if not (np.isfinite(self.between) and self.between >= 0):
            raise TensorError(f"the covariance between blocks must be at least 0, got {self.between}")


def prior_covariance(shape: Sequence[int], pixels: float = PIXELS, mean: float = MEAN) -> InputCovariance:
    """What is known of a layer's inputs before any is seen.

    Args:
        shape: of the layer's weights, ``(out, in, *kernel)``.
        pixels: ρ, from 0 to below 1.
        mean: β, at least 0.
    """
    kernel = tuple(shape[2:])
    positions = int(np.prod(kernel, dtype=np.int64))
    if positions > _MOST_POSITIONS or not positions:
        return InputCovariance(np.eye(1), mean)
    places = np.indices(kernel).reshape(len(kernel), positions).astype(np.float64)
    distance = np.sqrt(((places[:, :, None] - places[:, None, :]) ** 2).sum(axis=0))
    within = np.power(pixels, distance)
    channels = shape[1] if len(shape) > 1 else 1
    if kernel and _IMAGE_CHANNELS[0] <= channels <= _IMAGE_CHANNELS[1]:
        colours = (1 - COLOURS) * np.eye(channels) + COLOURS
        return InputCovariance(np.kron(colours, within))
    return InputCovariance(within, mean)


def output_error(weights: NDArray[Any], rounded: NDArray[Any], covariance: InputCovariance) -> float:
    """Σ eᵀ H e over the rows: the expected squared change of a layer's outputs, all together.

    Args:
        weights: ``(out, …)``.
        rounded: in the same shape.
        covariance: of the inputs.
    """
    rows = len(weights) if weights.ndim > 1 else 1
    errors = (rounded.astype(np.float64) - weights).reshape(rows, -1)
    blocks = errors.reshape(-1, covariance.within.shape[0])  # (rows · n / b, b)
    return float(
        np.einsum("ap,pq,aq->", blocks, covariance.within, blocks, optimize=True)
        + covariance.between * (errors.sum(axis=1) ** 2).sum()
    )


def round_to_outputs(
    weights: NDArray[Any],
    quantized: QuantizedTensor,
    covariance: InputCovariance | None = None,
    *,
    refits: int = REFITS,
    zeros_stay: bool = True,
) -> QuantizedTensor:
    """Assign weights to levels, and move the levels, so that the layer's outputs change least.

    Args:
        weights: ``(out, …)``, finite.
        quantized: where to start: levels ascending, behind a zero at index 0 if ``zeros_stay``.
        covariance: of the inputs; :func:`prior_covariance` unless given.
        refits: how often the levels move; 0 keeps them.
        zeros_stay: weights of 0 (pruned ones) stay at index 0, and no other weight goes there.

    Returns:
        A tensor of no larger :func:`output_error` (but for the rounding of levels to their dtype), of the
        same number of levels at most. One that is exact stays as it is.

    Raises:
        TensorError: where weights are not finite, or the covariance does not fit them.
    """
    check_finite(weights)
    if not weights.size or few_distinct(weights, quantized.codebook.size):
        return quantized
    covariance = covariance or prior_covariance(weights.shape)
    flat = _rows(weights, covariance)
    offset = int(zeros_stay)
    labels = quantized.indices.reshape(flat.shape).copy()
    levels = _descend(
        flat, labels, quantized.codebook[offset:].astype(np.float64), offset, covariance, refits
    )
    codebook = np.concatenate([quantized.codebook[:offset], levels.astype(quantized.codebook.dtype)])
    return drop_unused(replace(quantized, indices=labels.reshape(weights.shape), codebook=codebook))


def round_to_outputs_and_bits(
    weights: NDArray[Any],
    quantized: QuantizedTensor,
    lagrangian: float,
    covariance: InputCovariance | None = None,
    *,
    refits: int = REFITS,
) -> QuantizedTensor:
    """The same for entropy-constrained quantization: what changes in the outputs, against the coder's bits.

    Coordinate descent is on eᵀ H e + λ Σ bits, with the ideal code lengths of the labels as they stand
    before each round, zero among them; the positions of zeros do not count. Then levels move, all but zero.

    Args:
        weights: ``(out, …)``, finite; weights of 0 (pruned ones) stay 0.
        quantized: where to start: 0 at index 0, the other levels ascending behind it.
        lagrangian: λ over the mean squared weight that is not zero, times the mean of H's diagonal.
        covariance: of the inputs; :func:`prior_covariance` unless given.
        refits: how often the levels move; 0 keeps them.

    Raises:
        TensorError: where weights are not finite, or the covariance does not fit them.
    """
    check_finite(weights)
    if not weights.size or few_distinct(weights, quantized.codebook.size):
        return quantized
    covariance = covariance or prior_covariance(weights.shape)
    flat = _rows(weights, covariance)
    own = float(np.diag(covariance.within).mean()) + covariance.between
    scale = lagrangian * own * float(np.mean(flat[flat != 0].astype(np.float64) ** 2))
    order = np.argsort(quantized.codebook, kind="stable")  # zero comes to its place among the levels
    labels = np.argsort(order).astype(quantized.indices.dtype)[quantized.indices].reshape(flat.shape)
    levels = quantized.codebook[order].astype(np.float64)
    levels, zero = _descend_with_bits(flat, labels, levels, covariance, scale, refits)
    first = np.r_[zero, np.delete(np.arange(levels.size), zero)]
    indices = np.argsort(first).astype(labels.dtype)[labels].reshape(weights.shape)
    codebook = levels[first].astype(quantized.codebook.dtype)
    return drop_unused(replace(quantized, indices=indices, codebook=codebook))


def _rows(weights: NDArray[Any], covariance: InputCovariance) -> NDArray[Any]:
    """Weights as rows for the compiled passes, ``(rows, n)``."""
    rows = weights.shape[0] if weights.ndim > 1 else 1
    flat = np.ascontiguousarray(weights).reshape(rows, -1)
    if flat.shape[1] % covariance.within.shape[0]:
        raise TensorError(
            f"a covariance of {covariance.within.shape[0]} inputs does not fit rows of "
            f"{flat.shape[1]} weights"
        )
    # Numba does not know float16.
    return flat.astype(np.float32) if flat.dtype == np.float16 else flat


def _descend_with_bits(
    weights: NDArray[Any],
    labels: NDArray[Any],
    levels: NDArray[np.float64],
    covariance: InputCovariance,
    scale: float,
    refits: int,
) -> tuple[NDArray[np.float64], int]:
    """The levels after rounds of sweeps and refits, ascending, and which is zero; labels change in place."""
    from featherweight.quantization.output_aware_kernel import descend  # which loads Numba

    within = np.ascontiguousarray(covariance.within, np.float64)
    between = float(covariance.between)
    for left in range(refits, -1, -1):
        counts = np.bincount(labels.reshape(-1), minlength=levels.size)
        costs = -scale * np.log2((counts + 0.5) / (counts.sum() + 0.5 * counts.size))
        moves = descend(weights, labels, levels, 0, True, within, between, SWEEPS, costs)
        if not left or not moves:
            break
        levels = _refitted(weights, labels, levels, covariance, offset=0, fixed=levels == 0)
    return levels, int(np.flatnonzero(levels == 0)[0])


def _descend(
    weights: NDArray[Any],
    labels: NDArray[Any],
    levels: NDArray[np.float64],
    offset: int,
    covariance: InputCovariance,
    refits: int,
) -> NDArray[np.float64]:
    """The levels after sweeps and refits in turn; labels change in place."""
    from featherweight.quantization.output_aware_kernel import descend  # which loads Numba

    within = np.ascontiguousarray(covariance.within, np.float64)
    between = float(covariance.between)
    free = np.empty(0)  # no level costs anything
    descend(weights, labels, levels, offset, bool(offset), within, between, SWEEPS, free)
    for _ in range(refits):
        levels = _refitted(weights, labels, levels, covariance, offset=offset)
        if not descend(weights, labels, levels, offset, bool(offset), within, between, SWEEPS, free):
            break
    return levels


def _refitted(
    weights: NDArray[Any],
    labels: NDArray[Any],
    levels: NDArray[np.float64],
    covariance: InputCovariance,
    *,
    offset: int,
    fixed: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Levels where they are best for these labels, ascending; labels follow in place.

    With an ``offset`` zeros stay, and so they do where a level is ``fixed``, which is the zero.
    """
    from featherweight.quantization.output_aware_kernel import normal_equations

    within = np.ascontiguousarray(covariance.within, np.float64)
    zeros_stay = bool(offset) or fixed is not None
    matrix, right = normal_equations(
        weights, labels, levels.size, offset, zeros_stay, within, float(covariance.between)
    )
    used = np.diag(matrix) > 0
    if fixed is not None:
        used &= ~fixed
    moved = levels.copy()
    # Scaled to a diagonal of 1, where what cannot be told apart stays as it is.
    scale = 1 / np.sqrt(np.diag(matrix)[used])
    gap = right[used] - matrix[np.ix_(used, used)] @ levels[used]
    scaled = matrix[np.ix_(used, used)] * scale[:, None] * scale
    moved[used] += scale * np.linalg.lstsq(scaled, scale * gap, rcond=1e-10)[0]
    order = np.argsort(moved, kind="stable")
    rank = np.empty(order.size + offset, labels.dtype)
    rank[:offset] = 0
    rank[order + offset] = np.arange(order.size) + offset
    labels[...] = rank[labels]
    return moved[order]
