"""Pruning: importance (what to keep), masks (how much of it), schedules (when)."""

from featherweight.pruning.importance import (
    IMPORTANCES,
    Importance,
    check_finite,
    importance_by_name,
    magnitude,
    score,
)
from featherweight.pruning.masks import prune_below_std, prune_lowest, sparsity
from featherweight.pruning.schedules import Schedule
from featherweight.pruning.streaming import lowest_by_tensor, pooled_std

__all__ = [
    "IMPORTANCES",
    "Importance",
    "Schedule",
    "check_finite",
    "importance_by_name",
    "lowest_by_tensor",
    "magnitude",
    "pooled_std",
    "prune_below_std",
    "prune_lowest",
    "score",
    "sparsity",
]
