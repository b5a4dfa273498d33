"""The compressed file as a Lightning callback."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import lightning

from featherweight.coding import DEFAULT_CODER, coder_by_name
from featherweight.errors import RecipeError
from featherweight.files import save_model
from featherweight.training.callbacks.log_compression import large_weights
from featherweight.training.loggers import REPORT, log_histograms, log_report
from featherweight.training.module import plain_model

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


class SaveCompressed(lightning.Callback):
    """Write the network as a ``.fwt`` file when training ends, or each time that it gets better.

    Pruned and shared weights are found in the network itself, so it goes with any way of training.

    Args:
        dirpath: where to write; the trainer's log or root directory unless given.
        filename: the file's name.
        coder: codes the quantized tensors.
        monitor: a logged value such as ``val_accuracy``: write after each validation in which it is the
            best so far. Unless given, write when training ends.
        mode: whether ``max`` or ``min`` is best.
        start_epoch: with ``monitor``, epochs before this one do not count: those before quantization,
            say, whose files would be large.

    Logs ``file_bytes``, ``file_ratio`` and histograms of the weights each time, and a ``report.html`` that
    lies beside the file.
    """

    def __init__(
        self,
        dirpath: str | None = None,
        filename: str = "model.fwt",
        coder: str = DEFAULT_CODER,
        monitor: str | None = None,
        mode: str = "max",
        start_epoch: int = 0,
    ) -> None:
        super().__init__()
        if mode not in ("max", "min"):
            raise RecipeError(f"mode must be max or min, got {mode!r}")
        coder_by_name(coder)
        self.dirpath = dirpath
        self.filename = filename
        self.coder = coder
        self.monitor = monitor
        self.mode = mode
        self.start_epoch = start_epoch
        self.best: float | None = None

    def path(self, trainer: lightning.Trainer) -> Path:
        """Where the file goes."""
        folder = Path(self.dirpath or trainer.log_dir or trainer.default_root_dir)
        return folder / self.filename

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the file if the monitored value is the best so far."""
        if self.monitor is None or trainer.sanity_checking or trainer.current_epoch < self.start_epoch:
            return
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            there = ", ".join(sorted(trainer.callback_metrics))
            raise RecipeError(
                f"SaveCompressed monitors {self.monitor!r}, which is not logged; there are: {there}"
            )
        current = float(value)
        better = self.best is None or (current > self.best if self.mode == "max" else current < self.best)
        if better:
            self.best = current
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the file, unless a monitored value decides."""
        if self.monitor is None:
            self._write(trainer, pl_module)

    def _write(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        path = self.path(trainer)
        path.parent.mkdir(parents=True, exist_ok=True)
        model = plain_model(pl_module)
        size = save_model(model, path, coder=self.coder)
        ratio = dense_bytes(model) / size
        logger.info("wrote %s: %d bytes, %.1f× smaller than the dense model", path, size, ratio)
        for log in trainer.loggers:
            log.log_metrics({"file_bytes": size, "file_ratio": ratio}, step=trainer.global_step)
        log_histograms(trainer.loggers, large_weights(model), trainer.global_step)
        log_report(trainer.loggers, path.with_name(REPORT))

    def state_dict(self) -> dict[str, float | None]:
        """The best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, float | None]) -> None:
        """Go on from the best value of a checkpoint."""
        self.best = state_dict["best"]


def dense_bytes(model: torch.nn.Module) -> int:
    """Bytes of all tensors of a module's state dict, each at its own dtype; tied ones count once."""
    tensors = {t.data_ptr() or id(t): t for t in model.state_dict().values()}
    return sum(t.numel() * t.element_size() for t in tensors.values())
