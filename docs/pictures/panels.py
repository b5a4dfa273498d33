"""Panels that several pictures have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from featherweight.analysis.plots import TEXT, Theme, label_axes, set_title

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray


def weights_kept(
    axes: Axes, theme: Theme, weights: NDArray[Any], kept: NDArray[np.bool_], title: str
) -> None:
    """How many weights of each size there are, and how many of them stay."""
    limit = 1.02 * float(np.abs(weights).max())
    edges = np.linspace(-limit, limit, 90)
    axes.hist(weights.ravel(), edges, color=theme.grid, label=f"{weights.size:,} weights")
    axes.hist(weights[kept], edges, color=theme.accent, label=f"{int(kept.sum()):,} stay")
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    captions(axes, theme, title, "weight", "how many")
    legend(axes, theme)


def pixel_map(axes: Axes, theme: Theme, kept: NDArray[np.bool_], title: str) -> None:
    """How many weights of each input pixel stay, of a layer ``(out, 784)``."""
    counts = kept.reshape(kept.shape[0], 28, 28).sum(axis=0)
    shown = axes.imshow(counts, cmap=shades(theme), vmin=0)
    plain_image(axes, theme, title)
    bar = axes.figure.colorbar(shown, ax=axes, shrink=0.85)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=theme.muted, labelsize=TEXT, length=0)


def filters(axes: Axes, theme: Theme, weights: NDArray[Any], kept: NDArray[np.bool_], title: str) -> None:
    """The kernels of a first layer side by side; those that go are faint."""
    rows, columns = 4, 5
    size = weights.shape[-1]
    mosaic = np.full((rows * (size + 1) + 1, columns * (size + 1) + 1), np.nan)
    faint = np.zeros_like(mosaic)
    for i, kernel in enumerate(weights[:, 0]):
        top, left = 1 + (i // columns) * (size + 1), 1 + (i % columns) * (size + 1)
        place = np.s_[top : top + size, left : left + size]
        mosaic[place], faint[place] = kernel, 1.0 if kept[i] else 0.18
    limit = float(np.abs(weights).max())
    colours = mpl.colormaps["RdBu_r"].with_extremes(bad=(0, 0, 0, 0))
    axes.imshow(mosaic, cmap=colours, vmin=-limit, vmax=limit, alpha=faint)
    plain_image(axes, theme, title)


def bars(axes: Axes, theme: Theme, values: NDArray[Any], kept: NDArray[np.bool_], title: str, y: str) -> None:
    """A bar for each group, those that go muted."""
    colours = [theme.accent if stays else theme.muted for stays in kept]
    axes.bar(np.arange(values.size), values, color=colours)
    captions(axes, theme, title, "filter", y)


def levels(
    axes: Axes, theme: Theme, rows: Mapping[str, NDArray[Any]], notes: Sequence[str], title: str
) -> None:
    """The values that weights share: a row of dots for each way to find them."""
    places = np.arange(len(rows))[::-1]
    for place, colour, values in zip(places, theme.colours, rows.values(), strict=False):
        axes.plot(values, np.full(values.size, place), "o", color=colour, markersize=6)
    axes.set_yticks(places, list(rows))
    axes.set_ylim(-0.6, len(rows) - 0.4)
    low, high = axes.get_xlim()
    axes.set_xlim(low, high + 0.42 * (high - low))
    for place, note in zip(places, notes, strict=True):
        axes.text(high + 0.04 * (high - low), place, note, va="center", color=theme.ink, fontsize=TEXT)
    captions(axes, theme, title, "shared value")


def histogram(axes: Axes, theme: Theme, weights: NDArray[Any], title: str) -> float:
    """How many weights of each size there are; the largest magnitude comes back."""
    limit = 1.02 * float(np.abs(weights).max())
    axes.hist(weights, np.linspace(-limit, limit, 120), color=theme.grid)
    axes.set_yscale("log")
    captions(axes, theme, title, "weight", "how many")
    return limit


def plain_image(axes: Axes, theme: Theme, title: str) -> None:
    """A title, and no axes."""
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    set_title(axes, title, theme)


def captions(axes: Axes, theme: Theme, title: str, x: str = "", y: str = "") -> None:
    """A panel's title, and what its axes show."""
    set_title(axes, title, theme)
    label_axes(axes, theme, x, y)


def legend(axes: Axes, theme: Theme, **options: Any) -> None:
    """A legend without a frame, in the theme's ink."""
    axes.legend(frameon=False, labelcolor=theme.ink, fontsize=TEXT - 0.5, **options)


def shades(theme: Theme) -> mpl.colors.LinearSegmentedColormap:
    """From the paper to the accent."""
    return mpl.colors.LinearSegmentedColormap.from_list("shades", [theme.grid, theme.accent, theme.ink])
