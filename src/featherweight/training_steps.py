"""The two steps of compression in a training loop, ``prune`` and ``share``, and what goes with them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from featherweight.accuracy_bounded import BoundedPruning, is_bounded, prune_within
from featherweight.channel_rules import refuse_channel_rules
from featherweight.constraints import Constraints
from featherweight.errors import RecipeError
from featherweight.lazy import spec_of
from featherweight.pruning import Batch, Calibration, Loss, Progress
from featherweight.recipe.patterns import layer_types_of
from featherweight.rule_targets import rules_for, rules_to_prune
from featherweight.selection import needs_data, prune_rules
from featherweight.sharing import Batches, ends, quantize, round_stored, share_rules
from featherweight.unit_rules import remove_dead_units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch.optim import Optimizer

    from featherweight.recipe import Recipe


def prune(
    model: torch.nn.Module,
    recipe: Recipe,
    *,
    data: Iterable[Batch] | None = None,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    epoch: float | None = None,
    progress: Progress | None = None,
    retrain: Callable[[int], object] | None = None,
    accuracy: Callable[[], float] | None = None,
) -> Constraints:
    """Prune a model in training: set weights to zero and keep them there.

    Call it once, or again as training goes on with a later ``epoch``: what is pruned stays pruned.

    Args:
        model: its weights are changed in place.
        recipe: rules without ``prune`` are passed over.
        data: batches of ``(inputs, targets)`` of the training set, for an importance that needs them. It
            asks for as many as its ``samples`` say, and sees the model in evaluation mode. A function as
            importance gets gradients averaged over all of them; the model is left without gradients.
        loss: ``loss(model(inputs), targets)``, the mean over a batch, with ``data``.
        optimizer: obeys the masks from its next step on.
        epoch: where the rules' schedules stand, in epochs since pruning began; their end unless given.
        progress: called with what is being computed, how many steps of it are done, and how many there are.
        retrain: trains the model with ``optimizer`` for so many epochs, for ``accuracy_bounded`` schedules.
        accuracy: the model's validation accuracy in percent, for the same.

    Returns:
        The constraints, attached to ``optimizer`` if there is one (else call ``attach``).

    Raises:
        RecipeError: where a rule matches no tensor, or what its importance or schedule needs is not given.
        TensorError: where weights are not finite or would all be pruned, naming the tensor.
    """
    if (data is None) != (loss is None):
        raise TypeError("data and loss go together: gradients need both")
    refuse_channel_rules(recipe)
    rules = rules_to_prune(model, recipe)
    for rule, _ in rules:
        if rule.prune is not None and rule.prune.needs_data and data is None:
            raise RecipeError(f"the rule for {rule.label!r}: {needs_data(rule.prune)}")
    calibration = None
    if data is not None and loss is not None:
        calibration = Calibration(model, data, loss, progress)
        calibration.examples(1)  # no data at all are a mistake, needed or not
    constraints = _constraints(model, optimizer)
    if is_bounded([rule for rule, _ in rules]):
        if retrain is None or accuracy is None or optimizer is None:
            raise RecipeError(
                "an accuracy_bounded schedule needs retrain, accuracy and optimizer: give them to fw.prune, "
                "or train by featherweight run or the callback PruneByRecipe"
            )
        prune_within(BoundedPruning(model, rules, constraints, [optimizer]), accuracy, retrain, calibration)
    else:
        prune_rules(rules, constraints, epoch, calibration)
    remove_dead_units(recipe, constraints)
    return constraints


def share(
    model: torch.nn.Module,
    recipe: Recipe,
    *,
    optimizer: Optimizer | None = None,
    data: Batches | None = None,
    loss: Loss | None = None,
) -> Constraints:
    """Quantize a model in training: weights of a cluster get one value and share it from here on.

    Args:
        model: its weights are changed in place.
        recipe: rules without ``quantize`` are passed over.
        optimizer: trains the shared values from its next step on. A cluster's gradient is the sum over
            its members, so learning rates are smaller than for single weights. Rules with ``weights: adam``
            take its second moments.
        data: batches of training data, for rules with ``weights: fisher``.
        loss: ``loss(model(inputs), targets)``, with ``data``.

    Returns:
        The constraints, attached to ``optimizer`` if there is one (else call ``attach``). Masks that
        :func:`prune` attached to the same optimizer go on to hold.

    Raises:
        RecipeError: where a rule matches no tensor, or needs data or an optimizer that are not given.
        TensorError: where weights are not finite, naming the tensor.
    """
    if (data is None) != (loss is None):
        raise TypeError("data and loss go together: gradients need both")
    constraints = _constraints(model, optimizer)
    share_by(recipe, model, constraints, optimizer=optimizer, data=data, loss=loss)
    return constraints


def share_by(
    recipe: Recipe,
    model: torch.nn.Module,
    constraints: Constraints,
    *,
    optimizer: Optimizer | None = None,
    data: Batches | None = None,
    loss: Loss | None = None,
) -> None:
    """Share the weights of a model as a recipe says, into ``constraints``; else as :func:`share`."""
    if data is not None and recipe.undecided:
        data = list(data)  # gone through twice where bits are chosen
    recipe = settled_for_training(model, recipe, optimizer=optimizer, data=data, loss=loss)
    specs = {name: spec_of(parameter) for name, parameter in model.named_parameters()}
    share_rules(
        rules_for(model, recipe),
        constraints,
        model,
        ends(specs),
        bits=recipe.bits,
        optimizer=optimizer,
        data=data,
        loss=loss,
    )


def settled_for_training(
    model: torch.nn.Module,
    recipe: Recipe,
    *,
    optimizer: Optimizer | None = None,
    data: Batches | None = None,
    loss: Loss | None = None,
    trained: bool = True,
    progress: Progress | None = None,
) -> Recipe:
    """The recipe with its bits chosen for weights that are pruned already, before they are shared.

    Raises:
        RecipeError: as :func:`featherweight.choose_bits` does.
    """
    if not recipe.undecided:
        return recipe
    from featherweight.bit_allocation import choose_bits

    sharing = replace(recipe, rules=tuple(replace(rule, prune=None) for rule in recipe.rules))
    chosen = choose_bits(
        model, sharing, data=data, loss=loss, optimizer=optimizer, trained=trained, progress=progress
    )
    return replace(recipe, bits=chosen.bits)


@torch.no_grad()
def round_as_stored(model: torch.nn.Module, recipe: Recipe) -> None:
    """Round the weights of a trained network in place as its recipe stores them: what is stored is tested.

    Shared values are rounded where their rule gives a ``codebook_dtype``, other float tensors where theirs
    has ``store``.

    Raises:
        RecipeError: where a rule matches no tensor.
        TensorError: where a value is beyond the format's range, naming the tensor.
    """
    state = model.state_dict()
    left_float = ends({name: spec_of(parameter) for name, parameter in model.named_parameters()})
    quantized = set()
    for rule, weights in rules_for(model, recipe):
        spec = rule.quantize
        if spec is None:
            continue
        for name, weight in weights.items():
            if spec.leaves_float(name, left_float):
                continue
            quantized.add(weight.data_ptr())
            if spec.codebook_dtype is not None:
                shared = quantize(name, weight, spec.settled(name, recipe.bits))
                weight.copy_(torch.from_numpy(shared.dequantize()))
    for rule, names in recipe.assign(state, layer_types_of(model)).items():
        for name in names:
            if rule.store is not None and state[name].data_ptr() not in quantized:
                state[name].copy_(round_stored(name, state[name], rule))


def _constraints(model: torch.nn.Module, optimizer: Optimizer | None) -> Constraints:
    if optimizer is None:
        return Constraints(model)
    attached = Constraints.attached_to(optimizer)
    return Constraints(model).attach(optimizer) if attached is None else attached
