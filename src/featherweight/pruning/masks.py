"""From scores to masks: which weights to keep, by amount or by threshold, in one layer or over several.

A mask is a bool tensor in the weight's shape, true where the weight is kept. A weight that a mask has
pruned stays pruned: every function takes the masks so far and only ever takes away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from featherweight.errors import TensorError
from featherweight.pruning.granularity import any_in_group, expand_groups
from featherweight.pruning.importance.magnitude import Std
from featherweight.pruning.streaming import pooled_std

if TYPE_CHECKING:
    from collections.abc import Mapping


def prune_lowest(
    scores: Mapping[str, torch.Tensor], masks: Mapping[str, torch.Tensor], count: int
) -> dict[str, torch.Tensor]:
    """Prune the ``count`` lowest scores over all the tensors given, exactly.

    One tensor makes it the scope ``layer``, several make it ``global``.

    Args:
        scores: finite or infinite scores by tensor name.
        masks: the masks so far; what they have pruned counts among the lowest.
        count: weights to have pruned in the end; fewer than are pruned already prunes none.

    Returns:
        New masks by name. Of equal scores at the border, those that come first are pruned first.
    """
    # Pruned already: lowest of all, so that they are counted first.
    flat = torch.cat([scores[n].masked_fill(~masks[n], -torch.inf).reshape(-1) for n in scores])
    count = min(count, flat.numel())
    if count <= 0:
        return {name: masks[name].clone() for name in scores}
    threshold = flat.kthvalue(count).values
    keep = flat > threshold
    spare = flat.numel() - count - int(keep.sum())  # ties at the threshold that must stay
    if spare:
        # Scores may be -inf themselves: what is pruned already must not pass for one of them.
        kept = torch.cat([masks[n].reshape(-1) for n in scores])
        ties = ((flat == threshold) & kept).nonzero().reshape(-1)
        keep[ties[max(len(ties) - spare, 0) :]] = True
    parts = torch.split(keep, [scores[n].numel() for n in scores])
    return {n: part.reshape(scores[n].shape) & masks[n] for n, part in zip(scores, parts, strict=True)}


def prune_groups(
    scores: Mapping[str, torch.Tensor], masks: Mapping[str, torch.Tensor], count: int, granularity: str
) -> dict[str, torch.Tensor]:
    """Prune the ``count`` groups of lowest score over all the tensors given, as :func:`prune_lowest` does.

    Args:
        scores: in the shape of the groups, by tensor name.
        masks: the masks so far, in the weights' shapes; a group with nothing left counts as pruned.
        count: groups to have pruned in the end.
        granularity: what a group is.

    Returns:
        New masks in the weights' shapes, by name.
    """
    left = {name: any_in_group(masks[name], granularity) for name in scores}
    kept = prune_lowest(scores, left, count)
    return {n: expand_groups(kept[n], masks[n].shape, granularity) & masks[n] for n in scores}


def prune_below_std(
    weights: Mapping[str, torch.Tensor],
    masks: Mapping[str, torch.Tensor],
    sensitivity: float,
    granularity: str = "element",
) -> dict[str, torch.Tensor]:
    """Prune where abs(w) < sensitivity · std, the standard deviation of the weights still kept.

    Han et al. 2015 ("Learning both weights and connections"): the threshold is a quality parameter
    times the standard deviation of a layer's weights. Several tensors share one threshold. Of a kernel,
    filter or channel, the root mean square of its weights is compared.

    Args:
        weights: weights by tensor name.
        masks: the masks so far.
        sensitivity: the quality parameter s, at least 0.
        granularity: what is pruned at a time.
    """
    threshold = sensitivity * pooled_std(lambda: (weights[n].detach()[masks[n]] for n in weights))
    return {n: ~below_std(n, weights[n], threshold, granularity) & masks[n] for n in weights}


def below_std(name: str, weight: torch.Tensor, threshold: float, granularity: str) -> torch.Tensor:
    """Which weights belong to groups whose root mean square is below a threshold: bool, ``weight.shape``."""
    below = Std().score(name, weight, granularity) < threshold
    return expand_groups(below, weight.shape, granularity)


def refuse_empty(masks: Mapping[str, torch.Tensor]) -> None:
    """Refuse masks that leave nothing of a tensor.

    Raises:
        TensorError: naming the tensor.
    """
    for name, mask in masks.items():
        if mask.numel() and not mask.any():
            raise TensorError(
                f"{name}: would be pruned to nothing; prune less of it, or set allow_empty: true"
            )


def sparsity(masks: Mapping[str, torch.Tensor]) -> float:
    """Fraction of the weights that are pruned, over all masks; 0 for none."""
    total = sum(mask.numel() for mask in masks.values())
    return 1.0 - sum(int(mask.sum()) for mask in masks.values()) / total if total else 0.0
