"""Dropout that falls as a network is pruned, as a Lightning callback."""

from __future__ import annotations

from typing import Any

import lightning

from featherweight.pruning.dropout import adjust_dropout, dropout_feeds
from featherweight.training.module import plain_model


class AdjustDropout(lightning.Callback):
    """Adjust dropout before pruned layers at the start of every epoch (Han et al. 2015).

    Put it after the callbacks that prune. When training ends the modules get back the probability that
    they had, which checkpoints hold as well: the network and its state dict stay what they are.

    Args:
        feeds: the layers that each dropout is before, by name; found by ``torch.fx`` unless given.
    """

    def __init__(self, feeds: dict[str, Any] | None = None) -> None:
        self.feeds = feeds
        self._found: dict[str, list[str]] = {}
        self._original: dict[str, float] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Find which dropout is before which layer, and how strong it is."""
        model = plain_model(pl_module)
        self._found = dropout_feeds(model, self.feeds)
        modules = dict(model.named_modules())
        for name in self._found:
            self._original.setdefault(name, float(modules[name].p))

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Adjust, when the epoch's first pruning is done."""
        if batch_idx == 0:
            adjust_dropout(plain_model(pl_module), feeds=self._found, original=self._original)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Give back the network as it was."""
        self._give_back(pl_module)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Give back the network as it was."""
        self._give_back(pl_module)

    def _give_back(self, pl_module: lightning.LightningModule) -> None:
        modules = dict(plain_model(pl_module).named_modules())
        for name, before in self._original.items():
            modules[name].p = before
        self._original = {}

    def state_dict(self) -> dict[str, Any]:
        """The probabilities without adjustment, by name."""
        return {"original": dict(self._original)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them from a checkpoint."""
        self._original = dict(state_dict["original"])
