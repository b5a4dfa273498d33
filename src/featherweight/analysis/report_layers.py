"""What a report shows of each layer: its weights before and after, and where those are that are left."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.numpy import to_array
from featherweight.tensors import QuantizedTensor, RawTensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from featherweight.analysis.sizes import TensorSizes
    from featherweight.fileformat import FileReader

BINS = 64

#: Of the weights before, this part is in sight: a few far ones would leave the others a thin line.
_IN_SIGHT = 0.999

#: Room beyond the farthest shared value.
_MARGIN = 1.04

#: Weights that say what is in sight, and that are looked at in one go.
_SAMPLE, _CHUNK = 1 << 20, 1 << 22

#: Beyond it a range of doubles has no width.
_GREATEST = 1e300

#: No layer whose cells are all emptier than this has the full colour.
_FULL_COLOUR = 0.25

#: Cells of a picture at most, down and across.
MOST_ROWS, MOST_COLUMNS = 144, 288


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often each weight is there; zeros are left out.

    Attributes:
        limit: the bins share the range from minus this to this.
        before: weights of the dense network in each bin, ``(BINS,)``; ``None`` where it is not known.
        after: those of the file, ``(BINS,)``.
        values: the values that they share, ascending, if they do.
        counts: how many have each.
        outside: weights of the file that are farther out.
    """

    limit: float
    before: NDArray[np.int64] | None
    after: NDArray[np.int64]
    values: NDArray[np.float64] | None
    counts: NDArray[np.int64] | None
    outside: int


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer as a report shows it.

    Attributes:
        sizes: of its weights.
        histogram: ``None`` where there is nothing but zeros, or no numbers on a line.
        density: fraction of weights that are not zero in each cell, ``(rows, columns)``; the weights stand
            as ``(out, all other dimensions)``. ``None`` where there are no weights.
        not_finite: weights that are NaN or infinite.
    """

    sizes: TensorSizes
    histogram: Histogram | None
    density: NDArray[np.float64] | None
    not_finite: int


def choose_layers(reader: FileReader, most: int) -> list[str]:
    """Names of the layers to show: those of two or more dimensions with the most weights.

    Args:
        reader: the open file.
        most: how many at most.
    """
    infos = [info for info in map(reader.info, reader.names) if info.alias_of is None and info.numel]
    layers = [info for info in infos if len(info.shape) > 1] or infos
    return [info.name for info in sorted(layers, key=lambda info: -info.numel)[:most]]


def look_at(
    sizes: TensorSizes, tensor: RawTensor | QuantizedTensor, dense: Callable[[], NDArray[Any]] | None = None
) -> Layer:
    """Draw up what is to be shown of a layer.

    Args:
        sizes: of the tensor.
        tensor: as the file has it.
        dense: gives the weights of the dense network, in any shape, where they are known.
    """
    nonzero, values, counts = _values_of(tensor)
    finite = np.isfinite(values) if values.dtype.kind in "fc" else np.ones(values.shape, bool)
    broken = int(counts[~finite].sum()) if counts is not None else int((~finite).sum())
    rows = nonzero.shape[0] if nonzero.ndim else 1
    density = density_grid(nonzero.reshape(rows, -1)) if nonzero.size else None
    histogram = None
    if values.dtype.kind != "c":
        weights = values[finite].astype(np.float64)
        histogram = _histogram(weights, None if counts is None else counts[finite], dense)
    return Layer(sizes, histogram, density, broken)


def _values_of(
    tensor: RawTensor | QuantizedTensor,
) -> tuple[NDArray[np.bool_], NDArray[Any], NDArray[np.int64] | None]:
    """Where a tensor is not zero, and its values there: each once with its count where they are shared."""
    if isinstance(tensor, QuantizedTensor):
        used = np.bincount(tensor.indices.reshape(-1), minlength=tensor.codebook.size)
        there = (tensor.codebook != 0) & (used > 0)
        order = np.argsort(tensor.codebook[there], kind="stable")
        nonzero = (tensor.codebook != 0)[tensor.indices]
        return np.asarray(nonzero), tensor.codebook[there][order], used[there][order]
    array = to_array(tensor)
    nonzero = np.asarray(array != 0)
    return nonzero, array[nonzero], None


def _histogram(
    weights: NDArray[np.float64], counts: NDArray[np.int64] | None, dense: Callable[[], NDArray[Any]] | None
) -> Histogram | None:
    before = None if dense is None else dense().reshape(-1)
    limit = _limit(weights, before, shared=counts is not None)
    if not limit:
        return None
    after = np.zeros(BINS, np.int64)
    if counts is None:
        after = _count(weights, limit)
    else:
        places, inside = _bins(weights, limit)
        np.add.at(after, places, counts[inside])
    total = weights.size if counts is None else int(counts.sum())
    return Histogram(
        limit,
        None if before is None else _count(before, limit),
        after,
        None if counts is None else weights,
        counts,
        total - int(after.sum()),
    )


def _limit(weights: NDArray[np.float64], before: NDArray[Any] | None, *, shared: bool) -> float:
    """How far the picture goes: all shared values are in it, and nearly all others."""
    limits = [0.0]
    if weights.size:
        limits.append(_MARGIN * float(np.abs(weights).max()) if shared else _far(weights))
    if before is not None:
        limits.append(_far(before))
    return min(max(limits), _GREATEST)


def _far(weights: NDArray[Any]) -> float:
    sample = weights[:: max(1, weights.size // _SAMPLE)].astype(np.float64)
    sample = np.abs(sample[np.isfinite(sample) & (sample != 0)])
    return float(np.quantile(sample, _IN_SIGHT)) if sample.size else 0.0


def _count(weights: NDArray[Any], limit: float) -> NDArray[np.int64]:
    """Nonzero weights in each bin; those that are not finite or farther out in none."""
    counts = np.zeros(BINS, np.int64)
    for start in range(0, weights.size, _CHUNK):
        chunk = weights[start : start + _CHUNK].astype(np.float64)
        places, _ = _bins(chunk[chunk != 0], limit)
        counts += np.bincount(places, minlength=BINS)
    return counts


def _bins(weights: NDArray[np.float64], limit: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The bins of the weights that are in sight, and which are."""
    inside = np.abs(weights) <= limit  # false for NaN
    places = ((weights[inside] / limit + 1) * (BINS / 2)).astype(np.int64)
    return np.minimum(places, BINS - 1), inside


