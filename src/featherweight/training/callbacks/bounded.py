"""Pruning within a bound on the accuracy, in the epochs of a Lightning training."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featherweight.accuracy_bounded import BoundedPruning
from featherweight.errors import RecipeError
from featherweight.fileformat.atomic import AtomicFile
from featherweight.training.evaluate import evaluate
from featherweight.training.module import plain_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import lightning
    import torch

    from featherweight.constraints import Constraints
    from featherweight.pruning import Calibration
    from featherweight.recipe import Rule

logger = logging.getLogger(__name__)


class BoundedEpochs:
    """Judges a step when its epochs are over, and begins the next.

    A step begins only where the training has epochs enough to judge it, so that what is left in the end
    was judged. All state is in :meth:`state_dict`, and the journal is written anew from it, so that a
    training that is resumed leaves the same.

    Args:
        journal: file for all steps and layers, as JSON; none unless given.
        tell: takes a line about every step.
    """

    def __init__(self, journal: str | None, tell: Callable[[str], object]) -> None:
        self._journal = None if journal is None else Path(journal)
        self._tell = tell
        self._pruning: BoundedPruning | None = None
        self._epochs_left = 0
        self._restored: Mapping[str, Any] | None = None

    @property
    def pruning(self) -> BoundedPruning:
        """The layers; there from the start of training on."""
        assert self._pruning is not None, "training has not started"  # noqa: S101
        return self._pruning

    def start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        rules: Sequence[tuple[Rule, Mapping[str, torch.nn.Parameter]]],
        constraints: Constraints,
    ) -> None:
        """Measure the accuracy before pruning, or take up where a checkpoint was.

        Raises:
            RecipeError: where there are no validation images, or several devices.
        """
        if trainer.world_size > 1:
            raise RecipeError("an accuracy_bounded schedule trains on one device; set devices: 1")
        self._pruning = BoundedPruning(plain_model(pl_module), rules, constraints, trainer.optimizers)
        if self._restored is None:
            self._pruning.begin(_accuracy(trainer, pl_module))
            return
        self._pruning.load_state_dict(self._restored["pruning"])
        self._epochs_left = self._restored["epochs_left"]
        self._restored = None

    def further(self, trainer: lightning.Trainer, calibration: Calibration | None, *, at_start: bool) -> None:
        """Begin the next step, unless one is being tried; end the training where there is none.

        Args:
            trainer: the trainer.
            calibration: the network with data, for an importance that needs them.
            at_start: whether no epoch has begun since the training started, or was resumed.
        """
        if self._epochs_left:
            return
        done = trainer.current_epoch + (not at_start)
        epochs = self.pruning.retrain_epochs
        enough = trainer.max_epochs in (None, -1) or done + epochs <= (trainer.max_epochs or 0)
        if epochs and enough:
            self.pruning.propose(calibration)
            self._epochs_left = epochs
        else:
            if epochs:
                logger.warning("pruning ended before the accuracy did: %d epochs are too few", done)
            trainer.should_stop = True
        self._write()

    def epoch_ended(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> bool:
        """Judge the step if its epochs are over; whether the next one's turn has come."""
        self._epochs_left = max(0, self._epochs_left - 1)
        if self._epochs_left:
            return False
        self._tell(str(self.pruning.judge(_accuracy(trainer, pl_module))))
        return True

    def _write(self) -> None:
        if self._journal is None:
            return
        with AtomicFile(self._journal, overwrite=True) as file:
            file.write((json.dumps(self.pruning.journal(), indent=2) + "\n").encode())

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to hold."""
        return {"pruning": self.pruning.state_dict(), "epochs_left": self._epochs_left}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Keep the state until training starts and the network is known."""
        self._restored = state


def _accuracy(trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> float:
    """Of the network on the trainer's validation batches, in percent."""
    loaders = trainer.val_dataloaders
    loader = loaders[0] if isinstance(loaders, list | tuple) and loaders else loaders
    if loader is None or not len(loader):
        raise RecipeError(
            "an accuracy_bounded schedule needs validation images: give the data a validation_split"
        )
    return 100.0 - evaluate(plain_model(pl_module), loader, pl_module.device).error_percent
