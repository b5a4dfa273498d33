"""What a rule's ``quantize`` and ``store`` do to the tensors of a model, at once or in training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from featherweight.constraints import FixedPoint, Incremental, Relabelled, Ternary
from featherweight.errors import RecipeError, TensorError
from featherweight.quantization import quantize_per_channel, round_codebook, round_to
from featherweight.quantization.fixed_point import choose_integer_bits
from featherweight.quantization.kmeans import few_distinct
from featherweight.quantization.weighted import adam_second_moments, fisher_diagonal, with_floor
from featherweight.tensors import FLOAT_DTYPES, QuantizedTensor

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.optim import Optimizer

    from featherweight.constraints import Constraints
    from featherweight.lazy import TensorSpec
    from featherweight.recipe import Quantize, Rule

logger = logging.getLogger(__name__)

#: Batches of ``(inputs, targets)``, and ``loss(outputs, targets)``.
Batches: TypeAlias = Iterable[tuple[torch.Tensor, torch.Tensor]]
Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

#: A rule and the parameters that it is for, by name.
RuleWeights: TypeAlias = "tuple[Rule, Mapping[str, torch.nn.Parameter]]"


def quantize(
    name: str,
    tensor: torch.Tensor,
    spec: Quantize,
    importance: torch.Tensor | None = None,
    power: float | None = None,
) -> QuantizedTensor:
    """Quantize one tensor as a rule says.

    A tensor that has no more distinct values than the codebook may hold keeps them, as after :func:`share`.

    Args:
        name: for errors.
        tensor: float16, bfloat16, float32 or float64.
        spec: the rule's.
        importance: of single weights, in the tensor's shape, where the rule asks for ``weights``.
        power: mean of importance · weight² over all tensors that are weighed against each other.

    Raises:
        TensorError: where weights are not finite, naming the tensor.
        RecipeError: where the rule asks for importance and there is none.
    """
    wide = tensor.detach().cpu()
    narrow = wide.dtype == torch.bfloat16  # NumPy has no bfloat16
    array = (wide.float() if narrow else wide).numpy()
    given = None if importance is None else importance.detach().cpu().double().numpy()
    if spec.weights is not None and given is None and not few_distinct(array, 2**spec.width):
        raise RecipeError(
            f"{name}: weights: {spec.weights} needs training data or an optimizer; use share, with data and "
            f"loss or with the optimizer, or leave weights out"
        )
    try:
        shared = _apply(array, spec, given, power)
        if spec.codebook_dtype is not None:
            shared = round_codebook(shared, spec.codebook_dtype)
    except TensorError as error:
        raise TensorError(f"{name}: {error}") from None
    if not narrow:
        return shared
    rounded = torch.from_numpy(shared.codebook).bfloat16().float().numpy()
    if spec.method == "fixed_point" and not np.array_equal(rounded, shared.codebook):
        raise TensorError(
            f"{name}: bfloat16 cannot hold all {spec.bits}-bit fixed-point numbers; take fewer bits"
        )
    return QuantizedTensor(shared.indices, rounded, dtype="bfloat16")


def _apply(
    array: NDArray[Any], spec: Quantize, importance: NDArray[Any] | None, power: float | None
) -> QuantizedTensor:
    if spec.transposed and array.ndim == 2:
        flipped = None if importance is None else np.ascontiguousarray(importance.T)
        shared = _apply(np.ascontiguousarray(array.T), replace(spec, transposed=False), flipped, power)
        return replace(shared, indices=np.ascontiguousarray(shared.indices.T))
    if not spec.per_channel:
        return spec.apply(array, importance, power)
    return quantize_per_channel(array, lambda row, h: spec.apply(row, h, power), importance)


def round_stored(name: str, tensor: torch.Tensor, rule: Rule) -> torch.Tensor:
    """A float tensor that a rule leaves raw, rounded as its ``store`` says.

    Raises:
        TensorError: where a value is not finite or beyond the format's range, naming the tensor.
    """
    if rule.store is None or str(tensor.dtype).removeprefix("torch.") not in FLOAT_DTYPES:
        return tensor
    try:
        return round_to(tensor, rule.store.format)
    except TensorError as error:
        raise TensorError(f"{name}: {error}") from None


def ends(specs: Mapping[str, TensorSpec]) -> set[str]:
    """The first and the last float tensor of two dimensions or more: the network's first and last layer."""
    layers = [name for name, spec in specs.items() if spec.dtype in FLOAT_DTYPES and len(spec.shape) > 1]
    return {layers[0], layers[-1]} if layers else set()


