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
from featherweight.pruning.rate import per_bit, weight_bits
from featherweight.pruning.schedules import Schedule
from featherweight.pruning.streaming import lowest_by_tensor, pooled_std
from featherweight.pruning.units import arrange_units, check_units, without_dead_units

__all__ = [
    "IMPORTANCES",
    "Importance",
    "Schedule",
    "arrange_units",
    "check_finite",
    "check_units",
    "importance_by_name",
    "lowest_by_tensor",
    "magnitude",
    "per_bit",
    "pooled_std",
    "prune_below_std",
    "prune_lowest",
    "score",
    "sparsity",
    "weight_bits",
    "without_dead_units",
]
