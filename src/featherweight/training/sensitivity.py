"""Measure one point of a sensitivity analysis: prune or quantize, test, retrain, test.

Each point starts from the same weights, depends on nothing but the point and its :class:`Task`, and runs on
one compute thread, so that the results are the same whatever works on them. Source: Han et al. 2015,
"Learning both Weights and Connections for Efficient Neural Networks".
"""

from __future__ import annotations

import itertools
import math
import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load as load_safetensors
from torch.nn.functional import cross_entropy

from featherweight.analysis.sweep import NETWORK, Point, Row, Sweep
from featherweight.errors import FeatherweightError, RecipeError
from featherweight.files import check_fits
from featherweight.pruning import Schedule
from featherweight.recipe import Prune, Quantize, Recipe, Rule
from featherweight.recipe.prune import AMOUNTS
from featherweight.training.evaluate import evaluate
from featherweight.training.phases import make_optimizer, seed_all
from featherweight.training.spec import ClassSpec, Phase, RunSpec
from featherweight.training_steps import prune, share

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch.optim import Optimizer

    from featherweight.data import ImageData

#: Retraining goes on where training ended: its constant learning rate is this part of the phase's own.
LR_PART = 0.1

#: Of shared weights, where the run has no phase ``share``.
_SHARE = Phase(epochs=0, lr=0.01, optimizer=ClassSpec("torch.optim.Adam"))

#: Seeds are this many epochs apart in the order of the data.
_EPOCHS_A_SEED = 1 << 32


@dataclass(frozen=True)
class Task:
    """What all points of a sweep have in common.

    Attributes:
        spec: the run: network, data, optimizer, recipe.
        sweep: how to retrain.
        weights: the trained network's, as safetensors.
        test: measure on the test images, not on the validation split.
        data_root: folder of the data sets for processes that do not have this one's environment.
    """

    spec: RunSpec
    sweep: Sweep
    weights: bytes
    test: bool = False
    data_root: str | None = None


def prunable(network: torch.nn.Module) -> list[str]:
    """Names of the weights that a sweep is over: floating-point parameters of two or more dimensions."""
    return [name for name, p in network.named_parameters() if p.ndim > 1 and p.is_floating_point()]


def check_points(recipe: Recipe, points: Iterable[Point], layers: list[str]) -> None:
    """Find out before a long job that an importance, granularity or quantizer is not known.

    Raises:
        RecipeError: naming it and those that are.
    """
    for point in points:
        for layer in layers:
            if point.bits is None:
                _prune_spec(recipe, point, layer)
            else:
                _quantize_spec(recipe, point, layer)


def dense_accuracy(task: Task) -> tuple[float, float]:
    """Top-1 accuracy in percent and loss of the network as it is."""
    return _test(_network(task, 0), task)


def measure(job: tuple[Task, Point]) -> list[Row]:
    """Try a point.

    Args:
        job: the sweep's task, and the point.

    Returns:
        One row for each of the point's ``epochs``.

    Raises:
        FeatherweightError: where the layer cannot be pruned or quantized like that, naming the point.
    """
    task, point = job
    try:
        return _measure(task, point)
    except FeatherweightError as error:
        raise type(error)(f"{point}: {error}") from None


