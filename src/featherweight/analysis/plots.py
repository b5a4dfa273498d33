"""The style that all figures have in common: themes, colours, axes, labels at the ends of curves.

Every figure comes in a light and a dark theme (:mod:`~featherweight.analysis.themes`), as PNG and as SVG, the
same bytes each time. Curves differ in their markers as well as in colour, and are named where they end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from featherweight.analysis.scales import spread
from featherweight.analysis.themes import DARK, LIGHT, THEMES, Theme

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

#: Dots an inch of a PNG.
DPI = 130

#: Points of text: labels and ticks, titles.
TEXT, TITLE = 10.0, 11.5

MARKERS = "osD^vP*X"

__all__ = [
    "DARK", "DPI", "LIGHT", "MARKERS", "TEXT", "THEMES", "TITLE", "End", "Theme", "curve_colours",
    "label_axes", "label_ends", "new_figure", "save_figure", "set_figure_title", "set_title", "spread",
]  # fmt: skip

#: What a figure is written with: the same bytes each time, and text that looks the same everywhere.
_REPRODUCIBLE: Any = {"svg.hashsalt": "featherweight", "svg.fonttype": "path"}


def curve_colours(theme: Theme, number: int) -> list[str]:
    """Colours for so many curves; beyond the theme's own, shades in the order of the curves."""
    if number <= len(theme.colours):
        return list(theme.colours[:number])
    shades = mpl.colormaps["viridis"]
    first, last = (0.0, 0.85) if theme is LIGHT else (0.25, 1.0)
    steps = [first + (last - first) * i / (number - 1) for i in range(number)]
    return [mpl.colors.to_hex(shades(step)) for step in steps]


def new_figure(
    theme: Theme, panels: int, *, columns: int, width: float = 4.6, height: float = 3.9
) -> tuple[Figure, list[Axes]]:
    """A figure of panels in rows of ``columns``; width and height are of one panel, in inches."""
    columns = min(columns, panels)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(width * columns, height * rows), facecolor=theme.paper, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    axes = [axis for row in grid for axis in row]
    for axis in axes[panels:]:
        axis.set_visible(False)
    for axis in axes[:panels]:
        _plain(axis, theme)
    return figure, axes[:panels]


def _plain(axes: Axes, theme: Theme) -> None:
    axes.set_facecolor(theme.paper)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(theme.muted)
    axes.tick_params(which="both", colors=theme.muted, labelsize=TEXT, length=3)
    axes.tick_params(which="minor", length=0)
    axes.grid(visible=True, color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)


def set_title(axes: Axes, text: str, theme: Theme) -> None:
    """A panel's title, at its left."""
    axes.set_title(text, loc="left", color=theme.ink, fontsize=TITLE)


def set_figure_title(figure: Figure, text: str, theme: Theme) -> None:
    """A title over all panels, at the left; none where there is no text."""
    if text:
        figure.suptitle(text, x=0.01, ha="left", color=theme.ink, fontsize=TITLE, fontweight="bold")


def label_axes(axes: Axes, theme: Theme, x: str = "", y: str = "") -> None:
    """Names of the axes."""
    axes.set_xlabel(x, color=theme.muted, fontsize=TEXT)
    axes.set_ylabel(y, color=theme.muted, fontsize=TEXT)


@dataclass(frozen=True)
class End:
    """What to write where a curve ends.

    Attributes:
        x: where the curve ends, in data.
        y: likewise.
        text: the label.
        colour: of the curve.
        bold: for the curve that matters most.
    """

    x: float
    y: float
    text: str
    colour: str
    bold: bool = False


def label_ends(figure: Figure, axes: Axes, ends: Sequence[End]) -> None:
    """Name curves to the right of the panel, beside their last points, spread out so that none overlap.

    Call it when the limits and scales of both axes are final. A thin line leads to a label that had to move.
    """
    line = 1.25 * TEXT / 72 * figure.dpi  # pixels from label to label
    figure.draw_without_rendering()  # the panel's place is known only now
    box = axes.get_window_extent()
    order = sorted(ends, key=lambda end: end.y)
    wanted = [float(axes.transData.transform((end.x, end.y))[1]) for end in order]
    for end, y in zip(order, spread(wanted, line, box.y0, box.y1 + 0.4 * line), strict=True):
        axes.annotate(
            end.text,
            (end.x, end.y),
            xytext=(1.05, (y - box.y0) / box.height),
            textcoords="axes fraction",
            va="center",
            color=end.colour,
            fontsize=TEXT,
            fontweight="bold" if end.bold else "normal",
            arrowprops={
                "arrowstyle": "-",
                "color": end.colour,
                "linewidth": 0.8,
                "alpha": 0.7,
                "shrinkA": 1,
                "shrinkB": 3,
                "relpos": (0, 0.5),
            },
        )


def save_figure(figure: Figure, stem: Path, kinds: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write a figure beside ``stem``, as ``stem.png`` and ``stem.svg``; what is there is replaced."""
    paths = []
    for kind in kinds:
        path = stem.with_name(f"{stem.name}.{kind}")
        metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
        part = path.with_name(f".{path.name}.part")
        with mpl.rc_context(_REPRODUCIBLE):
            figure.savefig(part, format=kind, dpi=DPI, facecolor=figure.get_facecolor(), metadata=metadata)
        part.replace(path)
        paths.append(path)
    return paths
