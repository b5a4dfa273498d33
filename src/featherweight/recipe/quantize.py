"""How a rule quantizes."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from featherweight.errors import RecipeError
from featherweight.quantization import (
    INITIALIZATIONS,
    RATES,
    quantize_ecsq,
    quantize_fixed_point,
    quantize_kmeans,
    quantize_optimal,
    quantize_ternary,
    quantize_uniform,
    round_to_outputs,
    round_to_outputs_and_bits,
)
from featherweight.strict import one_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from featherweight.tensors import QuantizedTensor

#: In place of a number of bits: chosen for each tensor.
AUTO = "auto"

#: Where the importance of single weights comes from.
WEIGHTS = ("fisher", "adam")

#: How weights come to their levels: each to the nearest, or so that the layer's outputs change least.
ROUNDINGS = ("nearest", "outputs")

#: Zeros are taken for pruned weights, unless a rule says, where they are more than this fraction.
_PRUNED_FROM = 0.01

#: What codebook values can be rounded to.
CODEBOOK_DTYPES = ("float16", "bfloat16")


@dataclass(frozen=True)
class Quantize:
    """How a rule quantizes.

    Attributes:
        method: a name in :data:`METHODS`.
        bits: the codebook holds at most 2^bits values, 1 to 8; ``uniform`` up to 16, ``fixed_point`` 2 to 16.
            ``auto``: chosen for each tensor under the recipe's ``budget``.
        init: where k-means starts: a name in :data:`~featherweight.quantization.INITIALIZATIONS`.
        fix_zeros: pruned weights stay exactly zero, beside 2^bits − 1 centroids; ``None`` where more than one
            weight in a hundred is zero.
        seed: for the random initializations.
        weights: ``fisher`` or ``adam``: squared errors count by what they cost the loss.
        lagrangian: of ``ecsq``: the squared error that a bit is worth, a fraction of the mean squared weight.
        rate: of ``ecsq``: ``context`` or ``entropy``, the coder whose bits are counted.
        integer_bits: of ``fixed_point``, the sign included; as few as will do unless given.
        fraction_bits: of ``fixed_point``; with ``integer_bits``, ``bits`` may be left out.
        threshold: of ``ttq``: Δ over the layer's largest magnitude.
        float_ends: of ``ttq``: the first and the last layer of the network stay as they are.
        scale_lr: of ``ttq``: the learning rate of W_p and W_n over that of the weights.
        per_channel: each row (output channel) of a tensor by itself, with levels of its own.
        transposed: matrices are stored ``(in, out)``, as transformers' ``Conv1D`` does: their columns are the
            output channels of ``per_channel`` and of ``rounding: outputs``.
        codebook_dtype: round shared values to ``float16`` or ``bfloat16``, so that each takes 16 bits.
        rounding: of ``kmeans``, ``optimal`` and ``ecsq``: ``nearest``, or ``outputs``, which keeps what
            layers give rather than their weights (:mod:`featherweight.quantization.output_aware`).
        update_labels: at the start of each later epoch of training, weights go to their nearest centroid.
        re_quantize: at the start of each later epoch of training, quantize anew.
        incremental: of ``kmeans``, ``optimal`` and ``uniform``: the fractions of the weights that have taken
            their shared value in each epoch of training, ascending to 1; the others train on, in full
            precision (incremental network quantization, Zhou et al. 2017).
    """

    method: str = "kmeans"
    bits: str | int = 5
    init: str = "linear"
    fix_zeros: bool | None = True
    seed: int = 0
    weights: str | None = None
    lagrangian: float | None = None
    rate: str = "context"
    integer_bits: int | None = None
    fraction_bits: int | None = None
    threshold: float = 0.05
    float_ends: bool = True
    scale_lr: float = 1.0
    per_channel: bool = False
    transposed: bool = False
    codebook_dtype: str | None = None
    rounding: str = "nearest"
    update_labels: bool = False
    re_quantize: bool = False
    incremental: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        one_of("method", self.method, tuple(METHODS))
        one_of("init", self.init, tuple(INITIALIZATIONS))
        one_of("rate", self.rate, RATES)
        one_of("rounding", self.rounding, ROUNDINGS)
        if self.weights is not None:
            one_of("weights", self.weights, WEIGHTS)
        if self.codebook_dtype is not None:
            one_of("codebook_dtype", self.codebook_dtype, CODEBOOK_DTYPES)
        self._check_options()
        if self.method == "fixed_point":
            self._settle_fixed_point()
        if self.method == "ttq":
            self._settle_ternary()
        self._check_bits()
        if self.method == "ecsq" and (self.lagrangian is None or not self.lagrangian >= 0):
            raise RecipeError(f"ecsq needs a lagrangian of at least 0, got {self.lagrangian}")
        if self.update_labels and self.re_quantize:
            raise RecipeError("give either update_labels or re_quantize: the latter updates labels, too")
        self._check_incremental()
        if self.per_channel and self.weights is not None:
            raise RecipeError("give either weights or per_channel: rows of their own are not weighed")
        if self.rounding != "nearest" and (self.weights is not None or self.update_labels):
            other = "weights" if self.weights is not None else "update_labels"
            raise RecipeError(
                f"give either rounding: {self.rounding} or {other}: they assign weights otherwise"
            )
        if self.method in ("ecsq", "fixed_point", "ttq") and not self.fix_zeros:
            raise RecipeError(f"zero is a value of {self.method}: fix_zeros cannot be false")

    def _check_incremental(self) -> None:
        stages = tuple(map(float, self.incremental))
        object.__setattr__(self, "incremental", stages)
        if not stages:
            return
        if list(stages) != sorted(set(stages)) or not stages[0] > 0 or stages[-1] != 1:
            raise RecipeError(
                f"incremental lists fractions above 0 that ascend to 1, such as [0.5, 0.75, 0.9, 1], "
                f"got {list(stages)}"
            )
        for other in ("update_labels", "re_quantize", "per_channel"):
            if getattr(self, other):
                raise RecipeError(f"give either incremental or {other}")
        if self.rounding != "nearest":
            raise RecipeError(f"incremental rounds to the nearest value; leave out rounding: {self.rounding}")

    def _check_bits(self) -> None:
        low, high = METHODS[self.method].bits
        if isinstance(self.bits, int):
            if not low <= self.bits <= high:
                raise RecipeError(f"bits must be between {low} and {high}, got {self.bits}")
        elif self.bits != AUTO:
            raise RecipeError(f"bits must be between {low} and {high}, or {AUTO}, got {self.bits!r}")
        elif low == high:
            raise RecipeError(f"{self.method} has {low} bits and no others; leave out bits: {AUTO}")
        elif self.integer_bits is not None or self.fraction_bits is not None:
            raise RecipeError(f"integer_bits and fraction_bits go with bits in numbers, not with {AUTO}")

    @property
    def auto(self) -> bool:
        """Whether bits are chosen for each tensor under the recipe's budget."""
        return self.bits == AUTO

    @property
    def width(self) -> int:
        """The bits as a number.

        Raises:
            RecipeError: where they are still to be chosen.
        """
        if not isinstance(self.bits, int):
            raise RecipeError(f"bits: {AUTO} are not chosen yet; choose_bits chooses them")
        return self.bits

    @property
    def widths(self) -> range:
        """The bits that the method can have."""
        low, high = METHODS[self.method].bits
        return range(low, high + 1)

    def settled(self, name: str, bits: Mapping[str, int]) -> Quantize:
        """The same for one tensor, with its bits in place of ``auto``.

        Args:
            name: of the tensor.
            bits: the recipe's, by name of the tensor.

        Raises:
            RecipeError: where they are missing or not those of the method.
        """
        if not self.auto:
            return self
        if name not in bits:
            raise RecipeError(f"{name}: bits: {AUTO}, and the recipe's bits do not name it")
        try:
            return replace(self, bits=bits[name])
        except RecipeError as error:
            raise RecipeError(f"{name}: {error}") from None

    def _check_options(self) -> None:
        """Refuse an option that the method does not have."""
        for field in fields(self):
            if field.name in _OF_ALL or getattr(self, field.name) == field.default:
                continue
            if field.name not in METHODS[self.method].options:
                having = [name for name, method in METHODS.items() if field.name in method.options]
                raise RecipeError(
                    f"{field.name} is an option of {' and '.join(having)}, not of {self.method}"
                )

    def _settle_fixed_point(self) -> None:
        i, f = self.integer_bits, self.fraction_bits
        if i is not None and f is not None:
            if self.bits not in (i + f, Quantize.bits, AUTO):
                raise RecipeError(f"bits must be integer_bits + fraction_bits = {i + f}, got {self.bits}")
            if not self.auto:
                object.__setattr__(self, "bits", i + f)
        elif f is not None and not self.auto:
            object.__setattr__(self, "integer_bits", self.width - f)

    def _settle_ternary(self) -> None:
        if self.bits not in (2, Quantize.bits):
            raise RecipeError(f"ttq has three values, 2 bits, got {self.bits} bits")
        object.__setattr__(self, "bits", 2)
        if not 0 <= self.threshold < 1:
            raise RecipeError(f"threshold is a fraction from 0 to below 1, got {self.threshold}")
        if not self.scale_lr > 0:
            raise RecipeError(f"scale_lr must be above 0, got {self.scale_lr}")

    def leaves_float(self, name: str, ends: set[str]) -> bool:
        """Whether a tensor stays as it is, where ``ends`` are the network's first and last layer."""
        return self.method == "ttq" and self.float_ends and name in ends

    def keeps_zeros(self, zero_fraction: float) -> bool:
        """Whether zeros stay zero in a tensor of which this fraction is zero."""
        return bool(zero_fraction > _PRUNED_FROM) if self.fix_zeros is None else self.fix_zeros

    def apply(
        self, weights: NDArray[Any], importance: NDArray[Any] | None = None, power: float | None = None
    ) -> QuantizedTensor:
        """Quantize one tensor by this rule's method, before any rounding of its codebook.

        Args:
            weights: float16, float32 or float64, any shape.
            importance: of single weights, in their shape.
            power: mean of importance · weight² over all tensors that are weighed against each other.

        Raises:
            TensorError: where weights are not finite.
        """
        spec = self
        if self.fix_zeros is None:
            zeros = 1 - np.count_nonzero(weights) / max(1, weights.size)
            spec = replace(self, fix_zeros=self.keeps_zeros(zeros))
        quantized = METHODS[self.method].apply(weights, spec, importance, power)
        if self.rounding == "outputs" and self.method == "ecsq":
            return round_to_outputs_and_bits(weights, quantized, self.lagrangian or 0.0)
        if self.rounding == "outputs":
            return round_to_outputs(weights, quantized, zeros_stay=bool(spec.fix_zeros))
        return quantized


