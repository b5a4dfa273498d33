"""Weights in ascending order with sums over their prefixes, which is all that one dimension needs.

A cluster is then a slice, and its mass, mean and squared error are differences of a few sums, whatever the
number of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Without importance, sums are kept for every so many weights only: a 32nd of the weights' own memory.
BLOCK = 64

#: Weights converted to float64 at a time.
_CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class SortedWeights:
    """Sorted weights, each of mass 1 or of its importance.

    Attributes:
        values: ascending, shape ``(n,)``.
        mass: the importance of each, float64 ``(n,)`` and not negative; ``None`` for 1 each.
    """

    values: NDArray[Any]
    mass: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, weights: NDArray[Any], importance: NDArray[Any] | None = None) -> SortedWeights:
        """Sort weights of any shape, with importance of the same shape if there is one."""
        if importance is None:
            return cls(np.sort(weights, axis=None))
        flat = weights.reshape(-1)
        order = np.argsort(flat, kind="stable")
        return cls(flat[order], importance.reshape(-1)[order].astype(np.float64))

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.values.size

    def masses(self, borders: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mass of each slice between neighbouring borders (positions ``0 … n``), ``(len(borders) − 1,)``."""
        if self.mass is None:
            return np.diff(borders).astype(np.float64)
        return np.diff(self._mass_prefix[borders])

    def sums(self, borders: NDArray[np.int64], power: int = 1) -> NDArray[np.float64]:
        """Sum of mass · value^power (1 or 2) over each slice between neighbouring borders."""
        prefix = self._first if power == 1 else self._second
        if self.mass is not None:
            return np.diff(prefix[borders])
        if not self.size:
            return np.zeros(borders.size - 1)
        start = borders // BLOCK * BLOCK
        reach = start[:, None] + np.arange(BLOCK)  # (borders, BLOCK)
        inside = reach < borders[:, None]
        rest = self.values[np.where(inside, reach, 0)].astype(np.float64) ** power
        return np.diff(prefix[borders // BLOCK] + np.where(inside, rest, 0.0).sum(axis=1))

    @cached_property
    def _mass_prefix(self) -> NDArray[np.float64]:
        return _cumulative(np.asarray(self.mass))

    @cached_property
    def _first(self) -> NDArray[np.float64]:
        return self._prefix(1)

    @cached_property
    def _second(self) -> NDArray[np.float64]:
        return self._prefix(2)

    def _prefix(self, power: int) -> NDArray[np.float64]:
        if self.mass is not None:
            return _cumulative(self.mass * self.values.astype(np.float64) ** power)
        blocks = np.empty(self.size // BLOCK)
        step = _CHUNK // BLOCK
        for first in range(0, blocks.size, step):
            part = self.values[first * BLOCK : min(first + step, blocks.size) * BLOCK].astype(np.float64)
            powered = part if power == 1 else part * part
            blocks[first : first + step] = powered.reshape(-1, BLOCK).sum(axis=1)
        return _cumulative(blocks)


def _cumulative(values: NDArray[Any]) -> NDArray[np.float64]:
    prefix = np.zeros(values.size + 1)
    np.cumsum(values, out=prefix[1:])
    return prefix
