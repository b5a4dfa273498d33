from __future__ import annotations

import itertools
import re

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Annotation

from featherweight.analysis.histograms import draw_histograms
from featherweight.analysis.plots import DARK, LIGHT, THEMES, curve_colours, save_figure, spread
from featherweight.analysis.sensitivity import Curve
from featherweight.analysis.sensitivity_plots import draw
from featherweight.analysis.sweep import NETWORK


def curves(layers, *, epochs=(0, 3), xs=(0.5, 0.9, 0.98), end=90.0):
    return [
        Curve(layer, "magnitude", 1, n, xs, (99.0, 98.0, end), (98.9, 97.0, end), (99.1, 98.5, end))
        for n in epochs
        for layer in layers
    ]


LAYERS = [f"conv{i}.weight" for i in range(1, 6)] + [NETWORK]


@given(st.lists(st.floats(0, 100), max_size=8).map(sorted), st.floats(0.5, 10))
def test_spread_keeps_order_and_distance_within_the_limits(wanted, gap):
    placed = spread(wanted, gap, 0, 100)
    assert all(b - a >= gap - 1e-6 for a, b in itertools.pairwise(placed))
    assert all(-1e-6 <= p <= 100 + 1e-6 for p in placed)
    if all(b - a >= gap for a, b in itertools.pairwise(wanted)):
        assert placed == pytest.approx(wanted)


def test_spread_centres_labels_that_wanted_one_place():
    assert spread([50, 50, 50], 4, 0, 100) == [46, 50, 54]
    assert spread([0, 0, 1], 4, 0, 100) == [0, 4, 8]
    assert spread([99, 100], 4, 0, 100) == [96, 100]


def luminance(colour):
    channels = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(colour)
    ]
    return float(np.dot([0.2126, 0.7152, 0.0722], channels))


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_text_and_curves_stand_out_from_the_paper(theme):
    """Contrast by WCAG 2: 4.5 for text, 3 for curves and their labels."""

    def contrast(colour):
        pair = sorted((luminance(colour), luminance(theme.paper)))
        return (pair[1] + 0.05) / (pair[0] + 0.05)

    assert min(map(contrast, (theme.ink, theme.muted))) >= 4.5
    assert min(map(contrast, (theme.accent, *theme.colours))) >= 3


#: Machado, Oliveira, Fernandes 2009, "A physiologically-based model for simulation of color vision
#: deficiency", severity 1, on linear RGB.
DEFICIENCIES = {
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize("kind", DEFICIENCIES)
def test_curves_differ_for_the_colour_blind(theme, kind):
    """The first five; later ones are told apart by marker and label as well."""
    linear = np.array([mpl.colors.to_rgb(c) for c in theme.colours[:5]]) ** 2.2
    seen = np.clip(linear @ np.array(DEFICIENCIES[kind]).T, 0, 1) ** (1 / 2.2)
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
    assert min(distances) > 0.12


def test_many_curves_have_a_colour_each():
    assert len(set(curve_colours(LIGHT, 22))) == 22
    assert curve_colours(DARK, 3) == list(DARK.colours[:3])


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize("layers", [LAYERS, [f"layer{i}.0.conv1.weight" for i in range(14)]])
def test_labels_neither_overlap_nor_leave_the_figure(theme, layers):
    figure = draw(curves(layers), 99.0, theme)
    figure.draw_without_rendering()
    for axes in figure.axes:
        texts = [a for a in axes.texts if isinstance(a, Annotation)]
        assert len(texts) == len(layers) + 1  # and the dense line's
        boxes = [mpl.text.Text.get_window_extent(text) for text in texts]
        assert not [1 for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]
        assert all(box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1 for box in boxes)
        others = [other.get_window_extent() for other in figure.axes if other is not axes]
        assert not [1 for box in boxes for other in others if box.overlaps(other)]


def test_a_panel_a_length_of_retraining_a_curve_a_layer_and_a_line_for_dense():
    figure = draw(curves(LAYERS), 99.5, LIGHT)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["no retraining", "3 epochs of retraining"]
    for axes in figure.axes:
        *plain, network, dense = sorted(
            axes.lines, key=lambda line: (len(line.get_xdata()) == 2, line.get_linewidth())
        )
        assert len(plain) == 5
        assert network.get_color() == LIGHT.ink
        # Error on a logarithmic scale: 0.5 % is at 0.3.
        assert dense.get_ydata()[0] == pytest.approx(0.30103)
        assert network.get_ydata() == pytest.approx([0, -0.30103, -1])
        # Weights left likewise: 50 %, 10 %, 2 %.
        assert network.get_xdata() == pytest.approx([0.30103, 1, 1.69897])


def test_bits_run_from_many_to_few():
    figure = draw(curves(LAYERS[:2], epochs=(0,), xs=(6.0, 4.0, 2.0)), 99.0, LIGHT)
    figure.draw_without_rendering()
    [axes] = figure.axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["6", "4", "2"]
    assert axes.get_xlabel() == "bits a weight"


def test_a_network_that_makes_no_mistake_can_be_drawn():
    figure = draw(curves(LAYERS[:1], end=100.0), 100.0, LIGHT)
    low, high = figure.axes[0].get_ylim()
    assert np.isfinite([low, high]).all()
    assert low < high


def test_a_figure_is_the_same_bytes_each_time_as_png_and_svg(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save_figure(draw(curves(LAYERS), 99.0, DARK), tmp_path / folder / "pruning")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["pruning.png", "pruning.svg"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert re.search(r"<svg [^>]*viewBox", (tmp_path / "a" / "pruning.svg").read_text())


def test_histograms_count_what_is_left():
    rng = np.random.default_rng(0)
    before = {"fc1.weight": rng.normal(size=(30, 40)), "fc1.bias": np.ones(30)}
    after = {"fc1.weight": before["fc1.weight"] * (abs(before["fc1.weight"]) > 1), "fc1.bias": np.ones(30)}
    left = int((after["fc1.weight"] != 0).sum())
    [axes] = draw_histograms(before, after, LIGHT).axes
    assert axes.get_title(loc="left") == f"fc1: {left} of 1,200 left"
