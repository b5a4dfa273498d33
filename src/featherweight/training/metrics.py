"""The figures of every epoch of a run, as a table that a run which is resumed writes the very same."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

import lightning

from featherweight.analysis.curves import COLUMNS, METRICS
from featherweight.errors import OutputError
from featherweight.training.module import Classifier, plain_model

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["METRICS", "EpochMetrics"]


class EpochMetrics(lightning.Callback):
    """Write loss, validation accuracy and sparsity of every epoch of a phase, below those of earlier phases.

    The rows are part of the checkpoint, so that a run that is stopped and resumed has each epoch once. There
    are no times among them: the same run gives the same bytes. Put it behind all callbacks that change
    weights.

    Args:
        phase: its name; rows of it that the file has already are replaced.
        path: the file, with a line an epoch and the columns of :data:`featherweight.analysis.curves.COLUMNS`.
    """

    def __init__(self, phase: str, path: Path) -> None:
        self.phase = phase
        self.path = path
        self._rows: list[dict[str, Any]] = []

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Add the epoch.

        Raises:
            OutputError: where the file cannot be written.
        """
        if not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        loss = pl_module.mean_loss if isinstance(pl_module, Classifier) else metrics.get("train_loss")
        accuracy = metrics.get("val_accuracy")
        row = {
            "phase": self.phase,
            "epoch": trainer.current_epoch + 1,
            "train_loss": _figure(loss),
            "val_loss": _figure(metrics.get("val_loss")),
            "val_accuracy_percent": _figure(None if accuracy is None else 100 * float(accuracy)),
            "sparsity_percent": _figure(_sparsity_percent(pl_module)),
        }
        self._rows.append(row)
        self._write()

    def state_dict(self) -> dict[str, Any]:
        """The rows of this phase so far."""
        return {"rows": [dict(row) for row in self._rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on below the rows of the checkpoint."""
        self._rows = [dict(row) for row in state_dict["rows"]]

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        try:
            writer.writerows([*self._earlier(), *self._rows])
            part = self.path.with_suffix(".part")
            part.write_text(text.getvalue(), encoding="utf-8")
            part.replace(self.path)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def _earlier(self) -> list[dict[str, str]]:
        """What earlier phases wrote."""
        if not self.path.exists():
            return []
        with self.path.open(encoding="utf-8", newline="") as file:
            rows = [{name: row.get(name) or "" for name in COLUMNS} for row in csv.DictReader(file)]
        return [row for row in rows if row["phase"] != self.phase]


def _figure(value: Any) -> str:
    """Six digits; nothing where it was not measured or is not finite."""
    return f"{float(value):.6g}" if value is not None and math.isfinite(float(value)) else ""


def _sparsity_percent(module: lightning.LightningModule) -> float | None:
    """Zeros among the weights of two or more dimensions, in percent."""
    weights = [weight for weight in plain_model(module).parameters() if weight.ndim > 1]
    total = sum(weight.numel() for weight in weights)
    nonzero = sum(int(weight.count_nonzero()) for weight in weights)
    return 100 * (1 - nonzero / total) if total else None
