"""A recipe applied to a trained model, all tensors at once or each when it is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from featherweight.channel_rules import refuse_channel_rules
from featherweight.errors import RecipeError
from featherweight.lazy import LazyTensors, as_lazy
from featherweight.pruning import (
    Progress,
    WeightImportance,
    below_std,
    check_finite,
    expand_groups,
    lowest_by_tensor,
    pooled_std,
    prune_groups,
    refuse_empty,
    score,
)
from featherweight.recipe.patterns import layer_types_of
from featherweight.rule_targets import can_compress
from featherweight.selection import refuse_at_once, targets_of
from featherweight.sharing import ends, quantize, round_stored, say_left_raw
from featherweight.tensors import QuantizedTensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from featherweight.recipe import Prune, Recipe, Rule


def compress(
    model: torch.nn.Module | Mapping[str, torch.Tensor],
    recipe: Recipe,
    *,
    data: Iterable[Any] | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, torch.Tensor | QuantizedTensor]:
    """Prune and quantize a trained model after training, without data or with a few inputs.

    Args:
        model: a module or its state dict; it is not changed. Buffers of a module, such as the running
            statistics of batch normalisation, are left raw; in a state dict they cannot be told.
        recipe: what to do with which tensor. Schedules are taken at their end. A tied tensor is one
            tensor: the first rule that matches any of its names holds.
        data: batches of inputs, or of ``(inputs, targets)``, to correct biases and the running statistics of
            batch normalisation by (:mod:`featherweight.output_correction`); asks for a module.
        progress: called with the name of each tensor when it is done, tied ones once.

    Returns:
        A mapping from tensor name to tensor, ready for :func:`featherweight.save_file`. A tensor that no
        rule quantizes is a ``torch.Tensor``; tied tensors are one object under several names.

    Raises:
        RecipeError: where a rule matches no tensor, or prunes by an importance that needs data; where there
            are data without a module, or without an input.
        TensorError: where weights are not finite, naming the tensor.
    """
    module = model if isinstance(model, torch.nn.Module) else None
    if data is not None and module is None:
        raise RecipeError("data correct the biases of a module; pass the module, not its state dict")
    lazy = compressed_tensors(model, _settled(model, recipe))
    made = {}
    for name in lazy.distinct:
        made[name] = lazy[name]
        if progress is not None:
            progress(name)
    if data is not None and module is not None:
        made |= _corrected(module, lazy, made, data)
    return {name: made[owner] for name, owner in lazy.owners.items()}


def _corrected(
    model: torch.nn.Module,
    lazy: CompressedTensors,
    made: Mapping[str, torch.Tensor | QuantizedTensor],
    data: Iterable[Any],
) -> dict[str, torch.Tensor]:
    """Biases and running statistics corrected on data, rounded as their rules say; quantized ones stay."""
    from featherweight.files import to_torch
    from featherweight.output_correction import corrected

    state, fixed = {}, set()
    for name, owner in lazy.owners.items():
        tensor = made[owner]
        if isinstance(tensor, QuantizedTensor):
            fixed.add(name)
            state[name] = to_torch(tensor).to(model.state_dict()[name].device)
        else:
            state[name] = tensor
    changed = corrected(model, state, data, fixed)
    return {lazy.owners[name]: lazy.rounded(lazy.owners[name], tensor) for name, tensor in changed.items()}


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


def _settled(
    model: torch.nn.Module | Mapping[str, torch.Tensor], recipe: Recipe, progress: Progress | None = None
) -> Recipe:
    """The recipe with its bits chosen, without data, where that is still to be done."""
    if not recipe.undecided:
        return recipe
    from featherweight.bit_allocation import choose_bits  # which uses this module

    return choose_bits(model, recipe, progress=progress)


def compressed_tensors(
    model: torch.nn.Module | Mapping[str, torch.Tensor], recipe: Recipe, *, tell: bool = True
) -> CompressedTensors:
    """A module or its state dict under a recipe, each tensor made when it is asked for.

    Args:
        model: the module or its state dict.
        recipe: what to do with which tensor.
        tell: warn of tensors that rules match but that are no floating-point numbers.

    Raises:
        RecipeError: where a rule matches no tensor, or prunes by an importance that needs data.
    """
    if not isinstance(model, torch.nn.Module):
        return CompressedTensors(as_lazy(model), recipe, set(), None, tell=tell)
    buffers = {name for name, _ in model.named_buffers(remove_duplicate=False)}
    state = as_lazy(model.state_dict())
    return CompressedTensors(state, recipe, buffers, layer_types_of(model), tell=tell)


class CompressedTensors(LazyTensors["torch.Tensor | QuantizedTensor"]):
    """A state dict under a recipe; names in ``left_alone`` stay raw."""

    def __init__(
        self,
        state: LazyTensors[torch.Tensor],
        recipe: Recipe,
        left_alone: set[str],
        layer_types: Mapping[str, Sequence[str]] | None,
        *,
        tell: bool = True,
    ) -> None:
        super().__init__(state.specs, state.owners)
        refuse_channel_rules(recipe)
        self._state = state
        self._coder = recipe.code.coder
        self._bits = recipe.bits
        matched = recipe.assign(state, layer_types)
        held = dict(_names_by_rule(matched, state, left_alone))
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
        layers = ends({name: state.specs[name] for name in state.distinct if name not in left_alone})
        for rule, names in matched.items():
            if tell:
                say_left_raw(rule, [name for name in names if name not in left_alone], state.specs)
            self._stored.update({state.owners[n]: rule for n in names if state.owners[n] not in self._rules})
            if rule.quantize is not None:
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

    def rounded(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor in the place of one that is not quantized, rounded as its rule says."""
        rule = self._rules.get(name, self._stored.get(name))
        return tensor if rule is None else round_stored(name, tensor, rule)

    def __getitem__(self, name: str) -> torch.Tensor | QuantizedTensor:
        name = self.owners[name]
        tensor = self.pruned(name)
        rule = self._rules.get(name)
        if rule is None:
            return self.rounded(name, tensor)
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
    matched: Mapping[Rule, Sequence[str]], state: LazyTensors[torch.Tensor], left_alone: set[str]
) -> Iterator[tuple[Rule, list[str]]]:
    """Each rule with the tensors that it holds for, those of several names once, under their owner."""
    done: set[str] = set()
    for rule, candidates in matched.items():
        able = [name for name in candidates if name not in left_alone and can_compress(state.specs[name])]
        # Of a tensor with several names: the first rule that matches any of them.
        names = [n for n in dict.fromkeys(state.owners[name] for name in able) if n not in done]
        done.update(names)
        yield rule, names
