"""What the coders make of the indices of ``results/lenet300-mnist.fwt``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import featherweight as fw
from featherweight.analysis.plots import Theme, curve_colours, new_figure
from featherweight.coding import encode_indices
from panels import captions, legend, plain_image, shades

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from networks import Networks

    Picture = Callable[[Theme], Figure]

RESULT = Path(__file__).parents[2] / "results" / "lenet300-mnist.fwt"
CODERS = ("fixed", "huffman", "rans", "context")


def _tensors() -> dict[str, fw.QuantizedTensor]:
    with fw.open_file(RESULT) as file:
        return {name: file.get_quantized(name) for name in file.keys() if name.endswith("weight")}  # noqa: SIM118


def _entropy_bits(indices: NDArray[np.integer]) -> float:
    share = np.bincount(indices.ravel()) / indices.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum() * indices.size)


def coders(_: Networks) -> Picture:
    """Bytes of each layer by each coder."""
    tensors = _tensors()
    found = {
        coder: [len(encode_indices(t.indices, t.codebook.size, coder)[1]) for t in tensors.values()]
        for coder in CODERS
    }
    entropy = [_entropy_bits(t.indices) / 8 for t in tensors.values()]

    def draw(theme: Theme) -> Figure:
        figure, (axes,) = new_figure(theme, 1, columns=1, width=7.2)
        width = 0.19
        for i, (coder, colour) in enumerate(zip(CODERS, curve_colours(theme, 4), strict=True)):
            places = np.arange(len(tensors)) + (i - 1.5) * width
            axes.bar(places, found[coder], width * 0.92, color=colour, label=coder)
        for place, bound in enumerate(entropy):
            line = [place - 2 * width, place + 2 * width]
            axes.plot(line, [bound, bound], color=theme.ink, linewidth=1.4)
        axes.plot([], [], color=theme.ink, linewidth=1.4, label="zero-order entropy")
        names = [name.removesuffix(".weight") for name in tensors]
        axes.set_xticks(np.arange(len(tensors)), names)
        captions(axes, theme, "results/lenet300-mnist.fwt: bytes of each layer's indices", "", "bytes")
        legend(axes, theme)
        return figure

    return draw


def huffman(_: Networks) -> Picture:
    """Whole bits beside what symbols are worth."""
    indices = _tensors()["fc1.weight"].indices
    counts = np.bincount(indices[indices != 0])[1:]
    gaps = np.diff(np.flatnonzero(indices.ravel()), prepend=-1)
    gap_counts = np.bincount(gaps)[1:40]

    def draw(theme: Theme) -> Figure:
        figure, panels = new_figure(theme, 2, columns=2)
        for axes, (title, found, x) in zip(
            panels,
            (
                ("fc1: how often each value", counts, "index"),
                ("fc1: how far from weight to weight", gap_counts, "gap"),
            ),
            strict=True,
        ):
            axes.bar(np.arange(1, found.size + 1), found, color=theme.accent)
            captions(axes, theme, title, x, "how many")
        return figure

    return draw


def context(_: Networks) -> Picture:
    """Where weights stand in the file's first layer: what contexts learn."""
    indices = _tensors()["fc1.weight"].indices
    rows = int((indices != 0).any(axis=1).sum())

    def draw(theme: Theme) -> Figure:
        figure, (left, right) = new_figure(theme, 2, columns=2, height=3.4)
        left.imshow(indices[:rows] != 0, cmap=shades(theme), aspect="auto", interpolation="nearest")
        plain_image(left, theme, f"fc1 of the file: {rows} units by 784 pixels")
        density = (indices != 0).sum(axis=0).reshape(28, 28)
        right.imshow(density, cmap=shades(theme))
        plain_image(right, theme, "weights left of each pixel")
        return figure

    return draw
