"""The three phases of training that a run goes through: fit, prune, share.

Each takes the weights that the one before left and leaves its own; a checkpoint after every epoch lets
it be taken up where it stopped, with the very same result.
"""

from __future__ import annotations

import contextlib
import math
import random
import signal
import threading
import warnings
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint

from featherweight.errors import OutputError, RecipeError, TensorError
from featherweight.pruning.dropout import dropout_feeds
from featherweight.training.callbacks import AdjustDropout, LogCompression, PruneByRecipe, ShareByRecipe
from featherweight.training.distillation import Teacher, all_answers
from featherweight.training.live import LiveOnly
from featherweight.training.metrics import EpochMetrics
from featherweight.training.module import Batch, Classifier, ImagesInMemory
from featherweight.training.progress import PhaseProgress
from featherweight.training_steps import round_as_stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from rich.console import Console

    from featherweight.data import ImageData
    from featherweight.data.batches import Batches
    from featherweight.training.loggers import RunLoggers
    from featherweight.training.spec import Phase, RunSpec


#: The steps of accuracy_bounded schedules, in the directory of a run.
JOURNAL = "accuracy_bounded.json"


class PhaseClassifier(Classifier):
    """A classifier with the optimizer and learning rate of one phase.

    Args:
        network: maps images to logits.
        spec: the run.
        phase: the phase.
        teacher: the network that it learns from, where the phase distills.
    """

    def __init__(
        self, network: torch.nn.Module, spec: RunSpec, phase: Phase, teacher: torch.nn.Module | None = None
    ) -> None:
        # Convolutions on the CPU run up to 1.7 times as fast on the channels-last layout.
        super().__init__(_layout(network, torch.channels_last) if spec.channels_last else network)
        self._spec = spec
        self._phase = phase
        self._teacher: Teacher | None = None
        if phase.distill is not None and teacher is not None:
            layout = torch.channels_last if spec.channels_last else torch.contiguous_format
            self._teacher = Teacher(_layout(teacher, layout), phase.distill)
        self._batches_of_phase: Batches | None = None
        self._first_epoch = self._start = 0
        self._views: torch.Tensor | None = None

    def remember(self, batches: Batches, first_epoch: int, answers: dict[str, torch.Tensor]) -> None:
        """Ask the teacher beforehand, where the phase says so.

        Args:
            batches: that the phase trains on.
            first_epoch: what the phase's epoch 0 is for them.
            answers: of teachers that have been asked, by phase; this one's are put there.
        """
        distill = self._phase.distill
        if self._teacher is None or distill is None or not distill.remember:
            return
        if distill.teacher not in answers:
            answers[distill.teacher] = all_answers(self._teacher.network, batches)
        self._teacher.answers = answers[distill.teacher]
        self._batches_of_phase, self._first_epoch = batches, first_epoch

    def on_train_epoch_start(self) -> None:
        """Find out which views this epoch's batches hold."""
        super().on_train_epoch_start()
        if self._batches_of_phase is not None:
            self._views = self._batches_of_phase.views(self._first_epoch + self.current_epoch)

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        """The training loss of one batch."""
        if self._batches_of_phase is not None:
            self._start = index * self._batches_of_phase.batch_size
        return super().training_step(batch, index)

    def training_loss(self, images: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy, with the teacher's answers where the phase distills."""
        if self._teacher is None:
            return super().training_loss(images, logits, labels)
        views = None if self._views is None else self._views[self._start : self._start + len(labels)]
        return self._teacher.loss(images, logits, labels, views)

    def configure_optimizers(self) -> Any:
        """The phase's optimizer; a cosine falls to 0 step by step."""
        optimizer = make_optimizer(self._spec, self._phase, self.network)
        if self._phase.lr_schedule == "constant":
            return optimizer
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class LaterEpochs(ImagesInMemory):
    """Images in memory whose epochs go on counting from those of earlier phases.

    Args:
        images: the data set.
        first_epoch: what this phase's epoch 0 is for the order of the data.
    """

    def __init__(self, images: ImageData, first_epoch: int) -> None:
        super().__init__(images)
        self.first_epoch = first_epoch

    def train_dataloader(self) -> Iterable[Batch]:
        """Batches of training images, shuffled."""
        return _Offset(self.images.train_batches(), self.first_epoch)


class _Offset:
    """Batches that take epochs from Lightning and count on from an earlier phase."""

    def __init__(self, batches: Any, first_epoch: int) -> None:
        self._batches = batches
        self._first_epoch = first_epoch
        self.sampler = self
        self.batch_sampler = None

    def set_epoch(self, epoch: int) -> None:
        self._batches.set_epoch(self._first_epoch + epoch)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches)


