"""Channel pruning from end to end: choose channels, make up for them, remove them, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from featherweight.errors import RecipeError, TensorError
from featherweight.pruning.channels.groups import IN, ChannelGroup, channel_group
from featherweight.pruning.channels.reconstruction import RIDGE, reconstruct
from featherweight.pruning.channels.removal import remove, silence, undone_on_error
from featherweight.pruning.channels.samples import Sample, collect, gram
from featherweight.pruning.channels.selection import at_random, greedy, lasso, lowest
from featherweight.pruning.importance import WeightImportance, importance_by_name, score

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: Ways to choose that look at what the following layers see.
BY_DATA = ("greedy", "lasso")

#: All ways to choose that are no importance of single weights.
METHODS = (*BY_DATA, "random", "l1norm", "l2norm")

#: Inputs that a layer is looked at with, and rows of them at most.
IMAGES, ROWS = 256, 4096

#: How far the network without the channels may be from the one in which they are silent, as a fraction
#: of its largest output: float32 sums in another order.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class PrunedChannels:
    """What channel pruning did to one layer.

    Attributes:
        layer: its name.
        before: channels it had.
        kept: which of them are left, in order.
        coupled: names of other layers that lost the same channels: normalisation, a residual stage.
    """

    layer: str
    before: int
    kept: tuple[int, ...]
    coupled: tuple[str, ...]


def prune_channels(
    model: nn.Module,
    amounts: Mapping[str, int | float],
    *,
    method: str = "greedy",
    data: Iterable[Any] | None = None,
    example: Tensor | None = None,
    reconstruction: bool | None = None,
    images: int = IMAGES,
    rows: int = ROWS,
    ridge: float = RIDGE,
    seed: int = 0,
    progress: Callable[[PrunedChannels], object] | None = None,
) -> list[PrunedChannels]:
    """Remove channels from a network, in place: what is left is a plain smaller module.

    Layers are done one after another in the order of ``amounts``; each sees the network as the ones before
    left it. Make the optimizer afterwards, as parameters are replaced.

    Example::

        fw.prune_channels(model, {"conv1": 0.5, "conv2": 32}, data=loader)
        fw.save_model(model, "model.fwt")
        fw.load_model(OriginalClass(), "model.fwt")

    Args:
        model: the network, in float32.
        amounts: for each layer by its name the fraction of its output channels to remove (a float), or
            how many to keep (an int). Of layers that share their channels, as in a residual stage, one is
            enough; others must have the same amount.
        method: ``greedy`` (ThiNet), ``lasso`` (He 2017), ``random``, ``l1norm``, ``l2norm`` (of the
            filters), or an importance of weights (:data:`featherweight.pruning.IMPORTANCES` or the import
            path of a callable), summed over each filter.
        data: batches of inputs, or of inputs and targets; for greedy, lasso and reconstruction.
        example: inputs to follow the channels with; the first of ``data`` unless given.
        reconstruction: fit the weights of the layers that read the channels to give the outputs they
            had, by least squares; where there are data unless given.
        images: inputs taken from ``data`` at most.
        rows: output positions that a layer's fit and choice look at, at most.
        ridge: see :func:`~featherweight.pruning.channels.reconstruction.least_squares`.
        seed: of random choices.
        progress: called with what was done to a layer when it is done.

    Returns:
        What was done, one entry a layer.

    Raises:
        RecipeError: where a layer is unknown, cannot be pruned by channel or would lose all of its
            channels, an amount is out of range, or data are needed and missing. Names the layer and why;
            a layer that fails is left as it was, those before it stay pruned.
    """
    needed = method in BY_DATA or bool(reconstruction)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    batches = _inputs(data, images, device) if data is not None else []
    if (needed and not batches) or (example is None and not batches):
        raise RecipeError(
            f"channel pruning by {method} needs data: at least one batch of inputs"
            + ("" if needed else ", or an example")
        )
    example = batches[0][:2] if example is None else example.to(device)
    if method not in METHODS and not isinstance(importance_by_name(method), WeightImportance):
        raise RecipeError(f"channels cannot be chosen by {method}; known: {', '.join(METHODS)}, or magnitude")
    fit = bool(batches) if reconstruction is None else reconstruction
    training = {module: module.training for module in model.modules()}
    model.eval()
    done: list[PrunedChannels] = []
    try:
        for name, amount in amounts.items():
            if _is_done(name, amounts, done):
                continue
            group = channel_group(model, name, example)
            count = _count(group, amount)
            samples = []
            if count and (fit or method in BY_DATA):
                samples = collect(model, group, batches, rows, seed)
            removed = _choose(group, count, method, samples, seed)
            with undone_on_error(group):
                if fit:
                    for sample in samples:
                        reconstruct(sample, removed, ridge=ridge)
                _remove(model, group, removed, example)
            done.append(_report(group, removed))
            if progress is not None:
                progress(done[-1])
    finally:
        for module, mode in training.items():
            module.training = mode
    return done


def _inputs(data: Iterable[Any], images: int, device: torch.device) -> list[Tensor]:
    """The inputs of the first batches, ``images`` of them at most, where the network is."""
    batches: list[Tensor] = []
    left = images
    for batch in data:
        if left <= 0:
            break
        inputs = batch if isinstance(batch, Tensor) else batch[0]
        batches.append(inputs[:left].to(device))
        left -= len(inputs)
    return [batch for batch in batches if len(batch)]


def _is_done(name: str, amounts: Mapping[str, int | float], done: list[PrunedChannels]) -> bool:
    """Whether a layer has lost its channels with one before it, by the same amount."""
    for earlier in done:
        if name in earlier.coupled:
            if amounts[name] == amounts[earlier.layer]:
                return True
            raise RecipeError(
                f"{name}: shares its channels with {earlier.layer}, which is pruned by "
                f"{amounts[earlier.layer]}, not {amounts[name]}; name one of them"
            )
    return False


def _count(group: ChannelGroup, amount: int | float) -> int:
    """How many channels to remove, as many from each block."""
    blocks = max(group.blocks) + 1
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        raise RecipeError(
            f"{group.name}: expected a fraction or a number of channels to keep, got {amount!r}"
        )
    if isinstance(amount, float):
        if not 0 <= amount < 1:
            raise RecipeError(
                f"{group.name}: the fraction of channels to remove is at least 0 and below 1, got {amount}"
            )
        # One of each block has to stay, and a fraction says about how many.
        count = round(amount * group.channels) // blocks * blocks
        return min(count, group.channels - blocks)
    if not 1 <= amount <= group.channels:
        raise RecipeError(f"{group.name}: has {group.channels} channels, cannot keep {amount}")
    if amount % blocks:
        raise RecipeError(
            f"{group.name}: grouped convolutions need a multiple of {blocks} channels, cannot keep {amount}"
        )
    return group.channels - amount


def _choose(group: ChannelGroup, count: int, method: str, samples: list[Sample], seed: int) -> list[int]:
    if not count:
        return []
    if method in BY_DATA:
        matrix = gram(samples, group.channels, seed=seed)
        if not np.isfinite(matrix).all():
            raise TensorError(f"{group.name}: its outputs or the weights that read them are not finite")
        return (greedy if method == "greedy" else lasso)(matrix, count, group.blocks)
    if method == "random":
        return at_random(group.channels, count, group.blocks, seed=seed)
    return lowest(_filter_scores(group, method), count, group.blocks)


def _filter_scores(group: ChannelGroup, method: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Scores of the filters that make each channel, summed over the layers that do."""
    total = torch.zeros(group.channels, dtype=torch.float64)
    for member in group.producers:
        weight = member.layer.weight
        assert isinstance(weight, Tensor)  # noqa: S101
        flat = weight.detach().flatten(1).double().cpu()
        if method == "l1norm":
            scores = flat.abs().sum(dim=1)
        elif method == "l2norm":
            scores = flat.norm(dim=1)
        else:
            importance = importance_by_name(method)
            assert isinstance(importance, WeightImportance)  # noqa: S101  (prune_channels has seen to it)
            found = score(importance, f"{member.name}.weight", weight)
            scores = found.flatten(1).sum(dim=1).double().cpu()
        for channel, positions in enumerate(member.positions):
            total[channel] += scores[list(positions)].sum()
    result: np.ndarray[Any, np.dtype[np.float64]] = total.numpy()
    if np.isnan(result).any():
        raise TensorError(f"{group.name}: {method} gave NaN scores; are the weights finite?")
    return result


