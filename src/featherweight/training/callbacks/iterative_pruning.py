"""Iterative magnitude pruning as a Lightning callback."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

from featherweight.analysis.sparsity import measure_sparsity
from featherweight.constraints import Mask
from featherweight.errors import RecipeError
from featherweight.pruning import sparsity
from featherweight.training.callbacks.constrained import ConstrainedCallback, select_parameters
from featherweight.training.callbacks.pruning_functions import (
    METHODS,
    PruningMethod,
    further_mask,
    further_masks_global,
    pruning_method,
)
from featherweight.training.module import plain_model

if TYPE_CHECKING:
    import lightning

logger = logging.getLogger(__name__)

SCHEDULE_OPTIONS = ("epochs", "start_epoch", "prune_every", "target_sparsity")


class IterativePruning(ConstrainedCallback):
    """Prune at the start of chosen epochs and keep what is pruned at zero while training goes on.

    Args:
        pruning_fn: ``l1_unstructured``, ``l1_threshold`` (abs(w) < amount · std), ``random_unstructured``,
            ``ln_structured``, ``random_structured``, a ``BasePruningMethod`` class, or its import path.
        parameter_names: parameters to prune within a layer; ``["weight"]`` unless given.
        parameters_to_prune: pairs of a layer and a parameter's name, in place of all layers.
        use_global_unstructured: choose over all parameters together rather than in each.
        amount: what each pruning removes of what is left: a count (int), a fraction (float), a threshold
            (``l1_threshold``), or a list with one for each parameter.
        filter_layers: class names of the layers to prune, such as ``["Linear", "Conv2d"]``.
        pruning_schedule: ``epochs`` (the exact ones), or ``start_epoch`` and ``prune_every``; and
            ``target_sparsity``, at which pruning stops.
        pruning_dim: the dimension that structured functions prune.
        pruning_norm: the norm of ``ln_structured``.
        make_pruning_permanent: accepted for configurations written for other tools; there is nothing to
            make permanent here.
        verbose: 1 logs the overall sparsity after each pruning, 2 that of each parameter too.

    Logs ``sparsity`` and ``sparsity/NAME`` to the trainer's loggers at every epoch.
    """

    kind = Mask

    def __init__(
        self,
        pruning_fn: str | PruningMethod = "l1_unstructured",
        parameter_names: list[str] | None = None,
        parameters_to_prune: list[tuple[torch.nn.Module, str]] | None = None,
        use_global_unstructured: bool = True,
        amount: int | float | list[int | float] = 0.5,
        filter_layers: list[str] | None = None,
        pruning_schedule: dict[str, Any] | None = None,
        pruning_dim: int | None = None,
        pruning_norm: int | None = None,
        make_pruning_permanent: bool = True,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        self.method = pruning_method(pruning_fn)
        self.parameter_names = parameter_names or ["weight"]
        self.parameters_to_prune = parameters_to_prune
        self.use_global_unstructured = use_global_unstructured
        self.amount = amount
        self.filter_layers = filter_layers
        self.schedule = dict(pruning_schedule or {})
        self.options = self._method_options(pruning_dim, pruning_norm)
        self.verbose = verbose
        self._check()

    def _method_options(self, dim: int | None, norm: int | None) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if self.method in (METHODS["ln_structured"], METHODS["random_structured"]):
            options["dim"] = 0 if dim is None else dim
        if self.method is METHODS["ln_structured"]:
            options["n"] = 1 if norm is None else norm
        return options

    def _check(self) -> None:
        unknown = sorted(set(self.schedule) - set(SCHEDULE_OPTIONS))
        if unknown:
            raise RecipeError(
                f"pruning_schedule: unknown option {unknown[0]!r}; known: {', '.join(SCHEDULE_OPTIONS)}"
            )
        every, target = self.schedule.get("prune_every", 1), self.schedule.get("target_sparsity")
        if every < 1:
            raise RecipeError(f"pruning_schedule: prune_every must be at least 1, got {every}")
        if target is not None and not 0 <= target <= 1:
            raise RecipeError(
                f"pruning_schedule: target_sparsity is a fraction between 0 and 1, got {target}"
            )
        if self.use_global_unstructured and getattr(self.method, "PRUNING_TYPE", "") != "unstructured":
            raise RecipeError(f"{self.method.__name__} is structured; set use_global_unstructured to false")
        if isinstance(self.amount, list) and self.use_global_unstructured:
            raise RecipeError("a list of amounts needs use_global_unstructured: false")
        threshold = self.method is METHODS["l1_threshold"]
        for amount in self.amount if isinstance(self.amount, list) else [self.amount]:
            if amount < 0 or (isinstance(amount, float) and amount > 1 and not threshold):
                raise RecipeError(f"amount is a count, or a fraction between 0 and 1, got {amount}")

    # -- hooks -----------------------------------------------------------------------------------

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Prune if this epoch is one of the schedule's."""
        if not self._due(trainer.current_epoch):
            return
        weights = self._weights(pl_module)
        if not weights:
            return  # all are shared by now
        masks = self._masks(weights)
        target = self.schedule.get("target_sparsity")
        if target is not None and sparsity(masks) >= target:
            return
        for name, mask in self._prune(weights, masks).items():
            self.constraints.set_mask(name, mask)
        self._report(trainer.current_epoch, weights)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log sparsity, overall and of each parameter."""
        rows = measure_sparsity(plain_model(pl_module).state_dict())
        values = {f"sparsity/{row.name}": row.pruned / row.numel for row in rows.tensors if row.pruned}
        pl_module.log_dict({"sparsity": rows.pruned / max(rows.total, 1), **values})

    # -- the steps -------------------------------------------------------------------------------

    def _due(self, epoch: int) -> bool:
        if self.schedule.get("epochs") is not None:
            return epoch in self.schedule["epochs"]
        start, every = self.schedule.get("start_epoch", 0), self.schedule.get("prune_every", 1)
        return bool(epoch >= start and (epoch - start) % every == 0)

    def _weights(self, pl_module: lightning.LightningModule) -> dict[str, torch.Tensor]:
        chosen = select_parameters(
            plain_model(pl_module), self.parameter_names, self.filter_layers, self.parameters_to_prune
        )
        if isinstance(self.amount, list) and len(self.amount) != len(chosen):
            raise RecipeError(f"{len(self.amount)} amounts for {len(chosen)} parameters: {', '.join(chosen)}")
        # Once shared, weights belong to their clusters.
        return {name: p.detach() for name, p in chosen.items() if not self.constraints.is_shared(name)}

    def _masks(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        masks = {}
        for name, weight in weights.items():
            mask = self.constraints.mask(name)
            masks[name] = torch.ones_like(weight, dtype=torch.bool) if mask is None else mask
        return masks

    def _prune(
        self, weights: dict[str, torch.Tensor], masks: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        if self.use_global_unstructured:
            assert not isinstance(self.amount, list)  # noqa: S101  (checked in _check)
            return further_masks_global(self.method, self.amount, weights, masks, self.options)
        amounts = self.amount if isinstance(self.amount, list) else [self.amount] * len(weights)
        return {
            name: further_mask(self.method, amount, weights[name], masks[name], self.options)
            for (name, amount) in zip(weights, amounts, strict=True)
        }

    def _report(self, epoch: int, weights: dict[str, torch.Tensor]) -> None:
        masks = self._masks(weights)
        if self.verbose >= 1:
            logger.info("epoch %d: pruned %.2f %% of the weights", epoch, 100 * sparsity(masks))
        if self.verbose >= 2:
            for name, mask in masks.items():
                pruned = mask.numel() - int(mask.sum())
                logger.info(
                    "  %s: %d / %d (%.2f %%)", name, pruned, mask.numel(), 100 * pruned / mask.numel()
                )
