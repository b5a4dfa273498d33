"""What a report is made of: a ``.fwt`` file, and what the directory of its run tells beside it."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from featherweight.analysis.curves import METRICS, read_curves
from featherweight.analysis.report_layers import Layer, choose_layers, look_at
from featherweight.analysis.sensitivity import Results
from featherweight.analysis.sizes import measure_file
from featherweight.errors import FeatherweightError, FormatError, RecipeError
from featherweight.fileformat import FileReader
from featherweight.strict import read_mapping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray

    from featherweight.analysis.curves import Epoch
    from featherweight.analysis.sizes import ModelSizes, TensorSizes
    from featherweight.tensors import QuantizedTensor, RawTensor

logger = logging.getLogger(__name__)

#: Layers that a report draws: those with the most weights.
MOST_LAYERS = 24

#: What a run came to: of the test images, or where it stopped before the test.
RESULTS = ("result.json", "validation.json")

#: Sweeps that a report draws.
_MOST_SWEEPS = 3

#: Letters of a text that a report shows.
_MOST_TEXT = 60_000


#: Given a number of steps, a context manager of what is called after each of them.
Progress: TypeAlias = "Callable[[int], AbstractContextManager[Callable[[], None]]]"


@contextlib.contextmanager
def without_progress(steps: int) -> Iterator[Callable[[], None]]:
    """Show nothing."""
    yield lambda: None


@dataclass(frozen=True, eq=False)
class ReportSource:
    """All that a report shows.

    Attributes:
        title: the run's name, or the file's.
        file: name of the file.
        sizes: of the file.
        metadata: of the file.
        layers: those to draw, in the file's order.
        dense_bytes: of the network as it was trained.
        result: what ``result.json`` or ``validation.json`` says, and whether it is the first (``tested``).
        epochs: of training, if the run kept them.
        sweeps: sensitivity analyses.
        texts: the recipe and what belongs to it, by the name of the file.
    """

    title: str
    file: str
    sizes: ModelSizes
    metadata: dict[str, str]
    layers: list[Layer]
    dense_bytes: int
    result: Mapping[str, Any] = field(default_factory=dict)
    epochs: list[Epoch] = field(default_factory=list)
    sweeps: list[Results] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)


def gather(source: Path, *, progress: Progress = without_progress) -> ReportSource:
    """Read a file, or the directory of a run, for a report.

    Args:
        source: a ``.fwt`` file, or what ``featherweight run`` made.
        progress: given a number of tensors, a context manager of what is called after each.

    Raises:
        RecipeError: for a directory that holds no run, or one that is not finished.
        FormatError: for a file that is damaged, or none of ours.
        FeatherweightError: for one that is not there.
    """
    if source.is_dir():
        return _of_run(source, progress)
    sizes, metadata, layers = _of_file(source, {}, progress)
    return ReportSource(source.name, source.name, sizes, metadata, layers, sizes.dense_bytes)


def _of_run(directory: Path, progress: Progress) -> ReportSource:
    name, file = _file_of_run(directory)
    with _dense_weights(directory / "fit.safetensors") as dense:
        sizes, metadata, layers = _of_file(file, dense, progress)
    result = _result(directory, sizes)
    texts = {
        text: (directory / text).read_text(encoding="utf-8", errors="replace")[:_MOST_TEXT]
        for text in ("run.yaml", "bits.yaml")
        if (directory / text).is_file()
    }
    return ReportSource(
        name,
        file.name,
        sizes,
        metadata,
        layers,
        result.get("dense_bytes", sizes.dense_bytes),
        result,
        read_curves(directory / METRICS),
        list(_sweeps(directory)),
        texts,
    )


def _file_of_run(directory: Path) -> tuple[str, Path]:
    """The run's name and its compressed file."""
    if not (directory / "run.yaml").is_file():
        raise RecipeError(f"{directory}: holds no run (run.yaml is missing); {_remedy(directory)}")
    name = str(read_mapping(directory / "run.yaml").get("name", ""))
    file = directory / f"{name}.fwt"
    if not name or file.parent != directory or not file.is_file():
        raise RecipeError(
            f"{directory}: holds a run that is not finished ({file.name} is missing); "
            f"featherweight run --resume {directory} goes on with it"
        )
    return name, file


