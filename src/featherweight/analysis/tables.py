"""The tables of the papers, for a terminal: build one and print it with a ``rich.console.Console``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from featherweight.analysis.sizes import fraction
from featherweight.analysis.text import count, percent, printable, shape, times
from featherweight.tensors import ITEM_SIZES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from featherweight.analysis.sizes import ModelSizes, TensorSizes
    from featherweight.analysis.sparsity import ModelSparsity
    from featherweight.coding import PaperSizes

_NOTHING = "–"

#: A layer is known by its weight: ``fc1``, not ``fc1.weight``, as in the paper.
_WEIGHT_SUFFIX = ".weight"

#: Columns that the whole table needs beside a layer's name of ten characters.
WIDTH = 72

#: Headers of :func:`layer_table` after the layer's name. Two neighbours share a first line, read across.
_HEADERS = (
    "\nweights",
    "kept\nP",
    "weight\nP+Q",
    "bits \nP+Q+H",
    "index\nP+Q",
    "bits \nP+Q+H",
    "size \nP+Q",
    "in %  \nP+Q+H",
    "\nbytes",
)

#: Those of a narrow table: its size is after P+Q+H.
_BRIEF_HEADERS = {0: "weights", 1: "kept", 7: "size", 8: "bytes"}


def layer_table(sizes: ModelSizes, *, brief: bool = False) -> Table:
    """Deep Compression's table of a model: one row a layer, with Han's accounting and the file's bytes.

    A tensor of two dimensions or more is a layer; the others (biases, norms) share one row. P is pruned, Q
    quantized, H Huffman-coded; sizes are in percent of the dense tensor. It fits a terminal of 80 columns.

    Args:
        sizes: what :func:`~featherweight.analysis.sizes.measure_file` found.
        brief: leave out the columns of bits and of P+Q, for a terminal narrower than :data:`WIDTH`.
    """
    layers = [tensor for tensor in sizes.stored if len(tensor.shape) > 1]
    others = [tensor for tensor in sizes.stored if len(tensor.shape) <= 1]
    table = Table(
        box=box.SIMPLE, show_edge=False, show_footer=True, padding=0, header_style="", footer_style="bold"
    )
    columns = _BRIEF_HEADERS if brief else dict(enumerate(_HEADERS))
    totals = _totals(sizes)
    table.add_column("layer" if brief else "\nlayer", "total", overflow="fold", min_width=6)
    for i, header in columns.items():
        table.add_column(header, totals[i], justify="right", no_wrap=True)
    groups = [[layer] for layer in layers] + ([others] if others else [])
    names = [*_layer_names(layers), f"{len(others)} {'vector' if len(others) == 1 else 'vectors'}"]
    for name, group in zip(names, groups, strict=False):
        cells = _cells(group, sum(tensor.bytes for tensor in group))
        table.add_row(Text(name), *(cells[i] for i in columns))
    return table


def bounded_table(journal: Mapping[str, Any], *, brief: bool = False) -> Table:
    """How far each layer was pruned within a bound on the accuracy.

    Args:
        journal: of :meth:`featherweight.accuracy_bounded.BoundedPruning.journal`.
        brief: leave out the columns of steps, for a terminal narrower than :data:`WIDTH`.
    """
    table = Table(box=box.SIMPLE, show_edge=False, padding=(0, 1), header_style="")
    table.add_column("layer", overflow="fold")
    headers = ("groups", "pruned", "steps kept", "taken back")
    for header in headers[: 2 if brief else 4]:
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("ended as")
    for layer in journal["layers"]:
        cells = (
            count(layer["groups"]),
            percent(layer["pruned"] / max(layer["groups"], 1)),
            count(layer["kept"]),
            count(layer["taken_back"]),
        )
        name = Text(printable(layer["name"]))
        table.add_row(name, *cells[: 2 if brief else 4], layer["closed"] or "too few epochs")
    return table


def nonzero_table(sparsity: ModelSparsity) -> Group:
    """The nonzeros of every tensor, and what is alive, pruned and left of the model in all."""
    table = Table(box=box.SIMPLE, show_edge=False, padding=(0, 1), header_style="")
    table.add_column("name", overflow="fold")
    for header in ("nonzeros", "of", "percent", "total_pruned"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("shape", overflow="fold")
    for tensor in sparsity.tensors:
        kept = percent(fraction([tensor.nonzero], [tensor.numel]))
        numbers = (f"{tensor.nonzero:,}", f"{tensor.numel:,}", kept, f"{tensor.pruned:,}")
        table.add_row(Text(printable(tensor.name)), *numbers, shape(tensor.shape))
    pruned = percent(1 - fraction([sparsity.alive], [sparsity.total]))
    line = (
        f"alive {sparsity.alive:,}, pruned {sparsity.pruned:,}, total {sparsity.total:,}, "
        f"compression rate {times(sparsity.ratio)} ({pruned} pruned)"
    )
    return Group(table, Text(line))


def _cells(tensors: Sequence[TensorSizes], file_bytes: int) -> list[str]:
    """The cells of one row, after the name."""
    dense_bits = [8 * tensor.dense_bytes for tensor in tensors]
    return [
        count(sum(tensor.numel for tensor in tensors)),
        percent(_kept(tensors), 1),
        _mean_bits(tensors, lambda paper: paper.weight_bits_pq),
        _mean_bits(tensors, lambda paper: paper.weight_bits_pqh),
        _mean_bits(tensors, lambda paper: paper.index_bits_pq, raw=False),
        _mean_bits(tensors, lambda paper: paper.index_bits_pqh, raw=False),
        percent(fraction([tensor.bits_pq for tensor in tensors], dense_bits)),
        percent(fraction([tensor.bits_pqh for tensor in tensors], dense_bits)),
        f"{file_bytes:,}",
    ]


def _totals(sizes: ModelSizes) -> list[str]:
    """The cells of the last row: as above, with what a fraction means as a ratio below it."""
    cells = _cells(sizes.stored, sizes.file_bytes)
    dense = 8 * sizes.dense_bytes
    pq = sum(tensor.bits_pq for tensor in sizes.stored)
    ratios = {
        1: 1 / kept if (kept := _kept(sizes.stored)) else None,
        6: dense / pq if pq else None,
        7: sizes.ratio_h,
        8: sizes.ratio,
    }
    for column, ratio in ratios.items():
        if ratio is not None:
            cells[column] += f"\n{times(ratio)}"
    return cells


def _kept(tensors: Sequence[TensorSizes]) -> float:
    return fraction([tensor.nonzero for tensor in tensors], [tensor.numel for tensor in tensors])


def _mean_bits(
    tensors: Sequence[TensorSizes], bits: Callable[[PaperSizes], float], *, raw: bool = True
) -> str:
    """Mean bits a stored entry over the quantized tensors; of the raw ones, if there are no others."""
    papers = [tensor.paper for tensor in tensors if tensor.paper is not None]
    pairs = [(bits(paper), paper.stored) for paper in papers]
    if not papers and raw:
        pairs = [(8.0 * ITEM_SIZES[tensor.dtype], tensor.numel) for tensor in tensors]
    entries = sum(weight for _, weight in pairs)
    mean = sum(value * weight for value, weight in pairs) / entries if entries else 0
    if not mean:
        return _NOTHING
    return f"{mean:.0f}" if mean == round(mean) else f"{mean:.1f}"


def _layer_names(layers: Sequence[TensorSizes]) -> list[str]:
    """Names without ``.weight``, unless two layers would then be called the same."""
    full = [printable(tensor.name) for tensor in layers]
    short = [name.removesuffix(_WEIGHT_SUFFIX) or name for name in full]
    return short if len(set(short)) == len(full) else full
