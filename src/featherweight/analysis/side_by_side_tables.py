"""Files side by side as tables of at most 80 columns for a terminal."""

from __future__ import annotations

import math
from itertools import count as count_from
from itertools import islice
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from featherweight.analysis.text import printable, shape, times
from featherweight.analysis.weights_error import total_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from featherweight.analysis.side_by_side import Cell, SideBySide, Tested
    from featherweight.analysis.weights_error import WeightsError

#: Files that stand beside one another in the table of tensors.
_ABREAST = 3

_NOTHING = "–"

#: Names told of those that only one side has.
_MOST_NAMES = 4


def letters(number: int) -> list[str]:
    """What files are called in headers: A, B, ... Z, A1, B1, ..."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    names = (letter + ("" if not turn else str(turn)) for turn in count_from() for letter in alphabet)
    return list(islice(names, number))


def file_table(found: SideBySide) -> Table:
    """A row a file: bytes, ratio, SQNR of all weights and, where it was tested, the error."""
    table = Table(box=box.SIMPLE, show_edge=False, padding=(0, 1), header_style="")
    table.add_column("")
    table.add_column("file", overflow="fold")
    tested = any(column.tested is not None for column in found.columns)
    for header in ("bytes", "smaller", "SQNR, dB", *(["error, %"] if tested else [])):
        table.add_column(header, justify="right", no_wrap=True)
    for i, (letter, column) in enumerate(zip(letters(len(found.columns)), found.columns, strict=True)):
        error = "reference" if i == 0 else sqnr(column.error) if column.comparable else _NOTHING
        cells = [f"{column.bytes:,}", times(found.ratio(column)), error]
        if tested:
            cells.append(_test(column.tested))
        table.add_row(letter, Text(printable(str(column.path))), *cells)
    return table


def _test(tested: Tested | None) -> str:
    return _NOTHING if tested is None or tested.error_percent is None else f"{tested.error_percent:.2f}"


def tensor_tables(found: SideBySide) -> Iterator[Table]:
    """A row a tensor of two or more dimensions, the others together in one; three files abreast."""
    names = letters(len(found.columns))
    for start in range(0, len(names), _ABREAST):
        chosen = range(start, min(start + _ABREAST, len(names)))
        yield _tensor_table(found, names, chosen)


def _tensor_table(found: SideBySide, names: Sequence[str], chosen: range) -> Table:
    table = Table(box=box.SIMPLE, show_edge=False, padding=0, header_style="")
    table.add_column("layer", overflow="fold", min_width=6)
    for i in chosen:
        table.add_column(f"{names[i]}: bytes", justify="right", no_wrap=True)
        if i:
            table.add_column("dB", justify="right", no_wrap=True)
    vectors = dict.fromkeys(name for name in found.names if _is_vector(found, name))
    for name in found.names:
        if name not in vectors:
            cells = [_cells([found.columns[i].cells.get(name)], i) for i in chosen]
            table.add_row(Text(printable(name)), *(text for pair in cells for text in pair))
    if vectors:
        cells = [_cells([found.columns[i].cells.get(name) for name in vectors], i) for i in chosen]
        plural = "vector" if len(vectors) == 1 else "vectors"
        table.add_row(f"{len(vectors)} {plural}", *(text for pair in cells for text in pair))
    return table


def _is_vector(found: SideBySide, name: str) -> bool:
    return all(len(column.cells[name].shape) < 2 for column in found.columns if name in column.cells)


def _cells(cells: Sequence[Cell | None], column: int) -> list[str]:
    """Bytes and SQNR of some tensors of one file; the reference has no SQNR."""
    there = [cell for cell in cells if cell is not None]
    texts = [f"{sum(cell.bytes for cell in there):,}" if there else _NOTHING]
    if column:
        errors = [cell.error for cell in there if cell.error is not None]
        texts.append(sqnr(total_error(errors)) if errors else _NOTHING)
    return texts


def sqnr(error: WeightsError) -> str:
    """An SQNR in dB; ``equal`` where there is no error."""
    value = error.sqnr_db
    if value is None:
        return _NOTHING
    if math.isinf(value):
        return "equal" if value > 0 else "-∞"
    return f"{value:.1f}"


def remarks(found: SideBySide) -> Iterator[str]:
    """What differs in names and shapes, and what could not be tested; a line each."""
    reference, *others = found.columns
    first, *rest = letters(len(found.columns))
    for letter, column in zip(rest, others, strict=True):
        if not column.comparable:
            yield f"{letter} has no tensor in common with {first}: are they of the same network?"
        if column.missing:
            yield f"{letter} lacks {_some(column.missing)}"
        if column.extra:
            yield f"{letter} has {_some(column.extra)}, which {first} has not"
        for name in column.reshaped[:_MOST_NAMES]:
            shapes = shape(column.cells[name].shape), shape(reference.cells[name].shape)
            yield f"{letter} has {name} of shape {shapes[0]}, {first} of {shapes[1]}"
        further = len(column.reshaped) - _MOST_NAMES
        if further > 0:
            yield f"{letter} has {further} further tensors of other shapes than {first}"
    for letter, column in zip([first, *rest], found.columns, strict=True):
        if column.tested is not None and column.tested.problem is not None:
            yield f"{letter} was not tested: {column.tested.problem}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