#: ``(weights, rule, importance of each, power) -> quantized``.
_Apply: TypeAlias = "Callable[[NDArray[Any], Quantize, NDArray[Any] | None, float | None], QuantizedTensor]"

#: Options that make sense for every method.
_OF_ALL = {"method", "bits", "fix_zeros", "codebook_dtype"}


@dataclass(frozen=True)
class Method:
    """A method by the name that a recipe uses.

    Attributes:
        apply: quantizes one tensor.
        options: fields of :class:`Quantize` that it has beside those of all methods.
        bits: fewest and most.
    """

    apply: _Apply
    options: frozenset[str]
    bits: tuple[int, int] = (1, 8)


_TRAINED = {"update_labels", "re_quantize"}
#: To the nearest value, as ECSQ does not.
_NEAREST = {*_TRAINED, "incremental"}

METHODS: dict[str, Method] = {
    "kmeans": Method(
        lambda w, q, h, _: quantize_kmeans(w, q.width, q.init, bool(q.fix_zeros), q.seed, h),
        frozenset({"init", "seed", "weights", "per_channel", "rounding", "transposed", *_NEAREST}),
    ),
    "optimal": Method(
        lambda w, q, h, _: quantize_optimal(w, q.width, bool(q.fix_zeros), h),
        frozenset({"weights", "per_channel", "rounding", "transposed", *_NEAREST}),
    ),
    "ecsq": Method(
        lambda w, q, h, power: quantize_ecsq(
            w, q.width, q.lagrangian or 0.0, h, q.init, q.seed, q.rate, power
        ),
        frozenset({"init", "seed", "weights", "lagrangian", "rate", "rounding", *_TRAINED}),
    ),
    "uniform": Method(
        lambda w, q, _h, _p: quantize_uniform(w, q.width, bool(q.fix_zeros)),
        frozenset({"per_channel", "transposed", *_NEAREST}),
        bits=(1, 16),
    ),
    "fixed_point": Method(
        lambda w, q, _h, _p: quantize_fixed_point(w, q.width, q.integer_bits),
        frozenset({"integer_bits", "fraction_bits"}),
        bits=(2, 16),
    ),
    "ttq": Method(
        lambda w, q, _h, _p: quantize_ternary(w, q.threshold),
        frozenset({"threshold", "float_ends", "scale_lr"}),
        bits=(2, 2),
    ),
}

#: Methods by the name that a recipe uses.
QUANTIZERS = tuple(METHODS)
