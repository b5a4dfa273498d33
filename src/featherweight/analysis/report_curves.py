"""The drawings of a report that are curves: training epoch by epoch, accuracy against sparsity and bits."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING

from featherweight.analysis.scales import (
    accuracy_place,
    accuracy_ticks,
    sparsity_place,
    sparsity_ticks,
    spread,
)
from featherweight.analysis.sensitivity import epochs_label
from featherweight.analysis.svg import drawing, element, line
from featherweight.analysis.sweep import NETWORK, layer_label
from featherweight.analysis.text import printable, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from markupsafe import Markup

    from featherweight.analysis.curves import Epoch
    from featherweight.analysis.sensitivity import Curve, Results

_WIDTH, _HEIGHT = 320.0, 204.0
_LEFT, _TOP, _GROUND = 38.0, 20.0, 166.0

#: Units across of a letter at the size of labels, at most, and from label to label.
_LETTER, _BOLD_LETTER, _LABEL_GAP = 6.1, 7.2, 13.0
_LONGEST_LABEL = 14

#: Points of a curve at most: more than a screen can show.
_MOST_POINTS = 320

#: Curves with a colour and a label of their own; the style sheet has as many colours.
COLOURS = 7

Ticks = list[tuple[float, str]]


@dataclass(frozen=True)
class Panel:
    """A drawing with its title.

    Attributes:
        title: what it shows.
        svg: the drawing.
    """

    title: str
    svg: Markup


@dataclass(frozen=True)
class _Series:
    """A curve in a panel: its name, its class in the style sheet and its points, one list a part."""

    name: str
    style: str
    parts: list[list[tuple[float, float]]]

    @property
    def end(self) -> tuple[float, float]:
        return self.parts[-1][-1]


@dataclass(frozen=True)
class _Frame:
    """What curves are drawn in: ranges, ticks, and lines across or down with a name."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_ticks: Ticks
    y_ticks: Ticks
    x_label: str
    downs: Sequence[tuple[float, str]] = ()
    across: tuple[float, str] | None = None


def _draw(label: str, series: Sequence[_Series], frame: _Frame) -> Markup:
    """Curves that are named where they end."""
    names = [one.name for one in series] + ([frame.across[1]] if frame.across else [])
    letter = _BOLD_LETTER if any(one.style == "network" for one in series) else _LETTER
    right = 14 + letter * max((len(name) for name in names), default=0)
    x = _linear(frame.x_range, _LEFT, _WIDTH - right)
    y = _linear(frame.y_range, _GROUND, _TOP)
    parts = [*_axes(frame, x, y, _WIDTH - right)]
    for one in series:
        d = "".join(line((x(a), y(b)) for a, b in _thinned(part)) for part in one.parts if part)
        parts.append(element("path", class_=f"curve {one.style}", d=d))
    ends = [(y(one.end[1]), x(one.end[0]), one.name, one.style) for one in series if one.name]
    if frame.across:
        ends.append((y(frame.across[0]), _WIDTH - right, frame.across[1], "reference"))
    parts += _end_labels(sorted(ends), _WIDTH - right + 12)
    return drawing(_WIDTH, _HEIGHT, label, parts)


def _linear(span: tuple[float, float], start: float, end: float) -> Callable[[float], float]:
    low, high = span
    width = (high - low) or 1.0
    return lambda value: start + (end - start) * (value - low) / width


def _axes(
    frame: _Frame, x: Callable[[float], float], y: Callable[[float], float], right: float
) -> Iterator[Markup]:
    for at, text in frame.y_ticks:
        yield element("line", class_="grid", x1=_LEFT, x2=right, y1=y(at), y2=y(at))
        yield element("text", text, x=_LEFT - 6, y=y(at) + 4, text_anchor="end")
    yield element("path", class_="axis", d=line([(_LEFT, _GROUND), (right, _GROUND)]))
    for at, text in frame.x_ticks:
        yield element("text", text, x=x(at), y=_GROUND + 16, text_anchor="middle")
    yield element("text", frame.x_label, x=(_LEFT + right) / 2, y=_GROUND + 32, text_anchor="middle")
    for at, text in frame.downs:
        yield element("line", class_="down", x1=x(at), x2=x(at), y1=_TOP - 10, y2=_GROUND)
        yield element("text", text, x=x(at) + 4, y=_TOP - 5)
    if frame.across:
        place = y(frame.across[0])
        yield element("line", class_="reference", x1=_LEFT, x2=right, y1=place, y2=place)


