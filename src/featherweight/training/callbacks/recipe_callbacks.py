"""A recipe followed while Lightning trains: the callbacks behind ``featherweight run``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from featherweight.compression import prune_by, remove_dead_units, rules_for, share_by
from featherweight.constraints import Mask, Sharing
from featherweight.pruning import sparsity
from featherweight.training.callbacks.constrained import ConstrainedCallback
from featherweight.training.module import plain_model

if TYPE_CHECKING:
    import lightning
    import torch

    from featherweight.recipe import Prune, Recipe

logger = logging.getLogger(__name__)


class PruneByRecipe(ConstrainedCallback):
    """Prune as the rules' schedules say, counting epochs from the start of this training.

    Args:
        recipe: rules without ``prune`` are passed over.

    Logs ``sparsity``, the fraction pruned of all that the rules prune, at every epoch.
    """

    kind = Mask

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self._rules: list[tuple[str, Prune, dict[str, torch.nn.Parameter]]] = []
        self._done: dict[str, float] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Find out which parameters each rule is for."""
        super().on_train_start(trainer, pl_module)
        rules = rules_for(plain_model(pl_module), self.recipe)
        self._rules = [(rule.match, rule.prune, weights) for rule, weights in rules if rule.prune]

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Prune further where a schedule is ahead of the masks."""
        epoch = trainer.current_epoch + batch_idx / trainer.num_training_batches
        for match, spec, weights in self._rules:
            if spec.schedule.kind == "cubic":
                if trainer.global_step % spec.schedule.every_steps:
                    continue
                due = spec.sparsity_at(epoch)
            else:
                due = spec.schedule.prunings(epoch)
            if self._done.get(match) != due:
                prune_by(spec, weights, self.constraints, epoch)
                remove_dead_units(self.recipe, self.constraints)
                self._done[match] = due

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say so where training ended before a schedule did."""
        for match, spec, weights in self._rules:
            if spec.sparsity is None:
                continue
            wanted, reached = spec.sparsity_at(None), self._sparsity(weights)
            if reached < wanted - 0.005:
                logger.warning("%s: pruned %.3f, not %.3f: too few epochs", match, reached, wanted)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log sparsity."""
        everything = {name: w for _, _, weights in self._rules for name, w in weights.items()}
        pl_module.log("sparsity", self._sparsity(everything), prog_bar=True)

    def _sparsity(self, weights: dict[str, torch.nn.Parameter]) -> float:
        masks = {name: self.constraints.mask(name) for name in weights}
        return sparsity({name: mask for name, mask in masks.items() if mask is not None})

    def state_dict(self) -> dict[str, Any]:
        """Masks, and how far each schedule has come."""
        return {"masks": super().state_dict(), "done": dict(self._done)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until training starts."""
        super().load_state_dict(state_dict["masks"])
        self._done = dict(state_dict["done"])


class ShareByRecipe(ConstrainedCallback):
    """Cluster the weights when training starts and train the shared values.

    Args:
        recipe: weights of rules that only prune stay pruned; others are left alone.
    """

    kind = (Mask, Sharing)

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Cluster, unless a checkpoint held the clusters."""
        resumed = self._restored is not None
        super().on_train_start(trainer, pl_module)
        if resumed:
            return
        model = plain_model(pl_module)
        share_by(self.recipe, model, self.constraints)
        for rule, weights in rules_for(model, self.recipe):
            if rule.prune is not None and rule.quantize is None:
                for name, weight in weights.items():
                    self.constraints.set_mask(name, weight.detach() != 0)