@torch.no_grad()
def _remove(model: nn.Module, group: ChannelGroup, removed: list[int], example: Tensor) -> None:
    """Remove channels and make sure that the network computes what it did with them silent."""
    silence(group, removed)
    expected = _outputs(model, example)
    remove(group, removed)
    mixed = f"{group.name}: cannot be pruned by channel: without its channels the network"
    try:
        found = _outputs(model, example)
    except (RuntimeError, ValueError, IndexError) as error:
        raise RecipeError(f"{mixed} does not run: {error}") from None
    for old, new in zip(expected, found, strict=True):
        if old.shape != new.shape:
            raise RecipeError(f"{mixed} gives outputs of shape {tuple(new.shape)}, not {tuple(old.shape)}")
        if not torch.allclose(old, new, rtol=0.0, atol=_TOLERANCE * float(old.abs().max()), equal_nan=True):
            raise RecipeError(f"{mixed} does not give the outputs that it gave with them silent")


def _outputs(model: nn.Module, example: Tensor) -> list[Tensor]:
    outputs = model(example)
    if isinstance(outputs, Tensor):
        return [outputs]
    values = outputs.values() if isinstance(outputs, dict) else outputs
    return [value for value in values if isinstance(value, Tensor)]


def _report(group: ChannelGroup, removed: list[int]) -> PrunedChannels:
    gone = set(removed)
    kept = tuple(channel for channel in range(group.channels) if channel not in gone)
    others = {m.name for m in group.members if m.kind != IN} - {group.name}
    return PrunedChannels(group.name, group.channels, kept, tuple(sorted(others)))
