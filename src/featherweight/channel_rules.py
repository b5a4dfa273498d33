"""Rules of a recipe that remove channels (``granularity: channel``), applied to a network."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

import torch

from featherweight.errors import RecipeError
from featherweight.pruning.channels import PrunedChannels, prune_channels
from featherweight.recipe.patterns import layer_types_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from featherweight.recipe import Recipe, Rule

logger = logging.getLogger(__name__)

_LAYERS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.Linear)


def removes_channels(rule: Rule) -> bool:
    """Whether a rule removes channels from the network, rather than masking weights."""
    return rule.prune is not None and rule.prune.removes_channels


def refuse_channel_rules(recipe: Recipe) -> None:
    """Say what to do with rules that remove channels, where weights can only be masked.

    Raises:
        RecipeError: where there are such rules.
    """
    for rule in recipe.rules:
        if removes_channels(rule):
            raise RecipeError(
                f"the rule for {rule.label!r} removes channels, which changes the network itself: "
                f"featherweight run does it, or prune_channels_by before the optimizer is made"
            )


def prune_channels_by(
    model: torch.nn.Module, recipe: Recipe, data: Iterable[Any], *, seed: int = 0
) -> list[PrunedChannels]:
    """Remove channels from a network as a recipe's rules with ``granularity: channel`` say, in place.

    Args:
        model: the network.
        recipe: other rules are passed over. Of the tensors that a rule matches, weights of convolutions
            and linear layers count; layers that share their channels lose them once.
        data: batches of inputs, or of inputs and targets, such as training batches.
        seed: of random choices.

    Raises:
        RecipeError: as :func:`featherweight.prune_channels`; where a rule matches no layer.
    """
    done: list[PrunedChannels] = []
    for rule, amounts in _amounts(model, recipe):
        assert rule.prune is not None  # noqa: S101  (removes_channels has seen to it)
        done += prune_channels(
            model, amounts, method=rule.prune.importance, data=data, seed=seed, progress=_tell
        )
    return done


def _tell(pruned: PrunedChannels) -> None:
    logger.info("%s: %d of %d channels left", pruned.layer, len(pruned.kept), pruned.before)


def check_channel_rules(model: torch.nn.Module, recipe: Recipe, example: torch.Tensor) -> None:
    """Find out whether the channels that rules name can be removed; the model is left alone.

    Args:
        model: the network.
        recipe: other rules are passed over.
        example: a batch of inputs.

    Raises:
        RecipeError: where they cannot, naming the layer and why.
    """
    rules = _amounts(model, recipe)
    trial = copy.deepcopy(model) if rules else model
    for _, amounts in rules:
        prune_channels(trial, amounts, method="random", example=example[:1])


def _amounts(model: torch.nn.Module, recipe: Recipe) -> list[tuple[Rule, dict[str, float]]]:
    """Fractions of channels to remove by layer, for each rule that removes channels."""
    result = []
    for rule, matched in recipe.assign(model.state_dict(), layer_types_of(model)).items():
        if rule.prune is None or not removes_channels(rule):
            continue
        layers = [name.removesuffix(".weight") for name in matched if name.endswith(".weight")]
        able = [name for name in layers if isinstance(model.get_submodule(name), _LAYERS)]
        if not able:
            raise RecipeError(
                f"the rule for {rule.label!r} removes channels, but matches no weight of a convolution or "
                f"linear layer; it matches {', '.join(matched[:8])}"
            )
        result.append((rule, dict.fromkeys(able, rule.prune.sparsity_at(None))))
    return result
