"""Masks and weight sharing as constraints on the optimizer step.

Training under compression never changes the model. Before a step, the gradients of pruned weights
become zero and those of weights that share a value become their cluster's summed gradient (Han, Mao &
Dally 2015, equation 3); after it, pruned weights are set to zero and the members of a cluster to one
value again. Weights that share a value and a gradient move alike under any optimizer, so SGD, Adam,
gradient accumulation, mixed precision and DDP work as they are, and a checkpoint loads into the plain
model.

Attached to an optimizer, :class:`Constraints` does both from its step hooks::

    constraints = fw.prune(model, recipe, optimizer=optimizer)
    ...                          # train on as before
    fw.share(model, recipe, optimizer=optimizer)
    ...                          # train on as before
    fw.save_model(model, "model.fwt")
"""

from featherweight.constraints.incremental import Incremental
from featherweight.constraints.kinds import Constraint, Mask, Sharing
from featherweight.constraints.latent import FixedPoint, Latent, Relabelled, Ternary
from featherweight.constraints.on_optimizer import Constraints
from featherweight.constraints.surgery import Surgery

__all__ = [
    "Constraint",
    "Constraints",
    "FixedPoint",
    "Incremental",
    "Latent",
    "Mask",
    "Relabelled",
    "Sharing",
    "Surgery",
    "Ternary",
]
