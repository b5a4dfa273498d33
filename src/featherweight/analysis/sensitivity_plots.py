"""Figures of a sensitivity analysis: accuracy over sparsity or bits, a curve a layer.

Accuracy has a scale on which the error is logarithmic, so that 99.2 % and 99.0 % can be told apart as well as
90 % and 30 %; sparsity has one on which the weights left are, so that 95 % and 98 % can.
"""

from __future__ import annotations

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
from featherweight.analysis.scales import accuracy_place, accuracy_ticks, sparsity_place, sparsity_ticks
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
        line = End(axes.get_xlim()[1], accuracy_place(dense), f"{reference} {dense:.2f} %", theme.muted)
        label_ends(figure, axes, [*ends, line])
    return figure


def _end(curve: Curve, text: str, colour: str) -> End:
    bold = text == layer_label(NETWORK)
    return End(_x(curve)[-1], accuracy_place(curve.accuracy[-1]), text, colour, bold)


def _plot(axes: Axes, curve: Curve, colour: str, marker: str, *, bold: bool) -> None:
    xs = _x(curve)
    width = 2.6 if bold else 1.7
    axes.plot(
        xs,
        [accuracy_place(a) for a in curve.accuracy],
        color=colour,
        marker=marker,
        markersize=4.5,
        linewidth=width,
        zorder=3 if bold else 2,
    )
    if curve.lowest != curve.highest:
        low, high = [accuracy_place(a) for a in curve.lowest], [accuracy_place(a) for a in curve.highest]
        axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)


def _dense_line(axes: Axes, dense: float, theme: Theme) -> None:
    axes.axhline(accuracy_place(dense), color=theme.muted, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)


def _scales(axes: Axes, curves: Sequence[Curve], dense: float) -> None:
    best = max(accuracy_place(a) for a in (dense, *(a for c in curves for a in c.highest)))
    worst = min(accuracy_place(a) for a in (dense, *(a for c in curves for a in c.lowest)))
    room = max(best - worst, 0.3)
    axes.set_ylim(worst - 0.06 * room, best + 0.16 * room)
    _ticks(axes.yaxis, accuracy_ticks(*axes.get_ylim()))
    xs = [x for c in curves for x in _x(c)]
    margin = 0.04 * max(max(xs) - min(xs), 0.3)
    axes.set_xlim(min(xs) - margin, max(xs) + margin)
    if _over_bits(curves):
        axes.xaxis.set_major_locator(FixedLocator(sorted(set(xs))))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{-x:g}"))
    else:
        _ticks(axes.xaxis, sparsity_ticks(*axes.get_xlim()))


def _ticks(axis: object, ticks: Sequence[tuple[float, str]]) -> None:
    axis.set_major_locator(FixedLocator([at for at, _ in ticks]))  # type: ignore[attr-defined]
    axis.set_minor_locator(NullLocator())  # type: ignore[attr-defined]
    texts = dict(enumerate(text for _, text in ticks))
    axis.set_major_formatter(  # type: ignore[attr-defined]
        FuncFormatter(lambda _, position: texts.get(position, ""))
    )


def _over_bits(curves: Sequence[Curve]) -> bool:
    return all(x >= 1 for c in curves for x in c.x)


def _x_label(curves: Sequence[Curve]) -> str:
    return "bits a weight" if _over_bits(curves) else "weights pruned, %"


def _x(curve: Curve) -> list[float]:
    """Where the points are on the axis, the hardest at the right."""
    return [-x if _over_bits([curve]) else sparsity_place(x) for x in curve.x]