def _measure(task: Task, point: Point) -> list[Row]:
    network = _network(task, point.seed)
    layers = task.sweep.choose(prunable(network)) if point.layer == NETWORK else [point.layer]
    optimizer = _optimizer(task, point, network)
    rows, last = [], max(point.epochs)
    every = max(last // point.steps, 1)  # epochs between prunings, the first of which is at epoch 0
    for epoch in range(last + 1):
        if epoch % every == 0 and epoch // every < point.steps:
            _constrain(task, point, network, layers, optimizer, epoch // every + 1)
        if epoch in point.epochs:
            rows.append(_row(task, point, network, layers, epoch))
        if epoch < last:
            _retrain(task, network, optimizer, point.seed, epoch)
    return rows


def _constrain(
    task: Task, point: Point, network: torch.nn.Module, layers: list[str], optimizer: Optimizer, step: int
) -> None:
    """Prune the ``step``-th portion, or quantize."""
    if not _finite(network):
        return  # training has diverged; the accuracy says so
    network.eval()  # calibration must change neither running statistics nor drop anything
    if point.bits is not None:
        share(network, _quantizing(task.spec.recipe, point, layers), optimizer=optimizer)
    elif point.sparsity:
        recipe = _pruning(task, point, layers, point.sparsity * step / point.steps)
        data = list(itertools.islice(_epoch(task, point.seed, -1), task.sweep.calibration_batches))
        prune(network, recipe, data=data, loss=cross_entropy, optimizer=optimizer)


def _pruning(task: Task, point: Point, layers: list[str], sparsity: float) -> Recipe:
    """One rule for all layers that are pruned alike."""
    scope = task.sweep.scope if point.layer == NETWORK else "layer"
    groups: dict[Prune, list[str]] = {}
    for layer in layers:
        spec = replace(_prune_spec(task.spec.recipe, point, layer), sparsity=sparsity, std=None, scope=scope)
        groups.setdefault(spec, []).append(layer)
    return Recipe(tuple(Rule(_exactly(names), prune=spec) for spec, names in groups.items()))


def _prune_spec(recipe: Recipe, point: Point, layer: str) -> Prune:
    rule = recipe.rule_for(layer)
    spec = (rule.prune if rule else None) or Prune(sparsity=0.5)
    # Whatever the recipe's amount is, the sweep's takes its place, up to the whole layer.
    changes: dict[str, Any] = {**dict.fromkeys(AMOUNTS), "sparsity": 0.5, "schedule": Schedule()}
    changes["allow_empty"] = True
    if point.importance not in (None, spec.importance):
        changes.update({"importance": point.importance, "options": {}})
    if point.granularity is not None:
        changes["granularity"] = point.granularity
    spec = replace(spec, **changes)
    if spec.removes_channels:
        raise RecipeError(
            f"{layer}: granularity channel with importance {spec.importance} removes channels, which a sweep "
            f"does not; give another granularity or importance"
        )
    return spec


def _quantizing(recipe: Recipe, point: Point, layers: list[str]) -> Recipe:
    groups: dict[Quantize, list[str]] = {}
    for layer in layers:
        groups.setdefault(_quantize_spec(recipe, point, layer), []).append(layer)
    return Recipe(tuple(Rule(_exactly(names), quantize=spec) for spec, names in groups.items()))


def _quantize_spec(recipe: Recipe, point: Point, layer: str) -> Quantize:
    rule = recipe.rule_for(layer)
    spec = (rule.quantize if rule else None) or Quantize()
    changes: dict[str, Any] = {"bits": point.bits, "seed": point.seed}
    if point.quantizer is not None:
        method, _, init = point.quantizer.partition(":")
        if method != spec.method:
            spec = Quantize()  # a method's options are not another's
        changes.update({"method": method, **({"init": init} if init else {})})
    # Of so many bits, where fixed_point puts its point is for each tensor to say.
    return replace(spec, integer_bits=None, fraction_bits=None, **changes)


def _exactly(names: list[str]) -> str:
    return "re:" + "|".join(map(re.escape, names))


def _optimizer(task: Task, point: Point, network: torch.nn.Module) -> Optimizer:
    """Of retraining: the phase's own optimizer at a constant, lower learning rate."""
    spec = task.spec
    phase = (spec.share or _SHARE) if point.bits is not None else (spec.prune or spec.fit)
    return make_optimizer(spec, replace(phase, lr=task.sweep.lr or LR_PART * phase.lr), network)


def _retrain(task: Task, network: torch.nn.Module, optimizer: Optimizer, seed: int, epoch: int) -> None:
    network.train()
    for images, labels in itertools.islice(_epoch(task, seed, epoch), task.sweep.limit_batches):
        optimizer.zero_grad()
        cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _epoch(task: Task, seed: int, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Training batches in the order of a seed and an epoch; -1 is for calibration."""
    batches = _images(task.spec.data, task.data_root).train_batches()
    batches.set_epoch(seed * _EPOCHS_A_SEED + task.spec.fit.epochs + 1 + epoch)
    return iter(batches)


def _row(task: Task, point: Point, network: torch.nn.Module, layers: list[str], epochs: int) -> Row:
    accuracy, loss = _test(network, task)
    weights = [dict(network.named_parameters())[name] for name in layers]
    zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    importance = granularity = quantizer = None
    recipe = task.spec.recipe
    if point.bits is None:
        specs = [_prune_spec(recipe, point, layer) for layer in layers]
        importance, granularity = _joined(s.importance for s in specs), _joined(s.granularity for s in specs)
    else:
        quantizer = point.quantizer or _joined(
            f"{s.method}:{s.init}" if s.method == "kmeans" else s.method
            for s in (_quantize_spec(recipe, point, layer) for layer in layers)
        )
    return Row(
        point.layer,
        point.sparsity,
        point.bits,
        importance,
        granularity,
        point.steps,
        quantizer,
        epochs,
        point.seed,
        accuracy,
        loss if math.isfinite(loss) else None,
        zeros,
    )


def _joined(names: Iterable[str]) -> str:
    return "+".join(dict.fromkeys(names))


def _test(network: torch.nn.Module, task: Task) -> tuple[float, float]:
    images = _images(task.spec.data, task.data_root)
    batches = images.test_batches() if task.test else images.validation_batches()
    if not len(batches):
        raise RecipeError("data: validation_split is 0; give some images, or measure with --test")
    result = evaluate(network, batches)
    return round(100.0 - result.error_percent, 9), result.loss


def _network(task: Task, seed: int) -> torch.nn.Module:
    seed_all(seed)
    network: torch.nn.Module = task.spec.model.create()
    state = load_safetensors(task.weights)
    check_fits(state, network, "the weights")
    network.load_state_dict(state)
    if task.spec.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _finite(network: torch.nn.Module) -> bool:
    return all(bool(torch.isfinite(p).all()) for p in network.parameters())


def _images(spec: ClassSpec, data_root: str | None) -> ImageData:
    """The data set, loaded once a process."""
    if data_root is not None:
        os.environ["FEATHERWEIGHT_DATA"] = data_root
    key = f"{spec} {os.environ.get('FEATHERWEIGHT_DATA')}"
    if key not in _loaded:
        _loaded.clear()  # one at a time: they are large
        images = spec.create()
        if not hasattr(images, "train_batches"):
            raise RecipeError(f"data: {spec.class_path} is no featherweight.data.ImageData")
        _loaded[key] = images
    return _loaded[key]


_loaded: dict[str, ImageData] = {}