class EpochCheckpoint(Checkpoint):
    """Save the trainer's state after every epoch, random generators included.

    Args:
        path: the checkpoint, replaced each time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save, unless training has diverged."""
        for name, tensor in pl_module.state_dict().items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise TensorError(
                    f"{name}: the weights are not finite after epoch {trainer.current_epoch + 1}; "
                    f"training has diverged, lower its learning rate"
                )
        # Lightning writes to the system's temporary folder and moves the file from there, which between
        # two disks is a copy: one that is cut short must not take the place of the last checkpoint.
        part = self.path.with_suffix(".part")
        try:
            trainer.save_checkpoint(part)
            part.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise OutputError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def state_dict(self) -> dict[str, Any]:
        """The state of the generators that dropout and the like draw from."""
        state: dict[str, Any] = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on drawing where the checkpoint stopped."""
        torch.set_rng_state(state_dict["cpu"])
        if "cuda" in state_dict:
            torch.cuda.set_rng_state_all(state_dict["cuda"])


def train_phase(
    name: str,
    spec: RunSpec,
    network: torch.nn.Module,
    images: ImageData,
    checkpoint: Path,
    console: Console | None = None,
    teacher: torch.nn.Module | None = None,
    answers: dict[str, torch.Tensor] | None = None,
    metrics: Path | None = None,
    loggers: RunLoggers | None = None,
) -> None:
    """Train a network through one phase, in place.

    Args:
        name: ``fit``, ``prune`` or ``share``.
        spec: the run.
        network: with the weights that the phase before left.
        images: the data set.
        checkpoint: written after every epoch; taken up where it is there.
        console: where progress goes.
        teacher: the network that a phase with ``distill`` learns from.
        answers: of teachers that have been asked beforehand, by phase, for later phases.
        metrics: a table that gets a line an epoch; none is kept unless given.
        loggers: of the whole run.

    Raises:
        KeyboardInterrupt: where the user stopped it.
        RecipeError: where the recipe does not fit the network.
        TensorError: where training diverged.
    """
    order = list(spec.phases())
    phase = spec.phases()[name]
    seed_all(spec.seed + order.index(name))
    progress = PhaseProgress(name, console)
    callbacks: list[lightning.Callback] = [progress, EpochCheckpoint(checkpoint)]
    if name == "prune":
        journal = str(checkpoint.parent.parent / JOURNAL)
        callbacks.append(
            PruneByRecipe(
                spec.recipe, progress=progress.scoring, seed=spec.seed, journal=journal, tell=progress.line
            )
        )
    if name == "share":
        callbacks.append(ShareByRecipe(spec.recipe))
    if spec.live_only:
        callbacks.append(LiveOnly())
    if phase.adjust_dropout:
        feeds = phase.adjust_dropout if isinstance(phase.adjust_dropout, dict) else None
        callbacks.append(AdjustDropout(feeds))
    if metrics is not None:
        callbacks.append(EpochMetrics(name, metrics))
    first_epoch = sum(spec.phases()[earlier].epochs for earlier in order[: order.index(name)])
    steps = math.ceil(len(images.train_batches()) / int(spec.trainer.get("accumulate_grad_batches", 1)))
    if loggers is not None and loggers.loggers:
        loggers.count_from(first_epoch * steps, first_epoch)
        callbacks.append(LogCompression())
    trainer = make_trainer(spec, phase, callbacks, loggers)
    module = PhaseClassifier(network, spec, phase, teacher)
    module.remember(images.train_batches(), first_epoch, {} if answers is None else answers)
    # What callbacks see before the first epoch must not depend on whether an earlier phase ran just now.
    images.train_batches().set_epoch(first_epoch)
    resumed = str(checkpoint) if checkpoint.exists() else None
    with _quiet_lightning(), _keyboard_interrupt(trainer):
        trainer.fit(module, LaterEpochs(images, first_epoch), ckpt_path=resumed, weights_only=True)
    if loggers is not None:
        done = first_epoch + phase.epochs
        loggers.count_from(done * steps, done)
    _layout(network.cpu(), torch.contiguous_format)
    if name == "share":
        round_as_stored(network, spec.recipe)


def make_optimizer(spec: RunSpec, phase: Phase, network: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimizer of one phase.

    Raises:
        RecipeError: where its class cannot be imported, is none, or does not take its arguments.
    """
    chosen = phase.optimizer or spec.optimizer
    optimizer = chosen.create(network.parameters(), lr=phase.lr)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise RecipeError(f"optimizer: {chosen.class_path} makes no torch.optim.Optimizer")
    return optimizer


