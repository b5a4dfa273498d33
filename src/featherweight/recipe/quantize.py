"""How a rule quantizes."""

from __future__ import annotations

from dataclasses import dataclass

from featherweight.errors import RecipeError
from featherweight.quantization import INITIALIZATIONS
from featherweight.strict import one_of

QUANTIZERS = ("kmeans",)


@dataclass(frozen=True)
class Quantize:
    """How a rule quantizes.

    Attributes:
        method: ``kmeans``.
        bits: the codebook holds at most 2^bits values, 1 to 8.
        init: where k-means starts: ``linear``, ``density`` or ``forgy``.
        fix_zeros: pruned weights stay exactly zero, beside 2^bits − 1 centroids.
        seed: for the random initializations.
    """

    method: str = "kmeans"
    bits: int = 5
    init: str = "linear"
    fix_zeros: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("method", self.method, QUANTIZERS)
        one_of("init", self.init, tuple(INITIALIZATIONS))
        if not 1 <= self.bits <= 8:
            raise RecipeError(f"bits must be between 1 and 8, got {self.bits}")