def _end_labels(ends: Sequence[tuple[float, float, str, str]], left: float) -> Iterator[Markup]:
    """Names beside the ends, apart, each with a line of its colour that leads there."""
    places = spread([end[0] for end in ends], _LABEL_GAP, _TOP - 4, _GROUND + 4)
    for (wanted, x, name, style), place in zip(ends, places, strict=True):
        yield element("path", class_=f"leader {style}", d=line([(x + 1, wanted), (left - 3, place)]))
        yield element("text", name, class_=f"label {style}", x=left, y=place + 4)


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    step = max(1, math.ceil(len(points) / _MOST_POINTS))
    kept = points[::step]
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


# -- training --------------------------------------------------------------------------------------


def training_panels(epochs: Sequence[Epoch]) -> list[Panel]:
    """Loss, validation accuracy and sparsity over all epochs of a run; what was not measured is left out."""
    panels = []
    losses = [_over_epochs(epochs, name, attribute, style) for name, attribute, style in _LOSSES]
    losses = [_in_logarithms(series) for series in losses if series.parts]
    if losses:
        panels.append(Panel("Loss", _of_training("Loss by epoch", epochs, losses, _decade_ticks)))
    accuracy = _over_epochs(epochs, "", "val_accuracy_percent", "c0", accuracy_place)
    if accuracy.parts:
        svg = _of_training("Validation accuracy by epoch", epochs, [accuracy], _accuracy_ticks)
        panels.append(Panel("Validation accuracy, %", svg))
    sparsity = _over_epochs(epochs, "", "sparsity_percent", "c0")
    if any(value for part in sparsity.parts for _, value in part):
        svg = _of_training("Sparsity by epoch", epochs, [sparsity], _round_ticks, limits=(0.0, 100.0))
        panels.append(Panel("Weights pruned, %", svg))
    return panels


_LOSSES = (("train", "train_loss", "c0"), ("validation", "val_loss", "c1"))


def _over_epochs(
    epochs: Sequence[Epoch],
    name: str,
    attribute: str,
    style: str,
    place: Callable[[float], float] = lambda value: value,
) -> _Series:
    """A figure of all epochs, one after the other; a part a phase."""
    parts = []
    for _, phase in groupby(enumerate(epochs, 1), key=lambda item: item[1].phase):
        found = [(number, getattr(epoch, attribute)) for number, epoch in phase]
        part = [(float(number), place(value)) for number, value in found if value is not None]
        if part:
            parts.append(part)
    return _Series(name, style, parts)


def _in_logarithms(series: _Series) -> _Series:
    """Losses of 0 stand below all others."""
    positive = [value for part in series.parts for _, value in part if value > 0]
    least = min(positive, default=1e-6) / 2
    parts = [[(at, math.log10(max(value, least))) for at, value in part] for part in series.parts]
    return _Series(series.name, series.style, parts)


def _of_training(
    label: str,
    epochs: Sequence[Epoch],
    series: list[_Series],
    ticks: Callable[[float, float], Ticks],
    limits: tuple[float, float] | None = None,
) -> Markup:
    values = [value for one in series for part in one.parts for _, value in part]
    low, high = limits or (min(values), max(values))
    room = 0.06 * ((high - low) or 1.0) if limits is None else 0.0
    span = (low - room, high + room)
    first, starts = 1, []
    for name, phase in groupby(epochs, key=lambda epoch: epoch.phase):
        starts.append((first - 0.5, shortened(printable(name), 8)))
        first += len(list(phase))
    ends = (0.5, max(len(epochs), 1) + 0.5)
    x_ticks = [tick for tick in _round_ticks(1.0, float(len(epochs))) if tick[0] >= 1]
    frame = _Frame(ends, span, x_ticks, ticks(*span), "epoch", downs=starts)
    return _draw(label, series, frame)


def _accuracy_ticks(low: float, high: float) -> Ticks:
    """As elsewhere, and one at no error at all, which small validation splits come to."""
    ticks = [tick for tick in accuracy_ticks(low, high, gap=0.09) if tick[1] != "100"]
    best = accuracy_place(100)
    return [*ticks, (best, "100")] if low <= best <= high else ticks


