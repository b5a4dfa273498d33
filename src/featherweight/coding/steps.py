"""Whether numbers are multiples of a step, or evenly spaced, up to rounding: the search that a writer makes.

A search may miss a step that is there or find one that is not exact to the last bit: the caller tries it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A number has less than so many steps.
MOST_STEPS = 1 << 24

#: What a power of two may be to be stored.
LEAST_POWER, MOST_POWER = -192, 63

#: Steps in a search for a first value.
_BISECTIONS = 60


def power_of_two(values: NDArray[Any]) -> int | None:
    """The exponent of the greatest power of two that all values are multiples of; ``None`` for a bad one."""
    parts = [math.frexp(value) for value in values.tolist() if value]
    if not parts:
        return None
    wholes = [(abs(int(math.ldexp(fraction, 53))), power - 53) for fraction, power in parts]
    exponent = min(power + (whole & -whole).bit_length() - 1 for whole, power in wholes)
    greatest = max(power for _, power in parts)
    fits = LEAST_POWER <= exponent <= MOST_POWER and 1 << max(greatest - exponent, 0) <= MOST_STEPS
    return exponent if fits else None


def _half_steps(values: NDArray[Any]) -> NDArray[np.float64]:
    """How far a number may be from each value that it is rounded to."""
    with np.errstate(over="ignore", invalid="ignore"):
        spacings: NDArray[np.float64] = np.spacing(np.abs(values)).astype(np.float64)
    return spacings / 2


def find_step(values: NDArray[Any]) -> tuple[list[int], tuple[float, float]] | None:
    """The multiples that values are of a common step, and bounds of the step; ``None`` if there is none."""
    wide = values.astype(np.float64)
    nonzero = np.abs(wide[wide != 0])
    with np.errstate(over="ignore"):
        unit = float(min(nonzero.min(), np.diff(wide).min()))
    if not 0 < float(nonzero.max()) / unit < MOST_STEPS:
        return None
    low, high = unit * 0.999, unit * 1.001
    multiples = [0] * values.size
    slack = _half_steps(values)
    for at in np.argsort(np.abs(wide), kind="stable").tolist():
        size = abs(float(wide[at]))
        number = round(size / ((low + high) / 2))
        multiples[at] = number if wide[at] > 0 else -number
        if number:
            low, high = max(low, (size - slack[at]) / number), min(high, (size + slack[at]) / number)
        if low > high or (number == 0) != (size == 0):
            return None
    return multiples, (low, high)


def likely_firsts(values: NDArray[Any]) -> list[float]:
    """The first value, and the one near it from which bounds of an even step are farthest apart."""
    first, slack = float(values[0]), float(_half_steps(values[:1])[0])
    low, high = first - slack, first + slack
    for _ in range(_BISECTIONS):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        (a, b), (c, d) = even_step(values, left), even_step(values, right)
        low, high = (low, right) if a - b < c - d else (left, high)
    return [first, (low + high) / 2]


def even_step(values: NDArray[Any], first: float) -> tuple[float, float]:
    """Bounds of the distance from each value to the next; the lower one is the greater if there is none."""
    with np.errstate(over="ignore", invalid="ignore"):
        rise = values[1:].astype(np.float64) - first
        number = np.arange(1, values.size)
        slack = _half_steps(values[1:])
        return float(((rise - slack) / number).max()), float(((rise + slack) / number).min())
