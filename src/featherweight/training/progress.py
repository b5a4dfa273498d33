"""How a phase of training is coming along: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import lightning
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn

from featherweight.training.module import Classifier

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

#: Seconds between two updates of the bar; more often is more than an eye sees, and costs time.
REFRESH_SECONDS = 0.2

#: Columns below which there is no place for a bar and for all figures.
BAR_WIDTH = 76

#: Seconds between two lines on a long computation, and how long one must have taken to be told at its end.
LINE_SECONDS, WORTH_TELLING_SECONDS = 10.0, 2.0


class LoggedProgress:
    """How far a computation of many steps is, in a line now and then; nothing of a short one.

    Args:
        tell: takes the lines.
    """

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell
        self._what = ""
        self._began = self._told = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Take note that ``done`` of ``total`` steps are done."""
        now = time.perf_counter()
        if what != self._what:
            self._what, self._began, self._told = what, now, now
        finished = done == total and now - self._began >= WORTH_TELLING_SECONDS
        if finished or now - self._told >= LINE_SECONDS:
            self._told = now
            self._tell(f"{what}: {done:,} of {total:,}")
        if done == total:
            self._what = ""


class PhaseProgress(lightning.Callback):
    """Show the epoch, loss, validation accuracy and sparsity of one phase.

    Args:
        phase: its name.
        console: where to write; nothing is written unless given.
    """

    def __init__(self, phase: str, console: Console | None) -> None:
        self.phase = phase
        self.console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._updated = 0.0
        self._epoch_began = 0.0
        self._lines = LoggedProgress(self.line)

    def scoring(self, what: str, done: int, total: int) -> None:
        """Show how far the scores are by which weights are about to be pruned."""
        if self._bar is None:
            self._lines(what, done, total)
            return
        now = time.perf_counter()
        if now - self._updated >= REFRESH_SECONDS:
            self._updated = now
            self._bar.update(self._task, figures=f"{what} {done:,}/{total:,}")
            self._bar.refresh()

    def line(self, text: str) -> None:
        """Write a line about the phase."""
        if self.console is not None:
            self.console.print(f"{self.phase:<6} {text}", highlight=False, markup=False)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Draw the bar."""
        if self.console is None or not self.console.is_terminal or not trainer.is_global_zero:
            return
        columns: list[ProgressColumn] = [
            TextColumn(f"[bold]{self.phase:<6}"),
            TextColumn("{task.fields[epoch]}"),
            TextColumn("{task.fields[figures]}"),
        ]
        if self.console.width >= BAR_WIDTH:
            columns.insert(1, BarColumn(bar_width=None))
            columns.append(TimeRemainingColumn(compact=True))
        self._bar = Progress(*columns, console=self.console, expand=True, auto_refresh=False)
        total = _batches_in_all(trainer)
        self._task = self._bar.add_task("", total=total, epoch="", figures="")
        self._bar.start()

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Remember when the epoch began."""
        self._epoch_began = time.perf_counter()

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        """Move the bar, now and then."""
        now = time.perf_counter()
        if self._bar is None or now - self._updated < REFRESH_SECONDS:
            return
        self._updated = now
        self._show(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the epoch's figures."""
        if self._bar is not None:
            self._show(trainer)
        elif self.console is not None and trainer.is_global_zero:
            seconds = time.perf_counter() - self._epoch_began
            line = f"{self.phase:<6} {_epoch(trainer):>6}  {_figures(trainer)}  {seconds:.1f} s"
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _show(self, trainer: lightning.Trainer) -> None:
        assert self._bar is not None  # noqa: S101  (callers check)
        self._bar.update(
            self._task,
            completed=trainer.global_step,
            epoch=_epoch(trainer),
            figures=_figures(trainer, self._bar.console.width),
        )
        self._bar.refresh()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave the finished bar."""
        self._stop()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Leave the terminal as it was."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _epoch(trainer: lightning.Trainer) -> str:
    """The epoch, and of how many where that is known."""
    known = trainer.max_epochs is not None and trainer.max_epochs > 0
    return f"{trainer.current_epoch + 1}/{trainer.max_epochs}" if known else f"{trainer.current_epoch + 1}"


def _batches_in_all(trainer: lightning.Trainer) -> float | None:
    """Steps of the optimizer that are to come, as far as anybody knows."""
    if trainer.max_steps > 0:
        return float(trainer.max_steps)
    total = float(trainer.estimated_stepping_batches) if (trainer.max_epochs or -1) > 0 else math.inf
    return total if math.isfinite(total) else None


def _figures(trainer: lightning.Trainer, width: int | None = None) -> str:
    """What is known so far, in as few characters as will do.

    Args:
        trainer: of the phase.
        width: of the terminal in columns; where it is narrow, what matters least is left out.
    """
    metrics = trainer.callback_metrics
    parts = []
    if isinstance(trainer.lightning_module, Classifier):
        parts.append(f"loss {trainer.lightning_module.mean_loss:.4f}")
    if "val_accuracy" in metrics:
        parts.append(f"val {100 * float(metrics['val_accuracy']):.2f} %")
    if "sparsity" in metrics:
        parts.append(f"pruned {100 * float(metrics['sparsity']):.1f} %")
    if width is not None and width < BAR_WIDTH:
        parts = parts[-1:]
    return "  ".join(parts)
