"""What ``bits: auto`` may cost."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from featherweight.errors import RecipeError
from featherweight.strict import one_of

#: What an error of a tensor is judged by.
SENSITIVITIES = ("weights", "fisher", "loss")

_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


@dataclass(frozen=True)
class Budget:
    """How large the tensors whose rules say ``bits: auto`` may be; one of ``size`` and ``mean_bits``.

    Attributes:
        size: of the whole file, in bytes or as a text such as ``100KB`` (1,000 bytes) or ``64KiB``.
        mean_bits: of those tensors: bits of their payloads in the file (codes and codebooks) a weight, zeros
            counted.
        min_bits: the fewest that a tensor may get.
        max_bits: the most.
        sensitivity: what an error costs: ``weights``, the squared error over the power that the tensor keeps,
            which needs no data; ``fisher``, the squared error weighed by the Fisher diagonal; ``loss``, the
            rise of the loss with this tensor alone quantized. ``fisher`` where there are data, ``weights``
            elsewhere, unless given.
    """

    size: str | int | None = None
    mean_bits: float | None = None
    min_bits: int = 2
    max_bits: int = 8
    sensitivity: str | None = None

    def __post_init__(self) -> None:
        if (self.size is None) == (self.mean_bits is None):
            raise RecipeError("a budget has either size (of the file) or mean_bits (a weight)")
        if self.mean_bits is not None and not 0 < self.mean_bits < math.inf:
            raise RecipeError(f"mean_bits must be above 0, got {self.mean_bits}")
        if self.size is not None and parse_size(self.size) < 1:
            raise RecipeError(f"size must be at least 1 byte, got {self.size}")
        if not 1 <= self.min_bits <= self.max_bits <= 16:
            raise RecipeError(
                f"bits lie between min_bits of at least 1 and max_bits of at most 16, "
                f"got {self.min_bits} and {self.max_bits}"
            )
        if self.sensitivity is not None:
            one_of("sensitivity", self.sensitivity, SENSITIVITIES)

    @property
    def file_bytes(self) -> int | None:
        """``size`` in bytes."""
        return None if self.size is None else parse_size(self.size)

    @property
    def needs_data(self) -> bool:
        """Whether the sensitivity can only be had with data."""
        return self.sensitivity in ("fisher", "loss")


def parse_size(size: str | int) -> int:
    """Bytes of a text such as ``100KB``, ``1.5 MB`` or ``64KiB``; fractions of a byte are dropped.

    Raises:
        RecipeError: where it cannot be meant as a size.
    """
    found = _SIZE.fullmatch(str(size))
    if found is None or found[2].upper() not in _UNITS:
        raise RecipeError(f"size is a number of bytes or a text such as 100KB or 64KiB, got {size!r}")
    return int(float(found[1]) * _UNITS[found[2].upper()])