def density_grid(
    nonzero: NDArray[np.bool_], most_rows: int = MOST_ROWS, most_columns: int = MOST_COLUMNS
) -> NDArray[np.float64]:
    """A matrix in coarser cells: the fraction of each that is not zero.

    Args:
        nonzero: ``(rows, columns)``, neither of them 0.
        most_rows: cells down, at most.
        most_columns: cells across, at most.

    Returns:
        ``(min(rows, most_rows), min(columns, most_columns))``.
    """
    rows, columns = nonzero.shape
    down, across = _starts(rows, most_rows), _starts(columns, most_columns)
    # A block of rows at a time, so that the sums of a large matrix stay small.
    sums = np.stack(
        [np.add.reduceat(block.sum(axis=0, dtype=np.int64), across) for block in _blocks(nonzero, down)]
    )
    areas = np.outer(np.diff(down, append=rows), np.diff(across, append=columns))
    density: NDArray[np.float64] = sums / areas
    return density


def _starts(size: int, most: int) -> NDArray[np.int64]:
    cells = min(size, most)
    return np.arange(cells, dtype=np.int64) * size // cells


def _blocks(matrix: NDArray[np.bool_], starts: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    ends = [*starts[1:].tolist(), matrix.shape[0]]
    return (matrix[start:end] for start, end in zip(starts.tolist(), ends, strict=True))


def strengths(density: NDArray[np.float64], levels: int) -> tuple[NDArray[np.uint8], float]:
    """Cells as levels of a colour, any that is not empty above 0.

    Levels go with the root of the density, so that sparse cells can be told from empty ones. The highest is
    that of the fullest cell, or of a quarter where all are emptier: a sparse layer is pale as a whole.

    Returns:
        The levels, and the density of the fullest cell.
    """
    fullest = float(density.max())
    if not fullest:
        return np.zeros(density.shape, np.uint8), 0.0
    return np.ceil(np.sqrt(density / max(fullest, _FULL_COLOUR)) * (levels - 1)).astype(np.uint8), fullest


def picture_size(rows: int, columns: int, width: int = 320, most_height: int = 160) -> tuple[int, int]:
    """Width and height at which a picture of so many cells is shown, in pixels.

    Cells are square where that fits; a matrix that is very wide or very tall is stretched.
    """
    height = round(width * rows / columns)
    if height > most_height:
        return max(math.ceil(width / 4), round(most_height * columns / rows)), most_height
    return width, max(height, 12)
