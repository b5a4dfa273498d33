"""A recipe applied to a model: ``compress`` at once, ``prune`` and ``share`` as steps of training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from featherweight.constraints import Constraints
from featherweight.errors import TensorError
from featherweight.pruning import importance_by_name, prune_below_std, prune_lowest, score
from featherweight.quantization import quantize_kmeans
from featherweight.tensors import QuantizedTensor

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from featherweight.recipe import Prune, Quantize, Recipe, Rule

logger = logging.getLogger(__name__)

#: Batches of ``(inputs, targets)``.
Batches: TypeAlias = Iterable[tuple[torch.Tensor, torch.Tensor]]
Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def compress(
    model: torch.nn.Module | Mapping[str, torch.Tensor], recipe: Recipe
) -> dict[str, torch.Tensor | QuantizedTensor]:
    """Prune and quantize a trained model after training, without data.

    Args:
        model: a module or its state dict; it is not changed.
        recipe: what to do with which tensor. Schedules are taken at their end.

    Returns:
        A mapping from tensor name to tensor, ready for :func:`featherweight.save_file`. A tensor that no
        rule quantizes is a ``torch.Tensor``; tied tensors are one object under several names.

    Raises:
        RecipeError: where a rule matches no tensor.
        TensorError: where weights are not finite, naming the tensor.
    """
    state = model.state_dict() if isinstance(model, torch.nn.Module) else model
    result: dict[str, torch.Tensor | QuantizedTensor] = {name: t.detach() for name, t in state.items()}
    owners = _owners(state)
    for rule, matched in recipe.assign(state).items():
        names = [n for n in _floating(matched, state) if owners[n] == n]
        tensors = {name: state[name].detach() for name in names}
        if rule.prune is not None:
            masks = {name: torch.ones_like(t, dtype=torch.bool) for name, t in tensors.items()}
            masks = _masks(rule.prune, tensors, masks, epoch=None)
            tensors = {name: t.masked_fill(~masks[name], 0) for name, t in tensors.items()}
        result.update(tensors)
        if rule.quantize is not None:
            coder = (rule.code or recipe.code).coder
            for name, tensor in tensors.items():
                result[name] = replace(quantize(name, tensor, rule.quantize), coder=coder)
    return {name: result[owners[name]] for name in state}


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
        data: batches over which gradients are averaged, for an importance that needs them.
        loss: ``loss(model(inputs), targets)``, with ``data``.
        optimizer: obeys the masks from its next step on.
        epoch: where the rules' schedules stand, in epochs since pruning began; their end unless given.

    Returns:
        The constraints, attached to ``optimizer`` if there is one (else call ``attach``).

    Raises:
        RecipeError: where a rule matches no tensor.
        TensorError: where weights are not finite, naming the tensor.
    """
    constraints = _constraints(model, optimizer)
    if data is not None and loss is not None:
        average_gradients(model, data, loss)
    for rule, weights in rules_for(model, recipe):
        if rule.prune is not None:
            prune_by(rule.prune, weights, constraints, epoch)
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
            result.update(prune_below_std(part, old, spec.std) if due else old)
            continue
        importance = importance_by_name(spec.importance)
        scores = {name: score(importance, name, weights[name]) for name in names}
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

    Raises:
        RecipeError: where a rule matches no tensor of the model.
    """
    parameters = dict(model.named_parameters())
    assigned = recipe.assign(model.state_dict())
    return [(rule, {n: parameters[n] for n in _floating(m, parameters)}) for rule, m in assigned.items()]


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
    state: Mapping[str, torch.Tensor], recipe: Recipe
) -> dict[str, torch.Tensor | QuantizedTensor]:
    """Quantize a trained network as its recipe says, without pruning: what ``save_file`` takes.

    Weights that :func:`share` has trained have no more values than their codebook, so they come out
    exactly as they are; others are clustered here.

    Args:
        state: the network's state dict.
        recipe: what to quantize, and with which coder.
    """
    rules = tuple(replace(rule, prune=None) for rule in recipe.rules)
    return compress(state, replace(recipe, rules=rules))


def _constraints(model: torch.nn.Module, optimizer: Optimizer | None) -> Constraints:
    if optimizer is None:
        return Constraints(model)
    attached = Constraints.attached_to(optimizer)
    return Constraints(model).attach(optimizer) if attached is None else attached


def _owners(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """The first name under which each tensor of a state dict stands, for tied ones."""
    first: dict[Any, str] = {}
    return {name: first.setdefault(_identity(name, tensor), name) for name, tensor in state.items()}


def _identity(name: str, tensor: torch.Tensor) -> Any:
    if tensor.numel() == 0:
        return name
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _floating(names: Iterable[str], tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Those of ``names`` that can be pruned and quantized; integer tensors and buffers are left alone."""
    return [name for name in names if name in tensors and tensors[name].is_floating_point()]
