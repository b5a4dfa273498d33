"""The record: one JSON and, up to 1 MB, one ``.fwt`` file a result, in the folder ``results/``."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from featherweight.errors import RecipeError
from featherweight.strict import build, read_mapping

#: Files up to this size lie beside their result; a larger one is made again by its command.
LARGEST_SHIPPED_BYTES = 1_000_000

#: In the same folder, and no result: the measurements of :mod:`benchmarks/compare.py`.
COMPARISON = "compare.json"

#: How far a ratio may be from the quotient that it claims to be, relative.
_RATIO_TOLERANCE = 1e-6


@dataclass(frozen=True)
class SeedResult:
    """What the same recipe came to with one seed.

    Attributes:
        seed: of the run.
        error_dense_percent: top-1 error of its network after ``fit``, if it had any epochs.
        error_percent: top-1 error of its file.
        bytes: size of its file.
    """

    seed: int
    error_dense_percent: float | None
    error_percent: float
    bytes: int

    def __post_init__(self) -> None:
        _check_errors(self.error_dense_percent, self.error_percent)


@dataclass(frozen=True)
class Result:
    """What a run came to; errors are of the test set, the compressed one's straight from the file.

    Attributes:
        name: of the result and of its files.
        model: class of the network.
        dataset: name of the data set.
        error_dense_percent: top-1 error of the network after ``fit``; ``None`` where it had no epochs, and
            the network was pruned from scratch.
        error_percent: top-1 error of the network in the file.
        bytes: size of the file.
        dense_bytes: size of the tensors of the network after ``fit``, each at its own dtype.
        ratio: dense_bytes / bytes.
        ratio_h: Han's accounting: weight codes, position codes and codebooks.
        ratio_n: weights over nonzero weights.
        seconds: spent in all phases.
        seed: of the run.
        command: makes it again, from a run file.
        file: the compressed file, relative to the result.
    """

    name: str
    model: str
    dataset: str
    error_dense_percent: float | None
    error_percent: float
    bytes: int
    dense_bytes: int
    ratio: float
    ratio_h: float
    ratio_n: float
    seconds: float
    seed: int
    command: str
    file: str


@dataclass(frozen=True)
class Validation:
    """What a run came to that has not looked at the test set: what choices are made by.

    Attributes:
        name: of the run.
        dataset: name of the data set.
        images: of the validation split.
        error_dense_percent: top-1 error on them of the network after ``fit``; ``None`` where it had no
            epochs.
        error_percent: top-1 error on them of the network in the file.
        bytes: size of the file.
        dense_bytes: size of the tensors of the network after ``fit``.
        ratio: dense_bytes / bytes.
        seconds: spent in all phases.
        seed: of the run.
        file: the compressed file, relative to the result.
    """

    name: str
    dataset: str
    images: int
    error_dense_percent: float | None
    error_percent: float
    bytes: int
    dense_bytes: int
    ratio: float
    seconds: float
    seed: int
    file: str


@dataclass(frozen=True)
class ResultRecord(Result):
    """One ``results/NAME.json``: what ``featherweight run`` writes, and what may be added by hand.

    Attributes:
        config: what names the model and the data where the command runs no run file.
        shipped: whether the file lies beside the result: always, unless it is over 1 MB or holds weights of
            others, as ``note`` then says.
        seeds: the same recipe with several seeds.
        note: a sentence for the table, such as on which hardware it was trained.
    """

    config: str | None = None
    shipped: bool = True
    seeds: tuple[SeedResult, ...] = ()
    note: str | None = None

    def __post_init__(self) -> None:
        _check_errors(self.error_dense_percent, self.error_percent)
        if self.bytes < 1 or self.dense_bytes < 1:
            raise RecipeError(f"bytes and dense_bytes must be above 0, got {self.bytes}, {self.dense_bytes}")
        quotient = self.dense_bytes / self.bytes
        if abs(self.ratio / quotient - 1) > _RATIO_TOLERANCE:
            raise RecipeError(f"ratio must be dense_bytes / bytes = {quotient:.4f}, got {self.ratio}")
        if self.file != f"{self.name}.fwt":
            raise RecipeError(f"file must be '{self.name}.fwt', got {self.file!r}")
        if not self.shipped and self.bytes <= LARGEST_SHIPPED_BYTES and self.note is None:
            raise RecipeError(
                f"shipped is false, but {self.bytes:,} bytes are not over {LARGEST_SHIPPED_BYTES:,}; "
                f"put {self.file} beside it and leave shipped out, or say in note why it is not there"
            )
        if len({result.seed for result in self.seeds}) != len(self.seeds):
            raise RecipeError("seeds: the same seed is there twice")

    @property
    def run_file(self) -> str:
        """The file that names the model and the data, relative to the repository.

        Raises:
            RecipeError: where neither ``config`` nor the command names one.
        """
        if self.config is not None:
            return self.config
        named = [word for word in self.command.split() if word.endswith((".yaml", ".yml", ".json"))]
        if not named:
            raise RecipeError(
                f"{self.name}: command names no run file; give config, the file with its model and data"
            )
        return named[0]

    @property
    def mean_error_percent(self) -> float | None:
        """Mean error of the files of all seeds; None for one seed alone."""
        errors = [result.error_percent for result in self.seeds]
        return statistics.fmean(errors) if len(errors) > 1 else None

    @property
    def worst_error_percent(self) -> float | None:
        """The largest error of all seeds' files; None for one seed alone."""
        return max(result.error_percent for result in self.seeds) if len(self.seeds) > 1 else None


def load_record(path: str | Path) -> ResultRecord:
    """Read one result.

    Raises:
        RecipeError: for anything that cannot be meant as written, naming the file and the key.
    """
    path = Path(path)
    record = build(ResultRecord, read_mapping(path), str(path))
    if record.name != path.stem:
        raise RecipeError(f"{path}: name must be that of the file, {path.stem!r}, got {record.name!r}")
    return record


def load_records(directory: str | Path) -> list[ResultRecord]:
    """All results of a folder, by name.

    Raises:
        RecipeError: as :func:`load_record`.
    """
    return [load_record(path) for path in sorted(Path(directory).glob("*.json")) if path.name != COMPARISON]


def _check_errors(*errors: float | None) -> None:
    for error in errors:
        if error is not None and not 0 <= error <= 100:
            raise RecipeError(f"errors are in percent, 0 to 100, got {error}")
