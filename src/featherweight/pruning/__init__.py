"""Pruning: importance (what to keep), granularity and masks (how much of it), schedules (when)."""

from featherweight.pruning.granularity import (
    GRANULARITIES,
    any_in_group,
    expand_groups,
    group_shape,
    group_size,
    sum_groups,
)
from featherweight.pruning.importance import (
    IMPORTANCES,
    Batch,
    Calibration,
    FunctionImportance,
    Importance,
    Loss,
    NetworkImportance,
    Progress,
    WeightImportance,
    check_finite,
    check_scores,
    evaluating,
    importance_by_name,
    score,
)
from featherweight.pruning.masks import (
    below_std,
    prune_below_std,
    prune_groups,
    prune_lowest,
    refuse_empty,
    sparsity,
)
from featherweight.pruning.rate import per_bit, weight_bits
from featherweight.pruning.schedules import Schedule
from featherweight.pruning.streaming import lowest_by_tensor, pooled_std
from featherweight.pruning.units import arrange_units, check_units, without_dead_units

__all__ = [
    "GRANULARITIES",
    "IMPORTANCES",
    "Batch",
    "Calibration",
    "FunctionImportance",
    "Importance",
    "Loss",
    "NetworkImportance",
    "Progress",
    "Schedule",
    "WeightImportance",
    "any_in_group",
    "arrange_units",
    "below_std",
    "check_finite",
    "check_scores",
    "check_units",
    "evaluating",
    "expand_groups",
    "group_shape",
    "group_size",
    "importance_by_name",
    "lowest_by_tensor",
    "per_bit",
    "pooled_std",
    "prune_below_std",
    "prune_groups",
    "prune_lowest",
    "refuse_empty",
    "score",
    "sparsity",
    "sum_groups",
    "weight_bits",
    "without_dead_units",
]
