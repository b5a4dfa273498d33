"""The report: one page of HTML about a run or a file, which opens offline and asks no host for anything.

Style, script and images stand in the page. Its Content-Security-Policy allows them by their hashes and
nothing else, and all text from the file is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from featherweight.analysis.report_charts import draw_density, draw_histogram, waterfall
from featherweight.analysis.report_curves import sensitivity_panels, training_panels
from featherweight.analysis.report_source import ReportSource, gather, without_progress
from featherweight.analysis.sizes import fraction
from featherweight.analysis.text import byte_count, natural_order, percent, printable, shape, shortened, times
from featherweight.analysis.themes import DARK, LIGHT
from featherweight.fileformat.atomic import AtomicFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from featherweight.analysis.report_layers import Layer
    from featherweight.analysis.report_source import Progress
    from featherweight.analysis.sizes import TensorSizes

#: The file in a run's directory.
REPORT = "report.html"

#: Rows of the table; of more tensors, those that take the most bytes.
MOST_ROWS = 5000

#: Letters of a name, of a heading, and of a value of the metadata.
_NAME, _HEADING, _VALUE = 96, 44, 2000
_MOST_METADATA = 50


def write_report(
    source: Path, output: Path, *, overwrite: bool = False, progress: Progress = without_progress
) -> int:
    """Write the report of a run or of a file.

    Args:
        source: the directory of a run, or a ``.fwt`` file.
        output: the page; it appears whole or not at all.
        overwrite: replace a page that is there.
        progress: as :func:`~featherweight.analysis.report_source.gather` takes it.

    Returns:
        The page's size in bytes.

    Raises:
        FeatherweightError: as :func:`~featherweight.analysis.report_source.gather` does.
        OutputError: where the page cannot be written.
    """
    page = report_page(gather(source, progress=progress)).encode()
    with AtomicFile(output, overwrite=overwrite) as file:
        file.write(page)
    return len(page)


def report_page(source: ReportSource) -> str:
    """The page as text; the same for the same source."""
    environment = Environment(
        loader=PackageLoader("featherweight.analysis"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Neither holds anything of the file, so neither is escaped.
    style = Markup(environment.get_template("report.css").render(light=LIGHT, dark=DARK))  # noqa: S704
    script = Markup(environment.get_template("report.js").render())  # noqa: S704
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    page = environment.get_template("report.html")
    return page.render(_context(source), style=style, script=script, policy=policy)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _context(source: ReportSource) -> dict[str, Any]:
    """What the template fills in."""
    from featherweight import __version__

    sizes = source.sizes
    gone = source.dense_bytes / sizes.dense_bytes if sizes.dense_bytes else 1.0
    rows = sorted(sizes.tensors, key=lambda tensor: natural_order(tensor.name))
    if len(rows) > MOST_ROWS:
        largest = sorted(rows, key=lambda tensor: -tensor.bytes)[:MOST_ROWS]
        kept = {tensor.name for tensor in largest}
        rest = [tensor for tensor in rows if tensor.name not in kept]
        rows = [tensor for tensor in rows if tensor.name in kept]
    else:
        rest = []
    return {
        "title": shortened(printable(source.title), _HEADING),
        "subtitle": _subtitle(source),
        "tiles": _tiles(source, gone),
        "steps": waterfall(sizes, source.dense_bytes),
        "ratios": (times(sizes.ratio_h * gone), times(sizes.ratio_n * gone)) if sizes.quantized else None,
        "rows": [_row(tensor, sizes.file_bytes) for tensor in rows],
        "rest": _rest(rest),
        "total": _row_of_all(source),
        "layers": [_card(layer) for layer in _in_order(source.layers)],
        "all_layers": len(source.layers) == len([t for t in sizes.stored if len(t.shape) > 1 and t.numel]),
        "has_before": any(layer.histogram and layer.histogram.before is not None for layer in source.layers),
        "training": training_panels(source.epochs),
        "sweeps": [_sweep(results) for results in source.sweeps],
        "command": printable(str(source.result.get("command") or ""))[:_VALUE],
        "texts": source.texts,
        "metadata": _metadata(source.metadata),
        "version": __version__,
    }


def _subtitle(source: ReportSource) -> str:
    tensors = len(source.sizes.tensors)
    about = f"{source.file}, {tensors:,} tensor{'' if tensors == 1 else 's'}, coder {source.sizes.coder}"
    if "model" not in source.result:
        return shortened(printable(about), 200)
    return shortened(printable(f"{source.result['model']} on {source.result.get('dataset')}: {about}"), 200)


@dataclass(frozen=True)
class _Tile:
    """A figure of the headline: what it is, itself, and what goes with it."""

    label: str
    figure: str
    note: str


def _tiles(source: ReportSource, gone: float) -> list[_Tile]:
    sizes = source.sizes
    smaller = f"by bytes on disk, {sizes.file_bytes:,} in all"
    tiles = [
        _Tile("smaller than dense", times(sizes.ratio * gone), smaller),
        _Tile("file", byte_count(sizes.file_bytes), f"{byte_count(source.dense_bytes)} dense"),
    ]
    error, dense = source.result.get("error_percent"), source.result.get("error_dense_percent")
    if error is not None:
        note = f"error {error:.2f} %"
        if dense is not None:
            note = f"{100 - dense:.2f} % dense; error {dense:.2f} → {error:.2f} %"
        split = "test" if source.result["tested"] else "validation"
        tiles.append(_Tile(f"{split} accuracy", f"{100 - error:.2f} %", note))
    weights = [tensor for tensor in sizes.stored if len(tensor.shape) > 1] or list(sizes.stored)
    alive, total = sum(t.nonzero for t in weights), sum(t.numel for t in weights)
    kept = percent(fraction([alive], [total]), 1).replace("%", " %")
    tiles.append(_Tile("weights kept", kept, f"{alive:,} of {total:,}"))
    return tiles


@dataclass(frozen=True)
class _Row:
    """The cells of a tensor; numbers without units, so that they can be sorted by."""

    name: str
    shape: str
    tied: str | None
    weights: str
    kept: str
    values: str
    bits: str
    coder: str
    bytes: str
    share: str


def _row(tensor: TensorSizes, file_bytes: int) -> _Row:
    return _Row(
        name=shortened(printable(tensor.name), _NAME),
        shape=shortened(shape(tensor.shape), 60),
        tied=None if tensor.alias_of is None else shortened(printable(tensor.alias_of), _NAME),
        weights=f"{tensor.numel:,}",
        kept=f"{100 * fraction([tensor.nonzero], [tensor.numel]):.1f}",
        values="–" if tensor.codebook_size is None else f"{tensor.codebook_size:,}",
        bits=f"{tensor.bits_per_weight:.2f}" if tensor.alias_of is None else "–",
        coder=tensor.coder,
        bytes=f"{tensor.bytes:,}",
        share=f"{100 * tensor.bytes / file_bytes:.1f}",
    )


def _rest(tensors: list[TensorSizes]) -> str:
    """What the table leaves out."""
    if not tensors:
        return ""
    size = sum(tensor.bytes for tensor in tensors)
    return f"{len(tensors):,} further tensors, none larger than these, take {size:,} bytes together."


def _row_of_all(source: ReportSource) -> dict[str, str]:
    sizes = source.sizes
    total = sum(tensor.numel for tensor in sizes.stored)
    return {
        "weights": f"{total:,}",
        "kept": f"{100 * fraction([sum(t.nonzero for t in sizes.stored)], [total]):.1f}",
        "bits": f"{8 * sizes.file_bytes / total:.2f}" if total else "–",
        "bytes": f"{sizes.file_bytes:,}",
    }


def _in_order(layers: list[Layer]) -> list[Layer]:
    return sorted(layers, key=lambda layer: natural_order(layer.sizes.name))


def _card(layer: Layer) -> dict[str, Any]:
    """A layer's drawings and what has to be said of them."""
    sizes, histogram = layer.sizes, layer.histogram
    name = shortened(printable(sizes.name.removesuffix(".weight") or sizes.name), _HEADING)
    notes = []
    if layer.not_finite:
        notes.append(f"{layer.not_finite:,} not finite")
    if histogram is not None and histogram.outside:
        notes.append(f"{histogram.outside:,} farther out")
    picture, fullest = draw_density(layer.density, name) if layer.density is not None else (None, 0.0)
    rows = sizes.shape[0] if sizes.shape else 1
    scale = (
        f"{rows:,} outputs down, {sizes.numel // rows:,} inputs across; darkest: {percent(fullest, 1)} kept"
    )
    return {
        "name": name,
        "about": _about(sizes),
        "histogram": None if histogram is None else draw_histogram(histogram, name),
        "notes": ", ".join(notes),
        "picture": picture,
        "scale": scale if fullest else "all zero",
    }


def _about(sizes: TensorSizes) -> str:
    kept = percent(fraction([sizes.nonzero], [sizes.numel]), 1)
    values = "" if sizes.codebook_size is None else f", {sizes.codebook_size:,} values"
    return f"{shortened(shape(sizes.shape), 40)}, {kept} kept{values}"


def _sweep(results: Any) -> dict[str, Any]:
    about = f"{results.model} on {results.dataset}, accuracy on the {results.split} images"
    return {"about": shortened(printable(about), 160), "panels": sensitivity_panels(results)}


def _metadata(metadata: Mapping[str, str]) -> list[tuple[str, str]]:
    lines = ((key, "\n".join(map(printable, value[:_VALUE].splitlines()))) for key, value in metadata.items())
    return [(shortened(printable(key), _HEADING), value) for key, value in lines][:_MOST_METADATA]
