"""The results of a sensitivity analysis: rows, what they mean, and the files that hold them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from featherweight.analysis.sweep import Row, layer_label
from featherweight.analysis.text import printable
from featherweight.errors import FormatError
from featherweight.fileformat.atomic import AtomicFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

#: Accuracy that may be lost, in points, for the summary to count a sparsity or a number of bits as free.
FREE_POINTS = 0.5


@dataclass(frozen=True)
class Curve:
    """Accuracy of one layer, prepared one way, retrained for so long.

    Attributes:
        layer: the name of a weight, or :data:`~featherweight.analysis.sweep.NETWORK`.
        method: importance or quantizer.
        steps: prunings on the way.
        epochs: of retraining.
        x: sparsities or bits, from the mildest (least pruned, most bits) to the hardest.
        accuracy: mean over the seeds in percent, one for each ``x``.
        lowest: over the seeds.
        highest: over the seeds.
    """

    layer: str
    method: str
    steps: int
    epochs: int
    x: tuple[float, ...]
    accuracy: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]


@dataclass(frozen=True)
class Results:
    """What a sensitivity analysis found.

    Attributes:
        name: of the run.
        model: class of the network.
        dataset: name of the data set.
        split: ``validation`` or ``test``.
        dense_accuracy_percent: of the network as it was.
        dense_loss: mean cross-entropy in nats.
        settings: what was swept, as plain values.
        rows: one a measurement.
    """

    name: str
    model: str
    dataset: str
    split: str
    dense_accuracy_percent: float
    dense_loss: float
    settings: dict[str, Any]
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "name": self.name,
            "model": self.model,
            "dataset": self.dataset,
            "split": self.split,
            "dense": {"accuracy_percent": self.dense_accuracy_percent, "loss": self.dense_loss},
            "settings": self.settings,
            "rows": [row.to_dict() for row in self.rows],
        }

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read what :meth:`write` wrote as JSON.

        Raises:
            FormatError: where it is something else.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            head = (data["name"], data["model"], data["dataset"], data["split"])
            dense = data["dense"]
            rows = tuple(Row(**row) for row in data["rows"])
            return cls(*head, dense["accuracy_percent"], dense["loss"], data["settings"], rows)
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{path}: holds no results of featherweight sensitivity: {error}") from None

    def write(self, directory: Path) -> list[Path]:
        """Write ``sensitivity.csv`` and ``sensitivity.json``, each whole or not at all."""
        table = io.StringIO()
        writer = csv.DictWriter(table, Row.columns(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.to_dict() for row in self.rows)
        texts = {"sensitivity.csv": table.getvalue(), "sensitivity.json": self.to_json()}
        for name, text in texts.items():
            with AtomicFile(directory / name, overwrite=True) as file:
                file.write(text.encode())
        return [directory / name for name in texts]

    def to_json(self) -> str:
        """The results as a text of JSON."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def pruning(self) -> list[Curve]:
        """The curves over sparsity."""
        return _curves((row for row in self.rows if row.bits is None), "sparsity", "importance")

    def quantization(self) -> list[Curve]:
        """The curves over bits."""
        return _curves((row for row in self.rows if row.bits is not None), "bits", "quantizer")


def _curves(rows: Iterable[Row], x: str, method: str) -> list[Curve]:
    groups: dict[tuple[Any, ...], dict[float, list[float]]] = {}
    for row in rows:
        key = (row.layer, getattr(row, method), row.steps, row.epochs)
        groups.setdefault(key, {}).setdefault(float(getattr(row, x)), []).append(row.accuracy_percent)
    curves = []
    for (layer, how, steps, epochs), points in groups.items():
        xs = tuple(sorted(points, reverse=x == "bits"))
        mean = tuple(round(fmean(points[value]), 6) for value in xs)
        low, high = tuple(min(points[v]) for v in xs), tuple(max(points[v]) for v in xs)
        curves.append(Curve(layer, how, steps, epochs, xs, mean, low, high))
    return curves


def furthest_free(curve: Curve, dense: float, points: float = FREE_POINTS) -> float | None:
    """How far a layer can go: up to there, no ``x`` loses more than ``points`` of accuracy.

    Args:
        curve: over sparsity or over bits.
        dense: accuracy to compare with, in percent.
        points: what may be lost.

    Returns:
        The sparsity or the bits; ``None`` where even the first loses more.
    """
    best = None
    for x, accuracy in zip(curve.x, curve.accuracy, strict=True):
        if accuracy < dense - points:
            break
        best = x
    return best


def summary_table(results: Results, *, brief: bool = False) -> Table:
    """How far each layer can go within half a point of accuracy, for a terminal.

    A row a layer and method; a column for each number of epochs of retraining.

    Args:
        results: of a sweep.
        brief: short headings, and no column of methods where there is just one, for a narrow terminal.
    """
    curves = [*results.pruning(), *results.quantization()]
    columns = sorted({(curve.epochs, curve.steps) for curve in curves})
    methods = {curve.method for curve in curves}
    by = not brief or len(methods) > 1
    table = Table(box=box.SIMPLE, show_edge=False, padding=(0, 1), header_style="")
    table.add_column("layer", overflow="fold")
    if by:
        table.add_column("by", overflow="fold")
    for epochs, steps in columns:
        table.add_column(
            _short_label(epochs, steps) if brief else epochs_label(epochs, steps), justify="right"
        )
    for layer, method in dict.fromkeys((curve.layer, curve.method) for curve in curves):
        cells = []
        for column in columns:
            chosen = [
                c for c in curves if (c.layer, c.method, (c.epochs, c.steps)) == (layer, method, column)
            ]
            cells.append(_cell(chosen[0], results) if chosen else "")
        table.add_row(printable(layer_label(layer)), *([printable(method)] if by else []), *cells)
    return table


def _short_label(epochs: int, steps: int) -> str:
    return f"{epochs} ep." if steps == 1 else f"{epochs} ep. {steps} st."


def _cell(curve: Curve, results: Results) -> str:
    best = furthest_free(curve, results.dense_accuracy_percent)
    if best is None:
        return "–"
    return f"{100 * best:g} %" if best < 1 else f"{best:g} bits"


def epochs_label(epochs: int, steps: int = 1) -> str:
    """What was done after pruning, as figures and tables say it."""
    after = "no retraining" if not epochs else f"{epochs} epoch{'s' if epochs > 1 else ''} of retraining"
    return after if steps == 1 else f"{after}, {steps} steps"
