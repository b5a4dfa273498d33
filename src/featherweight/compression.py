"""A recipe applied to a model: ``compress`` at once, ``prune`` and ``share`` as steps of training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import torch

from featherweight.constraints import Constraints
from featherweight.errors import TensorError
from featherweight.lazy import LazyTensors, TensorSpec, as_lazy, spec_of
from featherweight.pruning import (
    arrange_units,
    check_finite,
    check_units,
    importance_by_name,
    lowest_by_tensor,
    per_bit,
    pooled_std,
    prune_below_std,
    prune_lowest,
    score,
    without_dead_units,
)
from featherweight.quantization import quantize_kmeans
from featherweight.tensors import FLOAT_DTYPES, QuantizedTensor

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from featherweight.recipe import Prune, Quantize, Recipe, Rule

#: Batches of ``(inputs, targets)``.
Batches: TypeAlias = Iterable[tuple[torch.Tensor, torch.Tensor]]
Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def compress(
    model: torch.nn.Module | Mapping[str, torch.Tensor],
    recipe: Recipe,
    *,
    progress: Callable[[str], None] | None = None,
) -> dict[str, torch.Tensor | QuantizedTensor]:
    """Prune and quantize a trained model after training, without data.

    Args:
        model: a module or its state dict; it is not changed. Buffers of a module, such as the running
            statistics of batch normalisation, are left raw; in a state dict they cannot be told.
        recipe: what to do with which tensor. Schedules are taken at their end. A tied tensor is one
            tensor: the first rule that matches any of its names holds.
        progress: called with the name of each tensor when it is done, tied ones once.

    Returns:
        A mapping from tensor name to tensor, ready for :func:`featherweight.save_file`. A tensor that no
        rule quantizes is a ``torch.Tensor``; tied tensors are one object under several names.

    Raises:
        RecipeError: where a rule matches no tensor.
        TensorError: where weights are not finite, naming the tensor.
    """
    left_alone: set[str] = set()
    if isinstance(model, torch.nn.Module):
        left_alone = {name for name, _ in model.named_buffers(remove_duplicate=False)}
        model = model.state_dict()
    lazy = _Compressed(as_lazy(model), recipe, left_alone)
    made = {}
    for name in lazy.distinct:
        made[name] = lazy[name]
        if progress is not None:
            progress(name)
    return {name: made[owner] for name, owner in lazy.owners.items()}


def compress_lazily(
    state: Mapping[str, torch.Tensor], recipe: Recipe
) -> LazyTensors[torch.Tensor | QuantizedTensor]:
    """Compress a checkpoint that need not fit into memory; else as :func:`compress`, value for value.

    A tensor is loaded, pruned and quantized when it is asked for, so that
    :func:`featherweight.save_file` has one at a time in memory. Pruning of scope ``global`` passes over the
    rule's tensors a few times when the first of them is asked for.

    Args:
        state: tensors by name, best of all what
            :func:`featherweight.interop.checkpoints.open_checkpoint` returns, which has to stay open.
        recipe: what to do with which tensor, as for :func:`compress`.

    Returns:
        A mapping that makes its tensors when asked, ready for :func:`featherweight.save_file`. Asking for
        one raises TensorError where its weights are not finite, naming it.

    Raises:
        RecipeError: where a rule matches no tensor.
    """
    return _Compressed(as_lazy(state), recipe, set())


class _Compressed(LazyTensors["torch.Tensor | QuantizedTensor"]):
    """A state dict under a recipe; names in ``left_alone`` stay raw."""

    def __init__(self, state: LazyTensors[torch.Tensor], recipe: Recipe, left_alone: set[str]) -> None:
        super().__init__(state.specs, state.owners)
        self._state = state
        self._coder = recipe.code.coder
        self._names = dict(_names_by_rule(state, recipe, left_alone))
        self._rules = {name: rule for rule, names in self._names.items() for name in names}
        #: Found when first needed: what scope ``global`` prunes of each tensor, or its threshold.
        self._counts: dict[Rule, dict[str, int]] = {}
        self._thresholds: dict[Rule, float] = {}

    def __getitem__(self, name: str) -> torch.Tensor | QuantizedTensor:
        name = self.owners[name]
        tensor = self._state[name].detach()
        rule = self._rules.get(name)
        if rule is None:
            return tensor
        if rule.prune is not None:
            tensor = tensor.masked_fill(~self._mask(rule, rule.prune, name, tensor), 0)
        if rule.quantize is None:
            return tensor
        coder = self._coder if rule.code is None else rule.code.coder
        return replace(quantize(name, tensor, rule.quantize), coder=coder)

    def _mask(self, rule: Rule, spec: Prune, name: str, tensor: torch.Tensor) -> torch.Tensor:
        everything = {name: torch.ones_like(tensor, dtype=torch.bool)}
        if spec.scope == "layer":
            return _masks(spec, {name: tensor}, everything, epoch=None)[name]
        if spec.std is not None:
            return tensor.abs() >= self._threshold(rule, spec.std)
        scores = score(importance_by_name(spec.importance), name, tensor)
        return prune_lowest({name: scores}, everything, self._count(rule, spec)[name])[name]

    def _threshold(self, rule: Rule, std: float) -> float:
        def finite(name: str) -> torch.Tensor:
            check_finite(name, self._state[name])
            return self._state[name]

        if rule not in self._thresholds:
            names = self._names[rule]
            self._thresholds[rule] = std * pooled_std(lambda: map(finite, names))
        return self._thresholds[rule]

    def _count(self, rule: Rule, spec: Prune) -> dict[str, int]:
        if rule not in self._counts:
            names, importance = self._names[rule], importance_by_name(spec.importance)
            total = sum(math.prod(self.specs[name].shape) for name in names)
            self._counts[rule] = lowest_by_tensor(
                names,
                lambda name: score(importance, name, self._state[name].detach()),
                round(spec.sparsity_at(None) * total),
            )
        return self._counts[rule]


def _names_by_rule(
    state: LazyTensors[torch.Tensor], recipe: Recipe, left_alone: set[str]
) -> Iterator[tuple[Rule, list[str]]]:
    """Each rule with the tensors that it holds for, those of several names once, under their owner."""
    done: set[str] = set()
    for rule, matched in recipe.assign(state).items():
        able = [name for name in matched if name not in left_alone and _can_compress(state.specs[name])]
        # Of a tensor with several names: the first rule that matches any of them.
        names = [n for n in dict.fromkeys(state.owners[name] for name in able) if n not in done]
        done.update(names)
        yield rule, names


def prune(
    model: torch.nn.Module,
    recipe: Recipe,
    *,
    data: Batches | None = None,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    epoch: float | None = None,
) -> Constraints:
    """Prune a model in training: set weights to zero and keep them there.

    Call it once, or again as training goes on with a later ``epoch``: what is pruned stays pruned.

    Args:
        model: its weights are changed in place.
        recipe: rules without ``prune`` are passed over.
        data: batches over which gradients are averaged, for an importance that needs them; the model
            is left without gradients.
        loss: ``loss(model(inputs), targets)``, with ``data``.
        optimizer: obeys the masks from its next step on.
        epoch: where the rules' schedules stand, in epochs since pruning began; their end unless given.

    Returns:
        The constraints, attached to ``optimizer`` if there is one (else call ``attach``).

    Raises:
        RecipeError: where a rule matches no tensor.
        TensorError: where weights are not finite, naming the tensor.
    """
    if (data is None) != (loss is None):
        raise TypeError("data and loss go together: gradients need both")
    constraints = _constraints(model, optimizer)
    if data is not None and loss is not None:
        average_gradients(model, data, loss)
    for rule, weights in rules_for(model, recipe):
        if rule.prune is not None:
            prune_by(rule.prune, weights, constraints, epoch)
    remove_dead_units(recipe, constraints)
    if data is not None:
        model.zero_grad()  # they are not the next step's
    return constraints


def prune_by(
    spec: Prune, weights: Mapping[str, torch.nn.Parameter], constraints: Constraints, epoch: float | None
) -> None:
    """Prune the named weights as one rule says, into ``constraints``."""
    old = {}
    for name, weight in weights.items():
        mask = constraints.mask(name)
        old[name] = torch.ones_like(weight, dtype=torch.bool) if mask is None else mask
    for name, mask in _masks(spec, weights, old, epoch).items():
        if constraints.mask(name) is None or not torch.equal(mask, old[name]):
            constraints.set_mask(name, mask)


def remove_dead_units(recipe: Recipe, constraints: Constraints) -> None:
    """Prune the weights of hidden units that nothing feeds or nothing reads; see ``Recipe.units``."""
    names = [f"{name}.weight" for units in recipe.units for name in (units.layer, units.reader)]
    masks = {name: mask for name in names if (mask := constraints.mask(name)) is not None}
    for name, mask in without_dead_units(masks, _pairs(recipe)).items():
        if not torch.equal(mask, masks[name]):
            constraints.set_mask(name, mask)


def arrange(model: torch.nn.Module, recipe: Recipe) -> None:
    """Put a network's hidden units into the order in which they take the fewest bytes.

    What it computes stays the same, but for the order in which sums are taken.

    Args:
        model: changed in place.
        recipe: its ``units`` say which may change places; without any, nothing happens.

    Raises:
        RecipeError: where they do not fit the network.
    """
    check_recipe_units(model, recipe)
    if recipe.units:
        model.load_state_dict(arrange_units(model.state_dict(), _pairs(recipe)))


def check_recipe_units(model: torch.nn.Module, recipe: Recipe) -> None:
    """Make sure that a recipe's ``units`` fit a network.

    Raises:
        RecipeError: naming the layers that do not.
    """
    check_units({name: tuple(t.shape) for name, t in model.state_dict().items()}, _pairs(recipe))


def _pairs(recipe: Recipe) -> list[tuple[str, str]]:
    return [(units.layer, units.reader) for units in recipe.units]


def _masks(
    spec: Prune, weights: Mapping[str, torch.Tensor], masks: Mapping[str, torch.Tensor], epoch: float | None
) -> dict[str, torch.Tensor]:
    groups = [list(weights)] if spec.scope == "global" else [[name] for name in weights]
    result: dict[str, torch.Tensor] = {}
    for names in groups:
        old = {name: masks[name] for name in names}
        if spec.std is not None:
            due = epoch is None or spec.schedule.prunings(epoch) > 0
            part = {name: weights[name] for name in names}
            for name in names:
                check_finite(name, weights[name])
            result.update(prune_below_std(part, old, spec.std) if due else old)
            continue
        importance = importance_by_name(spec.importance)
        scores = {
            name: per_bit(score(importance, name, weights[name]), masks[name], spec.rate) for name in names
        }
        total = sum(weights[name].numel() for name in names)
        result.update(prune_lowest(scores, old, round(spec.sparsity_at(epoch) * total)))
    return result


def share(model: torch.nn.Module, recipe: Recipe, *, optimizer: Optimizer | None = None) -> Constraints:
    """Quantize a model in training: weights of a cluster get one value and share it from here on.

    Args:
        model: its weights are changed in place.
        recipe: rules without ``quantize`` are passed over.
        optimizer: trains the shared values from its next step on. A cluster's gradient is the sum over
            its members, so learning rates are smaller than for single weights.

    Returns:
        The constraints, attached to ``optimizer`` if there is one (else call ``attach``). Masks that
        :func:`prune` attached to the same optimizer go on to hold.

    Raises:
        RecipeError: where a rule matches no tensor.
        TensorError: where weights are not finite, naming the tensor.
    """
    constraints = _constraints(model, optimizer)
    share_by(recipe, model, constraints)
    return constraints


def share_by(recipe: Recipe, model: torch.nn.Module, constraints: Constraints) -> None:
    """Share the weights of a model as a recipe says, into ``constraints``."""
    for rule, weights in rules_for(model, recipe):
        if rule.quantize is None:
            continue
        for name, weight in weights.items():
            shared = quantize(name, weight, rule.quantize)
            constraints.set_sharing(name, shared, fixed_zero=rule.quantize.fix_zeros)


def rules_for(model: torch.nn.Module, recipe: Recipe) -> list[tuple[Rule, dict[str, torch.nn.Parameter]]]:
    """Each rule of a recipe with the floating-point parameters that it is for, by name.

    A tied parameter goes by the first of its names, and to the first rule that matches any of them.

    Raises:
        RecipeError: where a rule matches no tensor of the model.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    owners = {parameter: name for name, parameter in model.named_parameters()}
    left = set(owners)
    result = []
    for rule, matched in recipe.assign(model.state_dict()).items():
        weights = {}
        for name in matched:
            parameter = parameters.get(name)
            if parameter in left and _can_compress(spec_of(parameter)):
                left.remove(parameter)
                weights[owners[parameter]] = parameter
        result.append((rule, weights))
    return result


