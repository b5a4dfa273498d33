"""Figures of a sensitivity analysis: accuracy over sparsity or bits, a curve a layer.

Accuracy has a scale on which the error is logarithmic, so that 99.2 % and 99.0 % can be told apart as well as
90 % and 30 %; sparsity has one on which the weights left are, so that 95 % and 98 % can.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from featherweight.analysis.plots import (
    MARKERS,
    THEMES,
    End,
    curve_colours,
    label_axes,
    label_ends,
    new_figure,
    save_figure,
    set_figure_title,
    set_title,
)
from featherweight.analysis.sensitivity import Curve, Results, epochs_label
from featherweight.analysis.sweep import NETWORK, layer_label
from featherweight.analysis.text import printable

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from featherweight.analysis.plots import Theme

#: What a curve, or a panel, is about.
Label: TypeAlias = Callable[[Curve], str]

#: Accuracies at which the axis may have a tick, in percent.
_ACCURACIES = (0, 50, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9)
_SPARSITIES = (0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
#: Where those give fewer ticks than are wanted.
_FINER_ACCURACIES = (*range(0, 98, 2), 97, 98, 98.5, 98.8, 99, 99.2, 99.4, 99.5, 99.6, 99.7, 99.8, 99.9)
_TICKS_WANTED = 4
_LEAST_TICK_GAP = 0.055  # of the axis
_SMALLEST_ERROR = 0.02  # percent


def by_layer(curve: Curve) -> str:
    """The layer's name."""
    return printable(layer_label(curve.layer))


def by_method(curve: Curve) -> str:
    """The importance or the quantizer."""
    return printable(curve.method)


def by_retraining(curve: Curve) -> str:
    """How it was retrained."""
    return epochs_label(curve.epochs, curve.steps)


def draw_results(results: Results, directory: Path) -> list[Path]:
    """Draw all that a sensitivity analysis found, in both themes.

    Args:
        results: what it found.
        directory: where ``pruning-light.png`` and the like go.

    Returns:
        The files.
    """
    paths = []
    title = f"{results.model} on {results.dataset}: accuracy on the {results.split} images"
    for name, curves in (("pruning", results.pruning()), ("quantization", results.quantization())):
        if not curves:
            continue
        panel = _panels(curves)
        for theme in THEMES:
            figure = draw(curves, results.dense_accuracy_percent, theme, title=title, panel=panel)
            paths += save_figure(figure, directory / f"{name}-{theme.name}")
    return paths


def _panels(curves: Sequence[Curve]) -> Label:
    """Panels by all that differs beside the layer."""
    several = len({curve.method for curve in curves if curve.layer != NETWORK}) > 1

    def label(curve: Curve) -> str:
        return f"{by_method(curve)}, {by_retraining(curve)}" if several else by_retraining(curve)

    return label


def draw(
    curves: Sequence[Curve],
    dense: float,
    theme: Theme,
    *,
    title: str = "",
    panel: Label = by_retraining,
    curve: Label = by_layer,
    columns: int = 2,
    reference: str = "dense",
) -> Figure:
    """Accuracy over sparsity or bits.

    Args:
        curves: all over sparsity, or all over bits.
        dense: accuracy of the network that all start from in percent, drawn as a line.
        theme: light or dark.
        title: of the whole figure.
        panel: curves of one label share a panel; panels share their axes.
        curve: what to write at a curve's end; curves of one label have one colour.
        columns: panels in a row.
        reference: what that network is called.
    """
    panels = list(dict.fromkeys(map(panel, curves)))
    names = list(dict.fromkeys(map(curve, curves)))
    plain = [name for name in names if name != layer_label(NETWORK)]
    colours = dict(zip(plain, curve_colours(theme, len(plain)), strict=True))
    colours[layer_label(NETWORK)] = theme.ink
    longest = max(map(len, names))
    width = 3.9 + 0.095 * max(longest, len(f"{reference} 99.99 %"))
    figure, all_axes = new_figure(theme, len(panels), columns=columns, width=width)
    for axes, heading in zip(all_axes, panels, strict=True):
        _scales(axes, curves, dense)
        _dense_line(axes, dense, theme)
        for one in curves:
            if panel(one) == heading:
                marker = MARKERS[names.index(curve(one)) % len(MARKERS)]
                _plot(axes, one, colours[curve(one)], marker, bold=curve(one) == layer_label(NETWORK))
        set_title(axes, heading, theme)
        label_axes(axes, theme, x=_x_label(curves), y="accuracy, %" if axes in all_axes[::columns] else "")
    set_figure_title(figure, title, theme)
    for axes, heading in zip(all_axes, panels, strict=True):
        mine = [one for one in curves if panel(one) == heading]
        ends = [_end(one, curve(one), colours[curve(one)]) for one in mine]
        line = End(axes.get_xlim()[1], _height(dense), f"{reference} {dense:.2f} %", theme.muted)
        label_ends(figure, axes, [*ends, line])
    return figure