def say_left_raw(rule: Rule, names: Sequence[str], specs: Mapping[str, TensorSpec]) -> None:
    """Warn, once a rule, of tensors that it matches but that are no floating-point numbers."""
    left = [f"{name} ({specs[name].dtype})" for name in names if specs[name].dtype not in FLOAT_DTYPES]
    if left and (rule.prune is not None or rule.quantize is not None):
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        logger.warning(
            "the rule for %r leaves %s%s raw: only floats of 16 bits or more are pruned or quantized",
            rule.label,
            ", ".join(left[:3]),
            more,
        )


def share_rules(
    rules: Sequence[RuleWeights],
    constraints: Constraints,
    model: torch.nn.Module,
    left_float: set[str],
    *,
    bits: Mapping[str, int] | None = None,
    optimizer: Optimizer | None = None,
    data: Batches | None = None,
    loss: Loss | None = None,
) -> None:
    """Quantize the weights of a model as rules say, and constrain them to stay so.

    Weights of a rule with ``incremental`` that has begun go on to its next stage, and stay as they are after
    the last.

    Args:
        rules: those without ``quantize`` are passed over.
        constraints: of the model.
        model: for gradients.
        left_float: the names of the network's first and last layer.
        bits: the recipe's, for ``bits: auto``.
        optimizer: for ``weights: adam``.
        data: batches, for ``weights: fisher``.
        loss: with ``data``.

    Raises:
        RecipeError: where a rule needs data or an optimizer that are not there.
        TensorError: where weights are not finite, naming the tensor.
    """
    chosen = []
    for rule, weights in rules:
        if rule.quantize is not None:
            spec = rule.quantize
            left = [n for n in weights if spec.leaves_float(n, left_float)]
            begun = [n for n in weights if spec.incremental and _has_begun(n, constraints)]
            for name in begun:
                _next_stage(name, spec, constraints)
            chosen.append((spec, {n: w for n, w in weights.items() if n not in {*left, *begun}}))
    fisher = [n for spec, weights in chosen if spec.weights == "fisher" for n in weights]
    diagonal: dict[str, torch.Tensor] = {}
    if fisher:
        if data is None or loss is None:
            raise RecipeError("weights: fisher needs training data; give share data and loss")
        diagonal = fisher_diagonal(model, data, loss, fisher)
    pruned = {
        name
        for rule, weights in rules
        for name in rule.prunes({name: tuple(weight.shape) for name, weight in weights.items()})
    }
    for spec, weights in chosen:
        importance, power = importance_of(spec, weights, diagonal, optimizer)
        for name, weight in weights.items():
            mine = spec.settled(name, bits or {})
            shared = quantize(name, weight, mine, importance.get(name), power)
            _constrain(name, weight, mine, shared, constraints, pruned=name in pruned)


def importance_of(
    spec: Quantize,
    weights: Mapping[str, torch.nn.Parameter],
    diagonal: Mapping[str, torch.Tensor],
    optimizer: Optimizer | None,
) -> tuple[dict[str, torch.Tensor], float | None]:
    """What a rule weighs errors by, by tensor, and its power; nothing where it does not weigh them.

    Raises:
        RecipeError: where it needs an optimizer that is not there, or has no second moments.
    """
    importance = _importance(spec, weights, diagonal, optimizer)
    return importance, _power(weights, importance) if importance else None


def _importance(
    spec: Quantize,
    weights: Mapping[str, torch.nn.Parameter],
    diagonal: Mapping[str, torch.Tensor],
    optimizer: Optimizer | None,
) -> dict[str, torch.Tensor]:
    if spec.weights is None:
        return {}
    if spec.weights == "fisher":
        raw: Mapping[str, torch.Tensor] = diagonal
    elif optimizer is None:
        raise RecipeError("weights: adam needs an optimizer that has taken steps; give share the optimizer")
    else:
        raw = adam_second_moments(optimizer, weights)
    return {name: with_floor(raw[name], weight) for name, weight in weights.items()}


