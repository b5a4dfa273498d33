"""A sensitivity analysis from beginning to end, and the directory that holds it."""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save as save_safetensors

from featherweight.analysis.journal import Journal
from featherweight.analysis.sensitivity import Results
from featherweight.analysis.sweep import Row
from featherweight.errors import OutputError, RecipeError
from featherweight.files import check_fits
from featherweight.interop.checkpoints import read_checkpoint
from featherweight.interop.safetensors import write_safetensors
from featherweight.strict import plain
from featherweight.training.parallel import run_each
from featherweight.training.phases import seed_all, train_phase
from featherweight.training.run import check_shapes
from featherweight.training.sensitivity import Task, check_points, dense_accuracy, measure, prunable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

    from featherweight.analysis.sweep import Point, Sweep
    from featherweight.training.spec import RunSpec

#: Of a sweep, what a point's result depends on beside the point itself.
_OF_THE_SWEEP = ("layers", "scope", "lr", "limit_batches", "calibration_batches")

#: Of a run, what no result depends on.
_NOT_OF_THE_RUN = ("name", "threads", "trainer")


class SensitivityAnalysis:
    """A sweep and the directory that holds all of it.

    Files: ``points.jsonl`` (a line a finished point), ``fit.safetensors`` (where the network was trained
    here), ``sensitivity.csv``, ``sensitivity.json`` and the figures. The same sweep, or one of other
    sparsities, bits, epochs or seeds, goes on with what the directory holds already.

    Args:
        spec: the network, the data, how it is trained and the recipe.
        sweep: what to measure.
        directory: made if it is not there.
        weights: of the trained network: any checkpoint, or the directory of a run, whose dense network it is;
            trained here unless given.
        test: measure on the test images, not on the validation split.
        replace: start anew where the directory holds a sweep.

    Raises:
        OutputError: where the directory holds something else, or a sweep under other settings.
        RecipeError: where the parts do not fit together.
    """

    def __init__(
        self,
        spec: RunSpec,
        sweep: Sweep,
        directory: Path,
        *,
        weights: Path | None = None,
        test: bool = False,
        replace: bool = False,
    ) -> None:
        self.spec, self.sweep, self.directory, self.test = spec, sweep, directory, test
        self._weights = weights / "fit.safetensors" if weights is not None and weights.is_dir() else weights
        self._network = self._new_network()
        self.layers = sweep.choose(prunable(self._network))
        if not self.layers:
            raise RecipeError("the network has no weight of two or more dimensions")
        self.points = sweep.points(self.layers)
        check_points(spec.recipe, self.points, self.layers)
        self._images = spec.data.create()
        check_shapes(self._network, self._images)
        self._journal = self._open(replace=replace)

    def _new_network(self) -> torch.nn.Module:
        seed_all(self.spec.seed)
        network = self.spec.model.create()
        if not isinstance(network, torch.nn.Module):
            raise RecipeError(f"model: {self.spec.model.class_path} makes no torch.nn.Module")
        if self._weights is not None:
            state = read_checkpoint(self._weights)
            check_fits(state, network, str(self._weights))
            network.load_state_dict(state)
        return network

    def _open(self, *, replace: bool) -> Journal:
        """The journal of a directory that is new, empty, or holds the same sweep."""
        journal = self.directory / "points.jsonl"
        if self.directory.exists() and not journal.is_file():
            if not self.directory.is_dir():
                raise OutputError(f"{self.directory}: exists and is no directory; choose another")
            if any(self.directory.iterdir()):
                raise OutputError(f"{self.directory}: exists and is not empty; choose another directory")
        elif replace and journal.is_file():
            shutil.rmtree(self.directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        return Journal(journal, self._settings())

    def _settings(self) -> dict[str, Any]:
        run = {key: value for key, value in plain(self.spec).items() if key not in _NOT_OF_THE_RUN}
        # The data set's folder has no part in it: it may lie elsewhere on another machine.
        settings = {f"run's {key}": value for key, value in run.items()}
        settings |= {key: plain(getattr(self.sweep, key)) for key in _OF_THE_SWEEP}
        return {**settings, "split": self.split, "trained here": self._weights is None}

    @property
    def split(self) -> str:
        """What is measured on: ``validation`` or ``test``."""
        return "test" if self.test else "validation"

    def prepare(self, console: Console | None = None) -> None:
        """Train the network if need be, and measure it as it is.

        Raises:
            OutputError: where the directory holds points of other weights.
            TensorError: where training diverged.
        """
        if self._weights is None:
            self._fit(console)
        weights = save_safetensors(
            {name: tensor.contiguous() for name, tensor in self._network.state_dict().items()}
        )
        root = os.environ.get("FEATHERWEIGHT_DATA")
        self._task = Task(self.spec, self.sweep, weights, self.test, root)
        digest = hashlib.sha256(weights).hexdigest()
        dense = next((entry["dense"] for entry in self._journal.entries if "dense" in entry), None)
        if dense is None:
            [(_, (accuracy, loss))] = run_each(dense_accuracy, [self._task], jobs=1)
            dense = {"weights": digest, "accuracy_percent": accuracy, "loss": loss}
            self._journal.append({"dense": dense})
        if dense["weights"] != digest:
            raise OutputError(
                f"{self._journal.path}: holds results of other weights; choose another directory, or --force"
            )
        self._dense = dense

    def _fit(self, console: Console | None) -> None:
        done = self.directory / "fit.safetensors"
        if not done.exists():
            checkpoint = self.directory / "checkpoints" / "fit.ckpt"
            train_phase("fit", self.spec, self._network, self._images, checkpoint, console)
            write_safetensors(self._network.state_dict(), done)
            shutil.rmtree(checkpoint.parent, ignore_errors=True)
        self._network.load_state_dict(read_checkpoint(done))

    def left(self) -> list[Point]:
        """The points that are not measured yet, those of the first seed and sparsity or bits first.

        So a sweep that is stopped holds whole columns of its grid.
        """
        done = self._measured()
        left = [point for point in self.points if point.key not in done]
        return sorted(left, key=self._turn)

    def _turn(self, point: Point) -> tuple[int, bool, int]:
        if point.sparsity is not None:
            return self.sweep.seeds.index(point.seed), False, self.sweep.sparsities.index(point.sparsity)
        assert point.bits is not None  # noqa: S101  (a point has one or the other)
        return self.sweep.seeds.index(point.seed), True, self.sweep.bits.index(point.bits)

    def _measured(self) -> dict[str, list[dict[str, Any]]]:
        return {entry["point"]: entry["rows"] for entry in self._journal.entries if "point" in entry}

    def measure(self, *, jobs: int = -1, backend: str = "loky") -> Iterator[Point]:
        """Measure what is left.

        Args:
            jobs: worker processes; -1 is one a core.
            backend: ``loky`` or ``ray``, as :func:`~featherweight.training.parallel.run_each` has it.

        Yields:
            Points as they are done, in any order; each is then on the disk.
        """
        task = self._task if backend == "loky" else _anywhere(self._task)
        work = [(task, point) for point in self.left()]
        for (_, point), rows in run_each(measure, work, jobs=jobs, backend=backend):
            self._journal.append({"point": point.key, "rows": [row.to_dict() for row in rows]})
            yield point

    def results(self) -> Results:
        """All rows of the sweep, in its order; complete when nothing is left."""
        measured = self._measured()
        rows = [Row(**row) for point in self.points for row in measured.get(point.key, [])]
        return Results(
            self.spec.name,
            self.spec.model.class_path.rpartition(".")[2],
            self._images.name,
            self.split,
            self._dense["accuracy_percent"],
            self._dense["loss"],
            plain(self.sweep),
            tuple(rows),
        )


def _anywhere(task: Task) -> Task:
    """The task for machines that have the data sets in folders of their own."""
    return Task(task.spec, task.sweep, task.weights, task.test)
