"""The same network by other means: what ``results/compare.json`` holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featherweight.errors import RecipeError
from featherweight.strict import build, read_mapping

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class ComparedRow:
    """One way to store a network.

    Attributes:
        what: the way.
        bytes: of the file.
        error_percent: top-1 error on the test set of what comes back from it.
    """

    what: str
    bytes: int
    error_percent: float | None = None

    def __post_init__(self) -> None:
        if self.bytes < 1:
            raise RecipeError(f"bytes must be above 0, got {self.bytes}")


@dataclass(frozen=True)
class ComparedNetwork:
    """One network and all ways to store it.

    Attributes:
        name: of the result.
        dense_bytes: of the float network.
        rows: the ways.
        missing: what could not be measured, and why.
    """

    name: str
    dense_bytes: int
    rows: tuple[ComparedRow, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """All networks, and the versions that they were measured with."""

    networks: tuple[ComparedNetwork, ...]
    versions: tuple[str, ...] = ()


def load_comparison(path: str | Path) -> Comparison:
    """Read a comparison.

    Raises:
        RecipeError: for anything that cannot be meant as written.
    """
    return build(Comparison, read_mapping(path), str(path))