def _power(weights: Mapping[str, torch.nn.Parameter], importance: Mapping[str, torch.Tensor]) -> float:
    """Mean of importance · weight² over the nonzero weights of all tensors."""
    total = sum(float((importance[n] * w.detach().double().square().cpu()).sum()) for n, w in weights.items())
    return total / max(1, sum(int(w.count_nonzero()) for w in weights.values()))


def _constrain(
    name: str,
    weight: torch.nn.Parameter,
    spec: Quantize,
    shared: QuantizedTensor,
    constraints: Constraints,
    *,
    pruned: bool,
) -> None:
    shadow = weight.detach().clone()
    # Ternary and fixed-point weights come to zero and leave it; only pruned ones stay there.
    keep = constraints.mask(name)
    if keep is None and pruned:
        keep = shadow != 0
    if spec.method == "ttq":
        scales = torch.zeros(2, dtype=torch.float32)
        for value in map(float, shared.codebook):
            if value:
                scales[0 if value > 0 else 1] = abs(value)
        constraints.set_latent(
            name, Ternary(shadow, keep, scales=scales, threshold=spec.threshold, scale_lr=spec.scale_lr)
        )
        return
    if spec.method == "fixed_point":
        i = spec.integer_bits
        if i is None:
            i = choose_integer_bits(shadow.cpu().double().numpy())
        constraints.set_latent(name, FixedPoint(shadow, keep, bits=spec.width, integer_bits=i))
        return
    fixed = spec.keeps_zeros(float((shadow == 0).double().mean()) if shadow.numel() else 0.0)
    if spec.update_labels or spec.re_quantize:
        latent = Relabelled(shadow, keep=(shadow != 0) if fixed else keep, fixed_zero=fixed)
        latent.relabel(shared)
        constraints.set_latent(name, latent)
    elif spec.incremental:
        codebook = torch.from_numpy(shared.codebook.copy()).to(shadow)
        incremental = Incremental(
            shadow, keep=(shadow != 0) if fixed else keep, codebook=codebook, fixed_zero=fixed
        )
        constraints.set_latent(name, incremental)
        _next_stage(name, spec, constraints)
    else:
        constraints.set_sharing(name, shared, fixed_zero=fixed)


def relabel_rules(
    rules: Sequence[RuleWeights], constraints: Constraints, bits: Mapping[str, int] | None = None
) -> None:
    """Do what rules say of the start of a later epoch: new clusters, or the next incremental stage.

    Args:
        rules: those without ``update_labels``, ``re_quantize`` and ``incremental`` are passed over.
        constraints: of the model.
        bits: the recipe's, for ``bits: auto``.
    """
    for rule, weights in rules:
        spec = rule.quantize
        for name in weights:
            latent = constraints.latent(name)
            if spec is None:
                continue
            if spec.incremental:
                _next_stage(name, spec, constraints)
            elif isinstance(latent, Relabelled):
                latent.relabel(_again(name, latent, spec.settled(name, bits or {})))
                constraints.constrain_weight(name)


def _has_begun(name: str, constraints: Constraints) -> bool:
    return isinstance(constraints.latent(name), Incremental) or constraints.is_shared(name)


def _next_stage(name: str, spec: Quantize, constraints: Constraints) -> None:
    """Let the next group of weights take its values; after the last one, all share theirs and train them.

    Raises:
        TensorError: where weights are not finite, naming the tensor.
    """
    latent = constraints.latent(name)
    if not isinstance(latent, Incremental):
        return
    if not torch.isfinite(latent.shadow).all():
        raise TensorError(f"{name}: the weights are not finite (NaN or infinity) and cannot be shared")
    latent.fix(spec.incremental[min(latent.stage, len(spec.incremental) - 1)])
    if latent.stage < len(spec.incremental):
        constraints.constrain_weight(name)
    else:
        constraints.set_sharing(name, latent.shared(), fixed_zero=latent.fixed_zero)


def _again(name: str, latent: Relabelled, spec: Quantize) -> QuantizedTensor:
    if spec.re_quantize:
        return quantize(name, latent.shadow, spec)
    from featherweight.quantization.kmeans import share as to_nearest

    shadow = latent.shadow.cpu()
    array = (shadow.float() if shadow.dtype == torch.bfloat16 else shadow).numpy()
    start = 1 if latent.fixed_zero else 0
    values = np.unique(latent.codebook[start:].cpu().to(torch.float64).numpy()).astype(array.dtype)
    return to_nearest(array, values, latent.fixed_zero)
