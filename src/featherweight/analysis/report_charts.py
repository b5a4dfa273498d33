"""The drawings of a report that are about its layers: bytes step by step, histograms, sparsity."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from featherweight.analysis.png import LEVELS, encode_png
from featherweight.analysis.report_layers import BINS, picture_size, strengths
from featherweight.analysis.svg import drawing, element, line, stems, steps
from featherweight.analysis.text import byte_count, percent, times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from featherweight.analysis.report_layers import Histogram
    from featherweight.analysis.sizes import ModelSizes

#: Units of a panel across; on paper of any width a unit is about a pixel.
WIDTH = 320.0

_HEIGHT = 168.0
_LEFT, _RIGHT, _TOP, _GROUND = 34.0, 6.0, 8.0, 138.0

#: More shared values than this are drawn as bins, with a tick a value below.
_MOST_STEMS = 300
#: Fewer than this have heads.
_MOST_HEADS = 40

#: Of the pictures of sparsity; it stands out on light and on dark paper.
_PICTURE_COLOUR = (38, 132, 184)


@dataclass(frozen=True)
class Step:
    """A step of the way from the dense network to the file.

    Attributes:
        name: of what is left after it.
        what: what the bytes are.
        bytes: that are left.
        before: bytes before the step.
        dense: bytes of the dense network.
    """

    name: str
    what: str
    bytes: int
    before: int
    dense: int

    @property
    def drawing(self) -> Markup:
        """What is left as a bar, what the step took away beside it."""
        end, start = _share(self.bytes, self.dense), _share(self.before, self.dense)
        low, high = min(end, start), max(end, start)
        parts = [element("rect", class_="track", width="100%", height="100%", rx=3)]
        if self.before > self.bytes:
            parts.append(element("rect", class_="gone", x=_at(low), width=_at(high - low), height="100%"))
        parts.append(element("rect", class_="bar", width=_at(end), height="100%"))
        # What is left may be too little to be seen as a bar.
        parts.append(element("line", class_="end", x1=_at(end), x2=_at(end), y1="0", y2="100%"))
        return element("svg", *parts, role="img", aria_label=f"{self.name}: {self.size}, {self.left}")

    @property
    def size(self) -> str:
        """The bytes as people read them."""
        return byte_count(self.bytes)

    @property
    def left(self) -> str:
        """What is left of the dense network."""
        return f"{percent(self.bytes / self.dense, 1)} of dense" if self.dense else ""

    @property
    def ratio(self) -> str:
        """How much smaller than dense, or larger."""
        if 0 in (self.bytes, self.dense) or self.bytes == self.dense:
            return ""
        if self.bytes > self.dense:
            return f"{times(self.bytes / self.dense)} larger"
        return f"{times(self.dense / self.bytes)} smaller"

    @property
    def factor(self) -> str:
        """How much smaller by this step alone, where it is not the first."""
        if not self.bytes or not self.bytes < self.before < self.dense:
            return ""
        return f"{times(self.before / self.bytes, 2)} by this step"


def waterfall(sizes: ModelSizes, dense: int) -> list[Step]:
    """The bytes of a network after each step of Deep Compression, told from its file.

    Args:
        sizes: of the file.
        dense: bytes of the network as it was trained, channels that were removed since included.
    """
    pruned = sum(tensor.bits_p for tensor in sizes.stored)
    shared = sum(min(tensor.bits_p, tensor.bits_pq) for tensor in sizes.stored)
    stages = (
        ("dense", "every weight at its own type", dense),
        ("pruned", "the weights left, and where they are", math.ceil(pruned / 8)),
        ("shared", "indices, codebooks, and where", math.ceil(shared / 8)),
        ("coded", "the file on disk, all included", sizes.file_bytes),
    )
    steps_, before = [], dense
    for name, what, size in stages:
        steps_.append(Step(name, what, size, before, dense))
        before = size
    return steps_


def _share(part: int, whole: int) -> float:
    return min(part / whole, 1.0) if whole else 0.0


def _at(fraction: float) -> str:
    return f"{100 * fraction:.2f}%"


def draw_histogram(histogram: Histogram, name: str) -> Markup:
    """Weights before and after on one scale; those that share values as a line a value.

    Args:
        histogram: of a layer.
        name: of the layer.
    """
    stemmed = histogram.values is not None and histogram.values.size <= _MOST_STEMS
    heights = [histogram.after if not stemmed else histogram.counts, histogram.before]
    most = max(int(counts.max(initial=0)) for counts in heights if counts is not None)
    y = _log_scale(most)
    parts = [*_count_axis(most, y), *_weight_axis(histogram.limit)]
    if histogram.before is not None:
        parts.append(element("path", class_="before", d=_outline(histogram.before, y)))
    if stemmed:
        parts += _shared_values(histogram, y)
    else:
        parts.append(element("path", class_="after", d=_outline(histogram.after, y)))
        if histogram.values is not None:
            parts.append(element("path", class_="rug", d=_rug(histogram.values, histogram.limit)))
    before = "" if histogram.before is None else "before in grey, "
    limit = f"{histogram.limit:.3g}"
    label = f"Histogram of the weights of {name}: {before}after in colour, from -{limit} to {limit}"
    return drawing(WIDTH, _HEIGHT, label, parts)


def _log_scale(most: int) -> Callable[[float], float]:
    """Places of counts: a half is at the ground, the greatest at the top."""
    low, high = math.log10(0.5), math.log10(max(most, 10) * 1.3)
    return lambda count: _GROUND - (_GROUND - _TOP) * (math.log10(max(count, 0.5)) - low) / (high - low)


def _x(weight: float, limit: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * (weight / limit + 1) / 2


def _outline(counts: NDArray[np.int64], y: Callable[[float], float]) -> str:
    edges = [_x(2 * i / BINS - 1, 1.0) for i in range(BINS + 1)]
    return steps(edges, [y(count) for count in counts.tolist()], _GROUND)


def _shared_values(histogram: Histogram, y: Callable[[float], float]) -> Iterator[Markup]:
    values, counts = histogram.values, histogram.counts
    assert values is not None and counts is not None  # noqa: S101, PT018  (callers ask)
    pairs = zip(values.tolist(), counts.tolist(), strict=True)
    points = [(_x(value, histogram.limit), y(count)) for value, count in pairs]
    yield element("path", class_="stems", d=stems(points, _GROUND))
    if len(points) <= _MOST_HEADS:
        for x, top in points:
            yield element("circle", class_="head", cx=x, cy=top, r=2.6)


def _rug(values: NDArray[np.float64], limit: float) -> str:
    places = sorted({round(_x(value, limit), 0) for value in values.tolist()})
    return stems([(place, _GROUND + 5) for place in places], _GROUND + 1)


def _count_axis(most: int, y: Callable[[float], float]) -> Iterator[Markup]:
    decades = int(math.log10(max(most, 10)))
    for exponent in range(0, decades + 1, 1 if decades <= 3 else 2):
        place = y(10**exponent)
        yield element("line", class_="grid", x1=_LEFT, x2=WIDTH - _RIGHT, y1=place, y2=place)
        yield element("text", _short(10**exponent), x=_LEFT - 5, y=place + 4, text_anchor="end")


def _weight_axis(limit: float) -> Iterator[Markup]:
    yield element("path", class_="axis", d=line([(_LEFT, _GROUND), (WIDTH - _RIGHT, _GROUND)]))
    step = _round_step(limit)
    for value in (-step, 0.0, step):
        yield element("text", f"{value:g}", x=_x(value, limit), y=_GROUND + 19, text_anchor="middle")


def _round_step(limit: float) -> float:
    """The greatest of 1, 2 and 5 times a power of ten whose label has room within the limit."""
    room = 0.85 * limit
    power = 10.0 ** math.floor(math.log10(room)) if room > 0 else 0.0
    return max((factor * power for factor in (1, 2, 5) if factor * power <= room), default=room)


def _short(count: int) -> str:
    """A power of ten: ``100``, ``10k``, ``1M``."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count // size}{unit}"
    return str(count)


def draw_density(density: NDArray[np.float64], name: str) -> tuple[Markup, float]:
    """A picture of where a layer's weights are, and the density of its darkest cell.

    Args:
        density: fraction of weights left in each cell.
        name: of the layer.
    """
    levels, fullest = strengths(density, LEVELS)
    data = base64.b64encode(encode_png(levels, _PICTURE_COLOUR)).decode()
    width, height = picture_size(*levels.shape)
    alt = f"Where the weights of {name} are that are left: outputs down, inputs across"
    tag = Markup('<img class="density" src="data:image/png;base64,{}" width="{}" height="{}" alt="{}">')
    return tag.format(data, width, height, alt), fullest
