"""A recipe applied to a model: ``compress`` at once, ``prune`` and ``share`` as steps of training."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from featherweight.accuracy_bounded import BoundedPruning, is_bounded, prune_within
from featherweight.channel_rules import refuse_channel_rules
from featherweight.constraints import Constraints
from featherweight.errors import RecipeError
from featherweight.lazy import LazyTensors, TensorSpec, as_lazy, spec_of
from featherweight.pruning import (
    Batch,
    Calibration,
    Loss,
    Progress,
    WeightImportance,
    arrange_units,
    below_std,
    check_finite,
    check_units,
    expand_groups,
    lowest_by_tensor,
    pooled_std,
    prune_groups,
    refuse_empty,
    score,
)
from featherweight.recipe.patterns import layer_types_of
from featherweight.selection import needs_data, prune_rules, refuse_at_once, remove_dead_units, targets_of
from featherweight.sharing import (
    Batches,
    ends,
    quantize,
    round_stored,
    say_left_raw,
    share_rules,
)
from featherweight.tensors import FLOAT_DTYPES, QuantizedTensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from torch.optim import Optimizer

    from featherweight.recipe import Prune, Recipe, Rule


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
        RecipeError: where a rule matches no tensor, or prunes by an importance that needs data.
        TensorError: where weights are not finite, naming the tensor.
    """
    lazy = compressed_tensors(model, _settled(model, recipe))
    made = {}
    for name in lazy.distinct:
        made[name] = lazy[name]
        if progress is not None:
            progress(name)
    return {name: made[owner] for name, owner in lazy.owners.items()}


def compress_lazily(
    state: Mapping[str, torch.Tensor], recipe: Recipe, *, progress: Progress | None = None
) -> LazyTensors[torch.Tensor | QuantizedTensor]:
    """Compress a checkpoint that need not fit into memory; else as :func:`compress`, value for value.

    A tensor is loaded, pruned and quantized when it is asked for, so that
    :func:`featherweight.save_file` has one at a time in memory. Pruning of scope ``global`` passes over the
    rule's tensors a few times when the first of them is asked for.

    Args:
        state: tensors by name, best of all what
            :func:`featherweight.interop.checkpoints.open_checkpoint` returns, which has to stay open.
        recipe: what to do with which tensor, as for :func:`compress`.
        progress: of choosing bits, where a rule has ``bits: auto``; all tensors are loaded once for it.

    Returns:
        A mapping that makes its tensors when asked, ready for :func:`featherweight.save_file`. Asking for
        one raises TensorError where its weights are not finite, naming it.

    Raises:
        RecipeError: where a rule matches no tensor, asks for the type of a layer, or prunes by an
            importance that needs data.
    """
    return CompressedTensors(as_lazy(state), _settled(state, recipe, progress), set(), None)


def _settled(
    model: torch.nn.Module | Mapping[str, torch.Tensor], recipe: Recipe, progress: Progress | None = None
) -> Recipe:
    """The recipe with its bits chosen, without data, where that is still to be done."""
    if not recipe.undecided:
        return recipe
    from featherweight.bit_allocation import choose_bits  # which uses this module

    return choose_bits(model, recipe, progress=progress)


def compressed_tensors(
    model: torch.nn.Module | Mapping[str, torch.Tensor], recipe: Recipe
) -> CompressedTensors:
    """A module or its state dict under a recipe, each tensor made when it is asked for.

    Raises:
        RecipeError: where a rule matches no tensor, or prunes by an importance that needs data.
    """
    if not isinstance(model, torch.nn.Module):
        return CompressedTensors(as_lazy(model), recipe, set(), None)
    buffers = {name for name, _ in model.named_buffers(remove_duplicate=False)}
    return CompressedTensors(as_lazy(model.state_dict()), recipe, buffers, layer_types_of(model))


