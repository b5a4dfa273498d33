"""Files of one network side by side: bytes tensor by tensor, and how far weights are from a reference."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from featherweight.analysis.text import natural_order
from featherweight.analysis.weights_error import WeightsError, total_error, weights_error
from featherweight.fileformat import FileReader
from featherweight.interop.checkpoints import checkpoint_bytes, open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from featherweight.interop.checkpoints import Checkpoint


@dataclass(frozen=True)
class Cell:
    """A tensor in one file.

    Attributes:
        shape: its shape.
        dtype: PyTorch's name of its element type.
        bytes: in the file; 0 where it is tied to another one.
        error: against the reference; ``None`` where that lacks it or has another shape.
    """

    shape: tuple[int, ...]
    dtype: str
    bytes: int
    error: WeightsError | None


@dataclass(frozen=True)
class Tested:
    """How a file's network does on test images.

    Attributes:
        error_percent: top-1 error; ``None`` where the file does not fit the network.
        loss: mean cross-entropy, nats an image.
        examples: images tested.
        problem: why there are no figures.
    """

    error_percent: float | None = None
    loss: float | None = None
    examples: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class FileColumn:
    """One file.

    Attributes:
        path: the file.
        bytes: on disk.
        cells: its tensors by name.
        error: of all tensors that can be compared, together.
        missing: names that only the reference has.
        extra: names that the reference has not.
        reshaped: names whose shapes differ.
        tested: on test images, if they were given.
    """

    path: Path
    bytes: int
    cells: dict[str, Cell]
    error: WeightsError
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    tested: Tested | None = None

    @property
    def comparable(self) -> bool:
        """Whether any tensor could be compared with the reference."""
        return any(cell.error is not None for cell in self.cells.values())


@dataclass(frozen=True)
class SideBySide:
    """All files, the reference first.

    Attributes:
        columns: one a file.
        names: of all tensors of all files, in natural order.
        dense_bytes: of the reference's tensors, each at its own type.
    """

    columns: tuple[FileColumn, ...]
    names: tuple[str, ...]
    dense_bytes: int

    def ratio(self, column: FileColumn) -> float:
        """How much smaller a file is than the reference's tensors are dense."""
        return self.dense_bytes / column.bytes if column.bytes else math.inf

    def with_tests(self, tested: Sequence[Tested]) -> SideBySide:
        """The same with what each file does on test images."""
        pairs = zip(self.columns, tested, strict=True)
        return replace(self, columns=tuple(replace(column, tested=test) for column, test in pairs))

    def to_dict(self) -> dict[str, Any]:
        """As ``featherweight compare --json`` prints it; SQNR is ``null`` where it is not a number."""
        return {
            "reference": str(self.columns[0].path),
            "dense_bytes": self.dense_bytes,
            "files": [self._file(column) for column in self.columns],
            "tensors": [
                {"name": name, "files": [_cell(column.cells.get(name)) for column in self.columns]}
                for name in self.names
            ],
        }

    def _file(self, column: FileColumn) -> dict[str, Any]:
        tested = column.tested
        return {
            "file": str(column.path),
            "bytes": column.bytes,
            "ratio": self.ratio(column),
            "sqnr_db": _number(column.error.sqnr_db) if column.comparable else None,
            "identical": column.comparable and column.error.identical,
            "missing": list(column.missing),
            "extra": list(column.extra),
            "reshaped": list(column.reshaped),
            "error_percent": None if tested is None else tested.error_percent,
            "loss": None if tested is None else tested.loss,
            "examples": None if tested is None else tested.examples,
            "problem": None if tested is None else tested.problem,
        }


def _cell(cell: Cell | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    error = cell.error
    return {
        "shape": list(cell.shape),
        "dtype": cell.dtype,
        "bytes": cell.bytes,
        "sqnr_db": None if error is None else _number(error.sqnr_db),
        "identical": error is not None and error.identical,
    }


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


@dataclass
class _Open:
    """A file while it is read."""

    path: Path
    tensors: Checkpoint
    bytes: dict[str, int]
    errors: dict[str, WeightsError] = field(default_factory=dict)


def compare_files(paths: Sequence[Path], each: Callable[[], None] = lambda: None) -> SideBySide:
    """Compare files of any kind that ``featherweight compress`` reads; one tensor at a time is in memory.

    Args:
        paths: the reference first, at least one.
        each: called after every tensor of the reference.

    Raises:
        CheckpointError: for a file that cannot be read.
        FormatError: for a ``.fwt`` file that is damaged.
    """
    with ExitStack() as stack:
        files = [_Open(path, stack.enter_context(open_checkpoint(path)), {}) for path in paths]
        for file in files:
            file.bytes = _tensor_bytes(file)
        reference = files[0]
        for name in sorted(reference.tensors.specs):
            _compare(name, reference, files)
            each()
        columns = tuple(_column(file, reference) for file in files)
        names = sorted({name for file in files for name in file.tensors.specs}, key=natural_order)
        dense = sum(spec.nbytes for name, spec in reference.tensors.specs.items() if _owns(reference, name))
    return SideBySide(columns, tuple(names), dense)


def _owns(file: _Open, name: str) -> bool:
    return file.tensors.owners[name] == name


def _tensor_bytes(file: _Open) -> dict[str, int]:
    """What each tensor takes in a file; the container's own bytes are left out."""
    if file.path.suffix == ".fwt":
        with FileReader(file.path) as reader:
            return {name: reader.info(name).bytes for name in reader.names}
    return {name: spec.nbytes if _owns(file, name) else 0 for name, spec in file.tensors.specs.items()}


def _compare(name: str, reference: _Open, files: list[_Open]) -> None:
    shape = reference.tensors.specs[name].shape
    same = [file for file in files if name in file.tensors.specs and file.tensors.specs[name].shape == shape]
    expected = _array(reference.tensors[name])
    for file in same:
        other = expected if file is reference else _array(file.tensors[name])
        file.errors[name] = weights_error(expected, other)


def _array(tensor: Any) -> NDArray[Any]:
    """A tensor in NumPy, its type widened where NumPy lacks it."""
    name = str(tensor.dtype)
    wide = tensor.float() if "bfloat16" in name or "float8" in name else tensor
    array: NDArray[Any] = wide.resolve_conj().resolve_neg().numpy()
    return array


def _column(file: _Open, reference: _Open) -> FileColumn:
    specs, expected = file.tensors.specs, reference.tensors.specs
    both = [name for name in expected if name in specs]
    cells = {
        name: Cell(spec.shape, spec.dtype, file.bytes[name], file.errors.get(name))
        for name, spec in specs.items()
    }
    stored = [error for name, error in file.errors.items() if _owns(reference, name)]
    return FileColumn(
        file.path,
        checkpoint_bytes(file.path),
        cells,
        total_error(stored),
        tuple(name for name in expected if name not in specs),
        tuple(name for name in specs if name not in expected),
        tuple(name for name in both if specs[name].shape != expected[name].shape),
    )
