"""What a rule prunes: from its importance, granularity, scope and amount to masks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from featherweight.constraints import Surgery
from featherweight.errors import RecipeError
from featherweight.pruning import (
    FunctionImportance,
    NetworkImportance,
    any_in_group,
    check_finite,
    check_scores,
    evaluating,
    expand_groups,
    group_shape,
    per_bit,
    prune_below_std,
    prune_groups,
    refuse_empty,
    score,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from featherweight.constraints import Constraints
    from featherweight.pruning import Calibration
    from featherweight.recipe import Prune, Rule


def prune_rules(
    rules: Iterable[tuple[Rule, Mapping[str, torch.nn.Parameter]]],
    constraints: Constraints,
    epoch: float | None,
    calibration: Calibration | None,
) -> None:
    """Prune as some rules say, each its own weights, into ``constraints``.

    Args:
        rules: as :func:`featherweight.rule_targets.rules_to_prune` gives them.
        constraints: of the model.
        epoch: where the schedules stand; their end for ``None``.
        calibration: the model with data, if there are any.

    Raises:
        RecipeError: where an importance needs data and there are none.
        TensorError: where weights or scores are not as they must be, naming the tensor.
    """
    held = [(rule.prune, weights) for rule, weights in rules if rule.prune is not None]
    functions = any(isinstance(spec.scorer(), FunctionImportance) for spec, _ in held)
    if functions and calibration is not None:
        average_gradients(calibration)
    for spec, weights in held:
        prune_by(spec, weights, constraints, epoch, calibration)
    if functions and calibration is not None:
        calibration.network.zero_grad()  # they are not the next step's


def average_gradients(calibration: Calibration) -> None:
    """Leave in every parameter's ``grad`` its gradient averaged over all batches, in evaluation mode."""
    model, batches = calibration.network, 0
    model.zero_grad()
    with evaluating(model):
        for inputs, targets in calibration.batches():
            calibration.loss(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
            batches += 1
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= batches


def prune_by(
    spec: Prune,
    weights: Mapping[str, torch.nn.Parameter],
    constraints: Constraints,
    epoch: float | None,
    calibration: Calibration | None = None,
) -> None:
    """Prune the named weights as one rule says, into ``constraints``.

    Args:
        spec: the rule's.
        weights: parameters of one model by name.
        constraints: of the same model.
        epoch: where the schedule stands; its end for ``None``.
        calibration: the model with data, for an importance that needs them.

    Raises:
        RecipeError: where the importance needs data and there are none, or amounts do not fit the tensors.
        TensorError: where weights are not finite, scores cannot be compared, or a tensor would be empty.
    """
    if spec.surgery is not None:
        _operate(spec, weights, constraints, epoch)
        return
    old = {}
    for name, weight in weights.items():
        mask = constraints.mask(name)
        old[name] = torch.ones_like(weight, dtype=torch.bool) if mask is None else mask
    for name, mask in select_masks(spec, weights, old, epoch, calibration).items():
        if constraints.mask(name) is None or not torch.equal(mask, old[name]):
            constraints.set_mask(name, mask)


def _operate(
    spec: Prune, weights: Mapping[str, torch.nn.Parameter], constraints: Constraints, epoch: float | None
) -> None:
    """Begin dynamic network surgery; the optimizer's steps go on with it."""
    assert spec.surgery is not None  # noqa: S101  (the caller asks)
    if epoch is not None and not spec.schedule.prunings(epoch):
        return
    for name, weight in weights.items():
        check_finite(name, weight)
        if not isinstance(constraints.latent(name), Surgery):
            surgery = Surgery.of(
                name, weight, spec.surgery, constraints.mask(name), allow_empty=spec.allow_empty
            )
            constraints.set_latent(name, surgery)


def select_masks(
    spec: Prune,
    weights: Mapping[str, torch.Tensor],
    masks: Mapping[str, torch.Tensor],
    epoch: float | None,
    calibration: Calibration | None = None,
) -> dict[str, torch.Tensor]:
    """The masks that a rule asks for by ``epoch``; what is pruned already stays pruned.

    Arguments and errors are those of :func:`prune_by`, with the masks so far by name.
    """
    for name, weight in weights.items():
        check_finite(name, weight)
    if spec.std is not None or spec.threshold is not None:
        result = _by_threshold(spec, weights, masks, epoch, calibration)
    else:
        result = _by_amount(spec, weights, masks, epoch, calibration)
    if not spec.allow_empty:
        refuse_empty({name: mask for name, mask in result.items() if masks[name].any()})
    return result


def _by_threshold(
    spec: Prune,
    weights: Mapping[str, torch.Tensor],
    masks: Mapping[str, torch.Tensor],
    epoch: float | None,
    calibration: Calibration | None,
) -> dict[str, torch.Tensor]:
    if epoch is not None and not spec.schedule.prunings(epoch):
        return dict(masks)
    result = {}
    if spec.std is not None:
        for names in scopes(spec, list(weights)):
            part = {name: weights[name] for name in names}
            result.update(prune_below_std(part, masks, spec.std, spec.granularity))
        return result
    assert spec.threshold is not None  # noqa: S101  (one of the two)
    for name, scores in score_groups(spec, weights, calibration).items():
        kept = scores > spec.threshold
        result[name] = expand_groups(kept, weights[name].shape, spec.granularity) & masks[name]
    return result


def _by_amount(
    spec: Prune,
    weights: Mapping[str, torch.Tensor],
    masks: Mapping[str, torch.Tensor],
    epoch: float | None,
    calibration: Calibration | None,
) -> dict[str, torch.Tensor]:
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    targets = targets_of(spec, shapes, epoch)
    done = {n: int((~any_in_group(masks[n], spec.granularity)).sum()) for n in weights}
    due = [names for names, count in targets if count > sum(done[name] for name in names)]
    wanted = {name: weights[name] for names in due for name in names}
    # Scores can cost minutes: only what is pruned further is scored.
    scores = score_groups(spec, wanted, calibration) if wanted else {}
    if spec.rate:
        scores = {name: per_bit(found, masks[name], spec.rate) for name, found in scores.items()}
    result = dict(masks)
    for names, count in targets:
        if names in due:
            part = {name: scores[name] for name in names}
            result.update(prune_groups(part, masks, count, spec.granularity))
    return result


def score_groups(
    spec: Prune, weights: Mapping[str, torch.Tensor], calibration: Calibration | None = None
) -> dict[str, torch.Tensor]:
    """Score the groups of some weights as a rule says, each by name in the shape of its groups.

    Raises:
        RecipeError: where the importance needs data and there are none.
        TensorError: where weights or scores are not as they must be, naming the tensor.
    """
    importance = spec.scorer()
    if not isinstance(importance, NetworkImportance):
        return {name: score(importance, name, weight, spec.granularity) for name, weight in weights.items()}
    for name, weight in weights.items():
        check_finite(name, weight)
    if calibration is None:
        raise RecipeError(needs_data(spec))
    with evaluating(calibration.network):
        found = importance.scores(weights, spec.granularity, calibration)
    return {
        name: check_scores(name, found[name], weight.shape, spec.granularity)
        for name, weight in weights.items()
    }


def needs_data(spec: Prune) -> str:
    """What to tell whoever has no data for an importance that needs them."""
    return (
        f"importance {spec.importance} needs training data: call fw.prune(model, recipe, data=batches, "
        f"loss=function), or train by featherweight run, which takes the run's own; "
        f"without data, take magnitude, l1norm or l2norm"
    )


def refuse_at_once(label: str, spec: Prune) -> None:
    """Refuse what a trained network alone does not suffice for: data, or training.

    Raises:
        RecipeError: naming the rule.
    """
    if spec.needs_training:
        raise RecipeError(
            f"the rule for {label!r}: {spec.needs_training} needs training: use featherweight run, the "
            f"callback PruneByRecipe, or fw.prune in a training loop"
        )
    if spec.needs_data:
        raise RecipeError(f"the rule for {label!r} cannot be followed without data: {needs_data(spec)}")


def targets_of(
    spec: Prune, shapes: Mapping[str, tuple[int, ...]], epoch: float | None
) -> list[tuple[list[str], int]]:
    """How many groups a rule wants pruned of which tensors together: one entry a tensor, or one for all.

    Args:
        spec: with an amount, no threshold.
        shapes: of the weights, by name in order.
        epoch: where the schedule stands; its end for ``None``.

    Raises:
        RecipeError: where ``amounts`` do not fit the tensors.
    """
    names = list(shapes)
    amounts = spec.amounts_of(names) if names else {}
    groups = {name: math.prod(group_shape(shape, spec.granularity)) for name, shape in shapes.items()}
    return [
        (part, spec.wanted(epoch, amounts[part[0]], sum(groups[name] for name in part)))
        for part in scopes(spec, names)
    ]


def scopes(spec: Prune, names: Sequence[str]) -> list[list[str]]:
    """The tensors that are looked at together: all, or each by itself."""
    if spec.scope == "global":
        return [list(names)] if names else []
    return [[name] for name in names]