class CompressedTensors(LazyTensors["torch.Tensor | QuantizedTensor"]):
    """A state dict under a recipe; names in ``left_alone`` stay raw."""

    def __init__(
        self,
        state: LazyTensors[torch.Tensor],
        recipe: Recipe,
        left_alone: set[str],
        layer_types: Mapping[str, Sequence[str]] | None,
    ) -> None:
        super().__init__(state.specs, state.owners)
        refuse_channel_rules(recipe)
        self._state = state
        self._coder = recipe.code.coder
        self._bits = recipe.bits
        held = dict(_names_by_rule(state, recipe, left_alone, layer_types))
        self._rules = {name: rule for rule, names in held.items() for name in names}
        self._names = {
            rule: rule.prunes({name: state.specs[name].shape for name in names})
            for rule, names in held.items()
        }
        for rule in held:
            if rule.prune is not None:
                refuse_at_once(rule.label, rule.prune)
        #: Tensors that rules do not prune or quantize but may round; and those that stay float.
        self._stored: dict[str, Rule] = {}
        self._float: set[str] = set()
        for rule, names in recipe.assign(state, layer_types).items():
            say_left_raw(rule, [name for name in names if name not in left_alone], state.specs)
            self._stored.update({state.owners[n]: rule for n in names if state.owners[n] not in self._rules})
            if rule.quantize is not None:
                layers = ends({n: state.specs[n] for n in state.distinct if n not in left_alone})
                self._float |= {n for n in held[rule] if rule.quantize.leaves_float(n, layers)}
        #: Found when first needed: how many groups are pruned of each tensor, and thresholds of all together.
        self._counts: dict[Rule, dict[str, int]] = {}
        self._thresholds: dict[Rule, float] = {}

    @property
    def automatic(self) -> dict[str, Rule]:
        """Tensors with ``bits: auto``, tied ones once, by name, with their rule."""
        return {
            name: rule
            for name, rule in self._rules.items()
            if rule.quantize is not None and rule.quantize.auto and name not in self._float
        }

    def __getitem__(self, name: str) -> torch.Tensor | QuantizedTensor:
        name = self.owners[name]
        tensor = self.pruned(name)
        rule = self._rules.get(name)
        if rule is None:
            stored = self._stored.get(name)
            return tensor if stored is None else round_stored(name, tensor, stored)
        if rule.quantize is None or name in self._float:
            return round_stored(name, tensor, rule)
        spec = rule.quantize.settled(name, self._bits)
        return replace(quantize(name, tensor, spec), coder=self.coder(rule))

    def coder(self, rule: Rule) -> str:
        """The coder of a rule's tensors."""
        return self._coder if rule.code is None else rule.code.coder

    def file_name(self, name: str) -> str:
        """The name that a file keeps a tensor under: of tied ones the first by the alphabet."""
        return min(other for other, owner in self.owners.items() if owner == name)

    def pruned(self, name: str) -> torch.Tensor:
        """A tensor as its rule prunes it, before it is quantized."""
        tensor = self._state[name].detach()
        rule = self._rules.get(name)
        if rule is None or rule.prune is None or name not in self._names[rule]:
            return tensor
        mask = self._mask(rule, rule.prune, name, tensor)
        if not rule.prune.allow_empty:
            refuse_empty({name: mask})
        return tensor.masked_fill(~mask, 0)

    def _mask(self, rule: Rule, spec: Prune, name: str, tensor: torch.Tensor) -> torch.Tensor:
        if spec.std is not None:
            check_finite(name, tensor)
            return ~below_std(name, tensor, self._threshold(rule, spec, tensor), spec.granularity)
        scores = score(_scorer(spec), name, tensor, spec.granularity)
        if spec.threshold is not None:
            return expand_groups(scores > spec.threshold, tensor.shape, spec.granularity)
        everything = torch.ones_like(tensor, dtype=torch.bool)
        count = self._count(rule, spec)[name]
        return prune_groups({name: scores}, {name: everything}, count, spec.granularity)[name]

    def _threshold(self, rule: Rule, spec: Prune, tensor: torch.Tensor) -> float:
        def finite(name: str) -> torch.Tensor:
            check_finite(name, self._state[name])
            return self._state[name]

        assert spec.std is not None  # noqa: S101  (the caller asks)
        if spec.scope == "layer":
            return spec.std * pooled_std(lambda: [tensor])
        if rule not in self._thresholds:
            names = self._names[rule]
            self._thresholds[rule] = spec.std * pooled_std(lambda: map(finite, names))
        return self._thresholds[rule]

    def _count(self, rule: Rule, spec: Prune) -> dict[str, int]:
        """How many groups of each of the rule's tensors are pruned."""
        if rule not in self._counts:
            importance, counts = _scorer(spec), {}
            shapes = {name: self.specs[name].shape for name in self._names[rule]}
            for names, count in targets_of(spec, shapes, None):
                if len(names) == 1:
                    counts[names[0]] = count
                    continue
                counts |= lowest_by_tensor(
                    names,
                    lambda name: score(importance, name, self._state[name].detach(), spec.granularity),
                    count,
                )
            self._counts[rule] = counts
        return self._counts[rule]


def _scorer(spec: Prune) -> WeightImportance:
    """The importance of a rule that needs no data, as the constructor made sure."""
    importance = spec.scorer()
    assert isinstance(importance, WeightImportance)  # noqa: S101
    return importance


def _names_by_rule(
    state: LazyTensors[torch.Tensor],
    recipe: Recipe,
    left_alone: set[str],
    layer_types: Mapping[str, Sequence[str]] | None,
) -> Iterator[tuple[Rule, list[str]]]:
    """Each rule with the tensors that it holds for, those of several names once, under their owner."""
    done: set[str] = set()
    for rule, matched in recipe.assign(state, layer_types).items():
        able = [name for name in matched if name not in left_alone and _can_compress(state.specs[name])]
        # Of a tensor with several names: the first rule that matches any of them.
        names = [n for n in dict.fromkeys(state.owners[name] for name in able) if n not in done]
        done.update(names)
        yield rule, names


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
        model.load_state_dict(arrange_units(model.state_dict(), recipe.unit_pairs()))


def check_recipe_units(model: torch.nn.Module, recipe: Recipe) -> None:
    """Make sure that a recipe's ``units`` fit a network.

    Raises:
        RecipeError: naming the layers that do not.
    """
    check_units({name: tuple(t.shape) for name, t in model.state_dict().items()}, recipe.unit_pairs())


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
    for rule, matched in recipe.assign(model.state_dict(), layer_types_of(model)).items():
        weights = {}
        for name in matched:
            parameter = parameters.get(name)
            if parameter in left and _can_compress(spec_of(parameter)):
                left.remove(parameter)
                weights[owners[parameter]] = parameter
        result.append((rule, weights))
    return result


def rules_to_prune(
    model: torch.nn.Module, recipe: Recipe
) -> list[tuple[Rule, dict[str, torch.nn.Parameter]]]:
    """The rules of a recipe that mask weights, each with the parameters that it prunes, by name.

    Rules that remove channels are checked, and left out.

    Raises:
        RecipeError: where a rule matches no tensor of the model.
    """
    result = []
    for rule, weights in rules_for(model, recipe):
        if rule.prune is not None and not rule.prune.removes_channels:
            names = rule.prunes({name: tuple(weight.shape) for name, weight in weights.items()})
            result.append((rule, {name: weights[name] for name in names}))
    is_bounded([rule for rule, _ in result])
    return result


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