def _remedy(directory: Path) -> str:
    if (directory / "sensitivity.json").is_file():
        return "it holds a sensitivity analysis; lay that into the directory of a run, and give the latter"
    files = sorted(directory.glob("*.fwt"))
    if files:
        return f"give a file of it, such as {files[0]}"
    return "give the directory of a run that featherweight run has made, or a .fwt file"


def _of_file(
    path: Path, dense: Mapping[str, Callable[[], NDArray[Any]]], progress: Progress
) -> tuple[ModelSizes, dict[str, str], list[Layer]]:
    layers: list[Layer] = []

    def look(sizes: TensorSizes, tensor: RawTensor | QuantizedTensor) -> None:
        if sizes.name in chosen:
            layers.append(look_at(sizes, tensor, dense.get(sizes.name)))

    with FileReader(path) as reader:
        chosen = set(choose_layers(reader, MOST_LAYERS))
        with progress(len(reader.names)) as each:
            return measure_file(reader, each=each, look=look), reader.metadata, layers


@contextlib.contextmanager
def _dense_weights(path: Path) -> Iterator[dict[str, Callable[[], NDArray[Any]]]]:
    """What loads each weight of the dense network, where the run has kept it."""
    if not path.is_file():
        yield {}
        return
    # Imported here, as it takes PyTorch, which a report of a file does not need.
    from featherweight.interop.checkpoints import open_checkpoint

    try:
        checkpoint = open_checkpoint(path)
    except FeatherweightError as error:
        logger.warning("%s; the report goes without the weights before", error)
        yield {}
        return

    def getter(name: str) -> Callable[[], NDArray[Any]]:
        def get() -> NDArray[Any]:
            values: NDArray[Any] = checkpoint[name].float().numpy()
            return values

        return get

    with checkpoint:
        yield {name: getter(name) for name, spec in checkpoint.specs.items() if "complex" not in spec.dtype}


def _result(directory: Path, sizes: ModelSizes) -> dict[str, Any]:
    """What a run came to on the test images, or on those of the validation split where it was not tested.

    Nothing where it is not told, or told of another file.
    """
    paths = [directory / name for name in RESULTS if (directory / name).is_file()]
    if not paths:
        return {}
    path = paths[0]
    try:
        result = dict(json.loads(path.read_text(encoding="utf-8")))
        size = int(result["bytes"])
        result["dense_bytes"] = int(result["dense_bytes"])
        for key in ("error_percent", "error_dense_percent"):
            result[key] = None if result.get(key) is None else float(result[key])
            if result[key] is not None and not math.isfinite(result[key]):
                raise ValueError(f"{key} is not finite")
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        remedy = f"featherweight run --resume {directory} writes it again"
        raise FormatError(f"{path}: is no result of a run ({error!r}); {remedy}") from None
    if size != sizes.file_bytes:
        logger.warning("%s: tells of a file of other size; the report goes without it", path)
        return {}
    return {**result, "tested": path.name == RESULTS[0]}


def _sweeps(directory: Path) -> Iterator[Results]:
    """Sensitivity analyses in the directory of a run, or in directories in it."""
    found = [directory / "sensitivity.json", *sorted(directory.glob("*/sensitivity.json"))]
    for path in [path for path in found if path.is_file()][:_MOST_SWEEPS]:
        try:
            results = Results.read(path)
            if not _can_be_drawn(results):
                raise FormatError(f"{path}: holds figures that make no sense")
            yield results
        except FeatherweightError as error:
            logger.warning("%s; the report goes without it", error)


def _can_be_drawn(results: Results) -> bool:
    """Whether each row has a sparsity or a number of bits that an axis can show."""
    try:
        return 0 <= results.dense_accuracy_percent <= 100 and all(
            0 <= row.sparsity < 1 if row.sparsity is not None else 1 <= int(row.bits or 0) <= 64
            for row in results.rows
        )
    except (TypeError, ValueError):
        return False
