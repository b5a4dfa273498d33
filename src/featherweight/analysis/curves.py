"""The curves of a run's training, as ``metrics.csv`` keeps them: a row an epoch."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: The file in a run's directory.
METRICS = "metrics.csv"

#: Its columns; a figure that was not measured is left empty.
COLUMNS = ("phase", "epoch", "train_loss", "val_loss", "val_accuracy_percent", "sparsity_percent")

#: A loss beyond this is none that a curve can show.
_GREATEST = 1e30


@dataclass(frozen=True)
class Epoch:
    """What is known after one epoch.

    Attributes:
        phase: ``fit``, ``prune`` or ``share``.
        epoch: of the phase, from 1.
        train_loss: mean over the epoch, in nats unless the phase distills.
        val_loss: mean cross-entropy of the validation split, in nats.
        val_accuracy_percent: top-1.
        sparsity_percent: zeros among the weights of two or more dimensions.
    """

    phase: str
    epoch: int
    train_loss: float | None = None
    val_loss: float | None = None
    val_accuracy_percent: float | None = None
    sparsity_percent: float | None = None


def read_curves(path: Path) -> list[Epoch]:
    """Read ``metrics.csv``; rows that make no sense are passed over, and there are none without the file."""
    if not path.is_file():
        return []
    epochs = []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.DictReader(file):
            try:
                number = int(row["epoch"])
            except (KeyError, TypeError, ValueError):
                continue
            figures = [_figure(row.get(column)) for column in COLUMNS[2:]]
            epochs.append(Epoch(str(row.get("phase") or ""), number, *figures))
    return epochs


def _figure(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if abs(value) <= _GREATEST else None