def _round_ticks(low: float, high: float, most: int = 5) -> Ticks:
    """Whole multiples of 1, 2 or 5 times a power of ten."""
    width = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(width / most))
    step = max(next(f * power for f in (1, 2, 5, 10) if width / (f * power) <= most), 1.0)
    first = math.ceil(low / step)
    return [(i * step, f"{i * step:g}") for i in range(first, math.floor(high / step) + 1)]


def _decade_ticks(low: float, high: float) -> Ticks:
    """Ticks of a logarithmic axis, finer ones where it spans little."""
    for factors in ((1,), (1, 3), (1, 2, 5)):
        places = [
            (exponent + math.log10(factor), f"{factor * 10.0**exponent:g}")
            for exponent in range(math.floor(low) - 1, math.ceil(high) + 1)
            for factor in factors
        ]
        ticks = [(at, text) for at, text in places if low <= at <= high]
        if len(ticks) >= 3:
            break
    return ticks if len(ticks) <= 8 else ticks[:: math.ceil(len(ticks) / 8)]


# -- sensitivity -----------------------------------------------------------------------------------


def sensitivity_panels(results: Results) -> list[Panel]:
    """Accuracy over sparsity and over bits, a curve a layer, a panel for each way and length of retraining.

    The whole network and the most sensitive layers have a colour and a name, the others are grey.
    """
    panels = []
    for curves in (results.pruning(), results.quantization()):
        styles = _styles(curves)
        groups: dict[str, list[Curve]] = defaultdict(list)
        for curve in curves:
            method = shortened(printable(curve.method), 24)
            groups[f"{method}, {epochs_label(curve.epochs, curve.steps)}"].append(curve)
        for title, members in groups.items():
            dense = results.dense_accuracy_percent
            panels.append(Panel(title, _of_sensitivity(title, members, curves, styles, dense)))
    return panels


def _styles(curves: Sequence[Curve]) -> dict[str, str]:
    """A class of the style sheet for each layer that is to stand out."""
    means: dict[str, list[float]] = defaultdict(list)
    for curve in curves:
        means[curve.layer] += curve.accuracy
    means.pop(NETWORK, None)
    order = sorted(means, key=lambda layer: fmean(means[layer]))[:COLOURS]
    return {layer: f"c{i}" for i, layer in enumerate(order)} | {NETWORK: "network"}


def _of_sensitivity(
    title: str, members: list[Curve], curves: list[Curve], styles: dict[str, str], dense: float
) -> Markup:
    """One panel; all panels of a kind share their axes."""
    bits = all(x >= 1 for curve in curves for x in curve.x)
    series = []
    for curve in sorted(members, key=lambda curve: curve.layer in styles):
        points = [(-x if bits else sparsity_place(x)) for x in curve.x]
        part = list(zip(points, map(accuracy_place, curve.accuracy), strict=True))
        name = shortened(printable(layer_label(curve.layer)), _LONGEST_LABEL) if curve.layer in styles else ""
        series.append(_Series(name, styles.get(curve.layer, "other"), [part]))
    xs = [(-x if bits else sparsity_place(x)) for curve in curves for x in curve.x]
    heights = [accuracy_place(a) for curve in curves for a in (*curve.lowest, *curve.highest)]
    heights.append(accuracy_place(dense))
    room = 0.06 * max(max(heights) - min(heights), 0.3)
    margin = 0.03 * max(max(xs) - min(xs), 0.3)
    x_range = (min(xs) - margin, max(xs) + margin)
    y_range = (min(heights) - room, max(heights) + room)
    x_ticks = [(x, f"{-x:g}") for x in sorted(set(xs))] if bits else sparsity_ticks(*x_range, gap=0.11)
    frame = _Frame(
        x_range,
        y_range,
        x_ticks,
        accuracy_ticks(*y_range, gap=0.09),
        "bits a weight" if bits else "weights pruned, %",
        across=(accuracy_place(dense), f"dense {dense:.2f}"),
    )
    over = "bits a weight" if bits else "weights pruned"
    return _draw(f"Accuracy in percent over {over}, a curve a layer: {title}", series, frame)