def quantize(name: str, tensor: torch.Tensor, spec: Quantize) -> QuantizedTensor:
    """Quantize one tensor as a rule says.

    Args:
        name: for errors.
        tensor: float16, bfloat16, float32 or float64.
        spec: the rule's.

    Raises:
        TensorError: where weights are not finite, naming the tensor.
    """
    wide = tensor.detach().cpu()
    narrow = wide.dtype == torch.bfloat16  # NumPy has no bfloat16
    array = (wide.float() if narrow else wide).numpy()
    try:
        shared = quantize_kmeans(array, spec.bits, spec.init, spec.fix_zeros, spec.seed)
    except TensorError as error:
        raise TensorError(f"{name}: {error}") from None
    if not narrow:
        return shared
    rounded = torch.from_numpy(shared.codebook).bfloat16().float().numpy()
    return QuantizedTensor(shared.indices, rounded, dtype="bfloat16")


def average_gradients(model: torch.nn.Module, data: Batches, loss: Loss) -> None:
    """Leave in every parameter's ``grad`` its gradient averaged over batches.

    Raises:
        TensorError: where there are no batches.
    """
    model.zero_grad()
    batches = 0
    for inputs, targets in data:
        loss(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
        batches += 1
    if not batches:
        raise TensorError("the calibration data hold no batch; importance needs at least one")
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= batches


def encode_state(
    model: torch.nn.Module | Mapping[str, torch.Tensor], recipe: Recipe
) -> dict[str, torch.Tensor | QuantizedTensor]:
    """Quantize a trained network as its recipe says, without pruning: what ``save_file`` takes.

    Weights that :func:`share` has trained have no more values than their codebook, so they come out
    exactly as they are; others are clustered here.

    Args:
        model: the network, or its state dict.
        recipe: what to quantize, and with which coder.
    """
    rules = tuple(replace(rule, prune=None) for rule in recipe.rules)
    return compress(model, replace(recipe, rules=rules))


def _constraints(model: torch.nn.Module, optimizer: Optimizer | None) -> Constraints:
    if optimizer is None:
        return Constraints(model)
    attached = Constraints.attached_to(optimizer)
    return Constraints(model).attach(optimizer) if attached is None else attached


def _can_compress(spec: TensorSpec) -> bool:
    """Whether a tensor can be pruned and quantized; integers, 8-bit floats and the like are left alone."""
    return spec.dtype in FLOAT_DTYPES and spec.dense
