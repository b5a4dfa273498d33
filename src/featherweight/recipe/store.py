"""How a rule stores what it does not quantize."""

from __future__ import annotations

from dataclasses import dataclass

from featherweight.errors import RecipeError
from featherweight.strict import one_of

#: Formats that values can be rounded to, by their bits, the usual one first.
STORE_DTYPES = {16: ("float16", "bfloat16"), 8: ("fixed_point", "float8_e4m3fn", "float8_e5m2")}


@dataclass(frozen=True)
class Store:
    """How a rule stores float tensors that it does not quantize: biases, batch normalisation and the like.

    Values are rounded when the network is encoded; the tensor keeps its own dtype.

    Attributes:
        bits: of each value, 16 or 8.
        dtype: what values are rounded to: of 16 bits ``float16`` or ``bfloat16``, of 8 ``fixed_point`` (as
            many integer bits as the largest magnitude needs), ``float8_e4m3fn`` or ``float8_e5m2``. The
            first unless given.
    """

    bits: int = 16
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.bits not in STORE_DTYPES:
            raise RecipeError(f"values are stored in 16 or 8 bits, got {self.bits}")
        if self.dtype is not None:
            one_of(f"dtype of {self.bits} bits", self.dtype, STORE_DTYPES[self.bits])

    @property
    def format(self) -> str:
        """What values are rounded to."""
        return STORE_DTYPES[self.bits][0] if self.dtype is None else self.dtype
