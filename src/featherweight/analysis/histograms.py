"""Histograms of weights before and after pruning, a panel a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featherweight.analysis.plots import TEXT, label_axes, new_figure, set_figure_title, set_title
from featherweight.analysis.sweep import layer_label
from featherweight.analysis.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from featherweight.analysis.plots import Theme

_BINS = 81

#: Of the dense weights, this part is in sight: a few far ones would leave the others a thin line.
_IN_SIGHT = 0.999


def draw_histograms(
    before: Mapping[str, NDArray[np.floating]],
    after: Mapping[str, NDArray[np.floating]],
    theme: Theme,
    *,
    title: str = "",
    columns: int = 2,
) -> Figure:
    """Draw what pruning and retraining did to the weights of each layer; zeros are left out.

    Args:
        before: weights by tensor name, in any shape; those of one dimension (biases) are passed over.
        after: the same names and shapes.
        theme: light or dark.
        title: of the whole figure.
        columns: panels in a row.
    """
    names = [name for name, weights in before.items() if weights.ndim > 1]
    figure, all_axes = new_figure(theme, len(names), columns=columns, width=4.0, height=2.9)
    for axes, name in zip(all_axes, names, strict=True):
        old, new = before[name].reshape(-1), after[name].reshape(-1)
        old, new = old[old != 0], new[new != 0]
        limit = max(float(np.quantile(np.abs(old), _IN_SIGHT)), float(np.abs(new).max(initial=0)))
        edges = np.linspace(-limit, limit, min(_BINS, 2 * (round(old.size**0.5) // 2) + 1))
        bins = [float(edge) for edge in edges]
        axes.hist(old, bins=bins, color=theme.muted, alpha=0.35)
        axes.hist(new, bins=bins, histtype="step", color=theme.accent, linewidth=1.8)
        axes.set_yscale("log")
        axes.set_ylim(0.7, None)
        set_title(axes, f"{printable(layer_label(name))}: {new.size:,} of {before[name].size:,} left", theme)
        label_axes(axes, theme, y="weights (log scale)" if axes in all_axes[::columns] else "")
    _key(figure, theme)
    set_figure_title(figure, title, theme)
    return figure


def _key(figure: Figure, theme: Theme) -> None:
    """Say once which is which, below the panels."""
    figure.supxlabel(
        "filled: before pruning     outlined: pruned and retrained, zeros left out",
        color=theme.muted,
        fontsize=TEXT,
        x=0.01,
        ha="left",
    )