def _end(curve: Curve, text: str, colour: str) -> End:
    bold = text == layer_label(NETWORK)
    return End(_x(curve)[-1], _height(curve.accuracy[-1]), text, colour, bold)


def _plot(axes: Axes, curve: Curve, colour: str, marker: str, *, bold: bool) -> None:
    xs = _x(curve)
    width = 2.6 if bold else 1.7
    axes.plot(
        xs,
        [_height(a) for a in curve.accuracy],
        color=colour,
        marker=marker,
        markersize=4.5,
        linewidth=width,
        zorder=3 if bold else 2,
    )
    if curve.lowest != curve.highest:
        low, high = [_height(a) for a in curve.lowest], [_height(a) for a in curve.highest]
        axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)


def _dense_line(axes: Axes, dense: float, theme: Theme) -> None:
    axes.axhline(_height(dense), color=theme.muted, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)


def _scales(axes: Axes, curves: Sequence[Curve], dense: float) -> None:
    best = max(_height(a) for a in (dense, *(a for c in curves for a in c.highest)))
    worst = min(_height(a) for a in (dense, *(a for c in curves for a in c.lowest)))
    room = max(best - worst, 0.3)
    axes.set_ylim(worst - 0.06 * room, best + 0.16 * room)
    in_sight = [a for a in _ACCURACIES if axes.get_ylim()[0] <= _height(a) <= axes.get_ylim()[1]]
    accuracies = _ACCURACIES if len(in_sight) >= _TICKS_WANTED else sorted(set(_FINER_ACCURACIES))
    _ticks(axes.yaxis, accuracies, _height, axes.get_ylim(), lambda a: f"{a:g}")
    xs = [x for c in curves for x in _x(c)]
    margin = 0.04 * max(max(xs) - min(xs), 0.3)
    axes.set_xlim(min(xs) - margin, max(xs) + margin)
    if _over_bits(curves):
        axes.xaxis.set_major_locator(FixedLocator(sorted(set(xs))))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{-x:g}"))
    else:
        _ticks(axes.xaxis, _SPARSITIES, _breadth, axes.get_xlim(), lambda s: f"{100 * s:g}")


def _ticks(
    axis: object,
    candidates: Sequence[float],
    place: Callable[[float], float],
    limits: tuple[float, float],
    write: Callable[[float], str],
) -> None:
    """Ticks at those of the candidates that are in sight and not too near to the one before."""
    low, high = limits
    chosen: list[tuple[float, str]] = []
    for candidate in candidates:
        at = place(candidate)
        if low <= at <= high and (not chosen or at - chosen[-1][0] >= _LEAST_TICK_GAP * (high - low)):
            chosen.append((at, write(candidate)))
    axis.set_major_locator(FixedLocator([at for at, _ in chosen]))  # type: ignore[attr-defined]
    axis.set_minor_locator(NullLocator())  # type: ignore[attr-defined]
    texts = dict(enumerate(text for _, text in chosen))
    axis.set_major_formatter(  # type: ignore[attr-defined]
        FuncFormatter(lambda _, position: texts.get(position, ""))
    )


def _over_bits(curves: Sequence[Curve]) -> bool:
    return all(x >= 1 for c in curves for x in c.x)


def _x_label(curves: Sequence[Curve]) -> str:
    return "bits a weight" if _over_bits(curves) else "weights pruned, %"


def _x(curve: Curve) -> list[float]:
    """Where the points are on the axis, the hardest at the right."""
    return [-x if _over_bits([curve]) else _breadth(x) for x in curve.x]


def _height(accuracy: float) -> float:
    """The place of an accuracy (percent) on its axis."""
    return -math.log10(max(100.0 - accuracy, _SMALLEST_ERROR))


def _breadth(sparsity: float) -> float:
    """The place of a sparsity (fraction) on its axis."""
    return -math.log10(1.0 - sparsity)
