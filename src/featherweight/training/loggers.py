"""Lightning's loggers (TensorBoard, W&B and others): guarded, over the phases of a run, with histograms.

A logger only looks on. One that fails is told of once and left out from then on; what it draws from random
generators is not missed by the training.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import random
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from featherweight.errors import MissingPackageError, RecipeError
from featherweight.strict import build
from featherweight.training.spec import ClassSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from featherweight.training.spec import RunSpec

_log = logging.getLogger(__name__)

#: What a run file may say in place of a class.
SHORT_NAMES = {"tensorboard": "TensorBoardLogger", "wandb": "WandbLogger", "csv": "CSVLogger"}

#: What Lightning calls while it trains.
_CALLED = ("log_metrics", "log_hyperparams", "log_graph", "save", "after_save_checkpoint", "finalize")

#: Bars of a histogram.
BINS = 64

#: The page that a run leaves, if it does.
REPORT = "report.html"

_ATTRIBUTE = "_featherweight_guard"


class Guard:
    """Keeps a logger from stopping or changing the training; see :meth:`of`.

    Attributes:
        logger: Lightning's.
        broken: whether it has failed, and is left alone.
        offset: steps of earlier phases, added to every step.
        first_epoch: epochs of earlier phases, added to what is logged as ``epoch``.
        keep_open: whether the end of one training leaves it open.
    """

    def __init__(self, logger: Logger) -> None:
        self.logger = logger
        self.broken = False
        self.offset = self.first_epoch = 0
        self.keep_open = False
        setattr(logger, _ATTRIBUTE, self)
        for name in _CALLED:
            if hasattr(logger, name):
                # On the object itself, whose class callbacks and Lightning ask for.
                setattr(logger, name, getattr(self, f"_{name}", partial(self._other, name)))

    @classmethod
    def of(cls, logger: Logger) -> Guard:
        """The guard of a logger; made where there is none."""
        return getattr(logger, _ATTRIBUTE, None) or cls(logger)

    def open(self) -> bool:
        """Let the logger begin; whether it could. Lightning would not outlive a failure of it."""
        self.call(getattr, self.logger, "experiment", None)
        return not self.broken

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call, unless the logger has failed; ``None`` where it has, or does now."""
        if self.broken:
            return None
        try:
            with _undisturbed():
                return function(*args, **kwargs)
        except Exception as error:  # of whatever a logger's own network and files are made
            self.broken = True
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            _log.warning(
                "%s: cannot log, training goes on without it: %s", type(self.logger).__name__, reason
            )
            return None

    def _other(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self.call(getattr(type(self.logger), name), self.logger, *args, **kwargs)

    def _log_metrics(self, metrics: Mapping[str, float], step: int | None = None, **more: Any) -> Any:
        if "epoch" in metrics:
            metrics = {**metrics, "epoch": metrics["epoch"] + self.first_epoch}
        return self._other("log_metrics", metrics, step if step is None else step + self.offset, **more)

    def _finalize(self, status: str) -> Any:
        return None if self.keep_open else self._other("finalize", status)


class RunLoggers:
    """The loggers of a whole run, whose steps go on from phase to phase; a context manager that ends them."""

    def __init__(self) -> None:
        self._all: list[Logger] = []

    @property
    def loggers(self) -> list[Logger]:
        """Those that have not failed."""
        return [logger for logger in self._all if not Guard.of(logger).broken]

    def open(self) -> None:
        """Let all begin."""
        for logger in self._all:
            Guard.of(logger).open()

    def make(self, spec: RunSpec, directory: Path) -> None:
        """Make the loggers that ``trainer: {logger: ...}`` of a run file asks for; nothing is written yet.

        Each is a mapping with ``class_path`` and ``init_args``, or a name in :data:`SHORT_NAMES`; several
        are a list.

        Args:
            spec: the run.
            directory: where loggers that name no directory of their own write.

        Raises:
            RecipeError: where a logger cannot be made.
            MissingPackageError: naming the extra that has its package.
        """
        asked = spec.trainer.get("logger")
        if asked is None or asked is False:
            return
        listed = asked if isinstance(asked, list) else ["tensorboard" if asked is True else asked]
        self._all = [_make(one, spec, directory) for one in listed]
        for logger in self._all:
            Guard.of(logger).keep_open = True

    def count_from(self, steps: int, epochs: int) -> None:
        """Let both count on from those of earlier phases."""
        for logger in self.loggers:
            guard = Guard.of(logger)
            guard.offset, guard.first_epoch = steps, epochs

    def finish(self, figures: Mapping[str, Any], directory: Path) -> None:
        """Log what the run came to, and its report where there is one."""
        numbers = {f"result/{name}": v for name, v in figures.items() if isinstance(v, int | float)}
        for logger in self.loggers:
            logger.log_metrics(numbers, step=0)
        log_report(self.loggers, directory / REPORT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        """Write out what is left, and end a W&B run."""
        status = "success" if kind is None else "failed"
        for logger in self.loggers:
            guard = Guard.of(logger)
            guard.keep_open = False
            logger.finalize(status)
            if isinstance(logger, WandbLogger) and logger._experiment is not None:
                guard.call(logger.experiment.finish, exit_code=0 if status == "success" else 1)


def _make(asked: Any, spec: RunSpec, directory: Path) -> Logger:
    if isinstance(asked, str):
        asked = {"class_path": SHORT_NAMES.get(asked, asked)}
    if not isinstance(asked, dict):
        known = ", ".join(SHORT_NAMES)
        raise RecipeError(f"trainer: logger is a class_path with init_args, or one of {known}; got {asked!r}")
    named = build(ClassSpec, asked, "trainer: logger")
    if "." not in named.class_path:
        named = ClassSpec(f"lightning.pytorch.loggers.{named.class_path}", named.init_args)
    cls = named.load()
    if not (isinstance(cls, type) and issubclass(cls, Logger)):
        raise RecipeError(f"trainer: logger: {named.class_path} is no logger of Lightning's")
    defaults = _defaults(cls, spec, directory)
    try:
        made: Logger = ClassSpec(named.class_path, {**defaults, **named.init_args}).create()
    except ImportError as error:
        extra = {TensorBoardLogger: "tensorboard", WandbLogger: "wandb"}.get(cls)
        remedy = f"run pip install featherweight[{extra}]" if extra else "install it"
        raise MissingPackageError(f"trainer: logger: {cls.__name__} needs a package: {remedy}") from error
    return made


def _defaults(cls: type[Logger], spec: RunSpec, directory: Path) -> dict[str, Any]:
    """Arguments of a logger that its run file leaves open: all in the run's directory."""
    defaults: dict[str, Any] = {}
    if "save_dir" in inspect.signature(cls).parameters:
        defaults["save_dir"] = str(directory)
    if issubclass(cls, TensorBoardLogger):
        # One folder for a run, so that one that is resumed goes on in it.
        defaults |= {"name": "tensorboard", "version": ""}
    if issubclass(cls, WandbLogger):
        defaults |= {"project": "featherweight", "name": spec.name}
    return defaults


# -- histograms and reports ------------------------------------------------------------------------


def log_histograms(loggers: Sequence[Logger], weights: Mapping[str, torch.Tensor], step: int) -> None:
    """Log histograms of weights other than zero as ``weights/NAME``, to TensorBoard and W&B.

    Args:
        loggers: Lightning's; others than these two are passed over.
        weights: by name; those with a value that is not finite are left out.
        step: of the training.
    """
    if not any(isinstance(logger, TensorBoardLogger | WandbLogger) for logger in loggers):
        return
    found = {name: _histogram(tensor) for name, tensor in weights.items()}
    drawn = {f"weights/{name}": histogram for name, histogram in found.items() if histogram is not None}
    for logger in loggers:
        guard = Guard.of(logger)
        if isinstance(logger, TensorBoardLogger):
            guard.call(_to_tensorboard, logger, drawn, step + guard.offset)
        elif isinstance(logger, WandbLogger):
            guard.call(_to_wandb, logger, drawn, step + guard.offset)


def log_report(loggers: Sequence[Logger], page: Path) -> None:
    """Hand a report to TensorBoard (a copy beside its events) and W&B (shown, and kept as an artifact).

    Args:
        loggers: Lightning's; others than these two are passed over.
        page: in HTML; nothing is done where it is not there.
    """
    if not page.is_file():
        return
    for logger in loggers:
        guard = Guard.of(logger)
        if isinstance(logger, TensorBoardLogger):
            guard.call(_report_to_tensorboard, logger, page)
        elif isinstance(logger, WandbLogger):
            guard.call(_report_to_wandb, logger, page)


def _histogram(tensor: torch.Tensor) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
    """Counts and edges of the values other than zero."""
    values = tensor.detach().float().cpu().numpy().reshape(-1)
    values = values[values != 0]
    if not values.size or not np.isfinite(values).all():
        return None
    return np.histogram(values, bins=BINS)


def _to_tensorboard(logger: TensorBoardLogger, drawn: Mapping[str, Any], step: int) -> None:
    for name, (counts, edges) in drawn.items():
        centres = (edges[:-1] + edges[1:]) / 2
        logger.experiment.add_histogram_raw(
            name,
            min=float(edges[0]),
            max=float(edges[-1]),
            num=int(counts.sum()),
            sum=float((counts * centres).sum()),
            sum_squares=float((counts * centres**2).sum()),
            bucket_limits=edges[1:].tolist(),
            bucket_counts=counts.tolist(),
            global_step=step,
        )


def _to_wandb(logger: WandbLogger, drawn: Mapping[str, Any], step: int) -> None:
    import wandb

    bars = {name: wandb.Histogram(np_histogram=histogram) for name, histogram in drawn.items()}
    logger.experiment.log({**bars, "trainer/global_step": step})


def _report_to_tensorboard(logger: TensorBoardLogger, page: Path) -> None:
    folder = Path(logger.log_dir)
    if folder.resolve() != page.parent.resolve():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, folder / page.name)
    logger.experiment.add_text("report", f"{page.name}, beside the events", 0)


def _report_to_wandb(logger: WandbLogger, page: Path) -> None:
    import wandb

    logger.experiment.log({"report": wandb.Html(page.read_text(encoding="utf-8"), inject=False)})
    artifact = wandb.Artifact("report", type="report")
    artifact.add_file(str(page))
    logger.experiment.log_artifact(artifact)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Leave the generators of Python, NumPy and PyTorch as they are."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