def check_phases(spec: RunSpec, network: torch.nn.Module) -> None:
    """Find out before the first phase that an optimizer or the trainer of a later one cannot be made.

    Raises:
        RecipeError: saying which and why.
    """
    if spec.share is not None:
        stages = [len(rule.quantize.incremental) for rule in spec.recipe.rules if rule.quantize is not None]
        if max(stages, default=0) > spec.share.epochs:
            raise RecipeError(
                f"share: incremental has {max(stages)} stages, one an epoch, but there are "
                f"{spec.share.epochs} epochs; give more epochs, or fewer stages"
            )
    for phase in spec.phases().values():
        make_optimizer(spec, phase, network)
        make_trainer(spec, phase, [])
        if phase.adjust_dropout:
            dropout_feeds(network, phase.adjust_dropout if isinstance(phase.adjust_dropout, dict) else None)


def make_trainer(
    spec: RunSpec, phase: Phase, callbacks: list[lightning.Callback], loggers: RunLoggers | None = None
) -> lightning.Trainer:
    """A trainer with as little beside the training as can be; ``spec.trainer`` adds to it.

    Args:
        spec: the run; the loggers that it asks for are made beforehand.
        phase: how long.
        callbacks: of the trainer.
        loggers: of the whole run.

    Raises:
        RecipeError: where an argument of ``spec.trainer`` is wrong.
    """
    for taken in ("max_epochs", "callbacks"):
        if taken in spec.trainer:
            raise RecipeError(f"trainer: {taken} is given by the phases; leave it out")
    options = {
        "max_epochs": phase.epochs,
        "callbacks": callbacks,
        "logger": loggers.loggers if loggers is not None and loggers.loggers else False,
        "enable_checkpointing": True,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "accelerator": "auto",
        "devices": 1,
    }
    try:
        with _quiet_lightning():
            given = {name: value for name, value in spec.trainer.items() if name != "logger"}
            return lightning.Trainer(**{**options, **given})
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        raise RecipeError(f"trainer: {error}") from None


def _layout(network: torch.nn.Module, layout: torch.memory_format) -> torch.nn.Module:
    return network.to(memory_format=layout)  # type: ignore[call-overload, no-any-return]


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (for libraries that draw from it)
    torch.manual_seed(seed)


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without the hints that Lightning gives to people who call it themselves."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        yield


@contextlib.contextmanager
def _keyboard_interrupt(trainer: lightning.Trainer) -> Iterator[None]:
    """Lightning turns Ctrl-C into an exit of the process; make it a KeyboardInterrupt again.

    It also leaves the process deaf to any further Ctrl-C; a notebook, say, goes on to hear them.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
