"""What each way to quantize does to the weights of LeNet-300-100 and LeNet-5."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import cross_entropy

import featherweight as fw
from featherweight.analysis.plots import TEXT, Theme, curve_colours, new_figure
from featherweight.analysis.weights_error import weights_error
from featherweight.constraints import Incremental
from featherweight.quantization import (
    INITIALIZATIONS,
    fisher_diagonal,
    quantize_ecsq,
    quantize_fixed_point,
    quantize_kmeans,
    quantize_optimal,
    quantize_ternary,
    quantize_uniform,
    quantize_weighted,
    round_to_outputs,
)
from panels import captions, histogram, legend, levels

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from featherweight.tensors import QuantizedTensor
    from networks import Networks

    Picture = Callable[[Theme], Figure]

FC1 = "fc1.weight"
BITS = 3


def _pruned(networks: Networks) -> NDArray[np.float32]:
    return networks.weights("lenet300", FC1) * networks.kept("lenet300", FC1, sparsity=0.9)


def _values(quantized: QuantizedTensor) -> NDArray[np.float64]:
    used = np.unique(quantized.indices)
    return np.asarray(quantized.codebook, np.float64)[used]


def _dense(quantized: QuantizedTensor) -> NDArray[np.float64]:
    return np.asarray(quantized.codebook, np.float64)[quantized.indices]


def _sqnr_db(weights: NDArray[np.float32], quantized: QuantizedTensor) -> float | None:
    return weights_error(weights, _dense(quantized)).sqnr_db


def kmeans(networks: Networks) -> Picture:
    """Where each initialization ends."""
    weights = _pruned(networks)
    found = {init: quantize_kmeans(weights, BITS, init=init) for init in INITIALIZATIONS}
    notes = [f"{len(_values(q))} values, {_sqnr_db(weights, q):.1f} dB" for q in found.values()]

    def draw(theme: Theme) -> Figure:
        figure, (left, right) = new_figure(theme, 2, columns=2, width=5.0)
        _shared(left, theme, weights, found["linear"], "fc1, 90 % pruned, 3 bits from linear")
        levels(right, theme, {n: _values(q) for n, q in found.items()}, notes, "where each init ends")
        return figure

    return draw


def _shared(axes: Axes, theme: Theme, weights: NDArray[np.float32], q: QuantizedTensor, title: str) -> None:
    histogram(axes, theme, weights[weights != 0], title)
    values, counts = np.unique(_dense(q)[weights != 0], return_counts=True)
    axes.vlines(values, 1, counts, color=theme.accent, linewidth=2.5)
    axes.plot(values, counts, "o", color=theme.accent)
    axes.set_ylim(bottom=0.8)


def optimal(networks: Networks) -> Picture:
    """Error over bits, beside Lloyd's from two starts."""
    weights = _pruned(networks)
    bits = range(2, 7)
    ways = {
        "optimal": lambda b: quantize_optimal(weights, b),
        "density": lambda b: quantize_kmeans(weights, b, init="density"),
        "linear": lambda b: quantize_kmeans(weights, b, init="linear"),
        "uniform": lambda b: quantize_uniform(weights, b),
    }
    curves = {name: [_sqnr_db(weights, way(b)) for b in bits] for name, way in ways.items()}

    def draw(theme: Theme) -> Figure:
        figure, (axes,) = new_figure(theme, 1, columns=1, width=6.6)
        for colour, marker, (name, values) in zip(
            curve_colours(theme, 4), "osD^", curves.items(), strict=True
        ):
            axes.plot(list(bits), values, marker=marker, color=colour, label=name)
        axes.set_xticks(list(bits))
        captions(axes, theme, "fc1, 90 % pruned: signal to noise of the shared weights", "bits", "SQNR, dB")
        legend(axes, theme, loc="upper left")
        return figure

    return draw


def weighted(networks: Networks) -> Picture:
    """Levels go to where errors cost."""
    weights = networks.weights("lenet300", FC1)
    batches = [batch for _, batch in zip(range(6), networks.batches, strict=False)]
    h = fisher_diagonal(networks.lenet300, batches, cross_entropy, [FC1])[FC1].numpy()
    h = h + 0.1 * h.mean()
    found = {
        "plain": quantize_kmeans(weights, BITS, init="optimal", fix_zeros=False),
        "Fisher": quantize_weighted(weights, h, BITS, init="optimal", fix_zeros=False),
    }
    cost = [float((h * (weights - _dense(q)) ** 2).sum()) for q in found.values()]
    notes = [f"costs {100 * c / cost[0]:.0f} %" for c in cost]

    def draw(theme: Theme) -> Figure:
        figure, (left, right) = new_figure(theme, 2, columns=2, width=5.0)
        edges = np.linspace(weights.min(), weights.max(), 60)
        means = [h[(weights >= a) & (weights < b)].mean() for a, b in pairwise(edges)]
        left.plot((edges[1:] + edges[:-1]) / 2, means, color=theme.accent, linewidth=2)
        left.set_yscale("log")
        captions(left, theme, "mean h of fc1's weights of a size", "weight", "h")
        levels(right, theme, {n: _values(q) for n, q in found.items()}, notes, "8 values, and Σ h (w − c)²")
        return figure

    return draw


def _entropy(q: QuantizedTensor) -> float:
    share = np.bincount(q.indices.ravel()) / q.indices.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


def ecsq(networks: Networks) -> Picture:
    """Bits against error."""
    weights = _pruned(networks)
    plain = [quantize_kmeans(weights, b, init="optimal", fix_zeros=True) for b in (2, 3, 4, 5)]
    constrained = [
        quantize_ecsq(weights, 5, lagrangian, init="optimal", rate="entropy")
        for lagrangian in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
    ]
    chosen = quantize_ecsq(weights, 3, 0.05, init="optimal", rate="entropy")

    def draw(theme: Theme) -> Figure:
        figure, (left, right) = new_figure(theme, 2, columns=2, width=5.0)
        before, after = (100 * (w == 0).mean() for w in (weights, _dense(chosen)))
        _shared(left, theme, weights, chosen, f"fc1, λ 0.05: from {before:.1f} to {after:.1f} % zeros")
        for name, found, colour in (("k-means", plain, theme.muted), ("ecsq", constrained, theme.accent)):
            points = [(_entropy(q), _sqnr_db(weights, q)) for q in found]
            right.plot(*zip(*points, strict=True), "o-", color=colour, label=name)
        captions(right, theme, "the same error in fewer bits", "entropy, bits a weight", "SQNR, dB")
        legend(right, theme, loc="lower right")
        return figure

    return draw


def uniform(networks: Networks) -> Picture:
    """Steps of equal width."""
    weights = networks.weights("lenet300", FC1)
    ways = {"uniform": quantize_uniform(weights, 4, False), "fixed_point": quantize_fixed_point(weights, 4)}

    def draw(theme: Theme) -> Figure:
        figure, panels = new_figure(theme, 2, columns=2)
        for axes, (name, q) in zip(panels, ways.items(), strict=True):
            gap = np.diff(np.sort(_values(q))).min()
            _shared(axes, theme, weights, q, f"{name}: fc1 in 4 bits, step {gap:.4f}")
        return figure

    return draw


def ttq(networks: Networks) -> Picture:
    """Two values beside zero."""
    weights = networks.weights("lenet300", "fc2.weight")
    q = quantize_ternary(weights, 0.2)
    delta = 0.2 * float(np.abs(weights).max())

    def draw(theme: Theme) -> Figure:
        figure, (axes,) = new_figure(theme, 1, columns=1, width=6.6)
        _shared(axes, theme, weights, q, "ttq: fc2 at first, threshold 0.2")
        for side in (-delta, delta):
            axes.axvline(side, color=theme.ink, linestyle="--", linewidth=1)
        axes.text(delta, axes.get_ylim()[1] * 0.5, "  Δ", color=theme.ink, fontsize=TEXT)
        return figure

    return draw


def incremental(networks: Networks) -> Picture:
    """The largest weights first."""
    weights = torch.from_numpy(_pruned(networks))
    codebook = torch.from_numpy(quantize_optimal(weights.numpy(), BITS).codebook)
    stages = {}
    for fraction in (0.5, 0.9):
        latent = Incremental(weights.clone(), keep=weights != 0, codebook=codebook)
        latent.fix(fraction)
        stages[fraction] = latent

    def draw(theme: Theme) -> Figure:
        figure, panels = new_figure(theme, 2, columns=2, width=5.0)
        for axes, (fraction, latent) in zip(panels, stages.items(), strict=True):
            free = weights[(weights != 0) & ~latent.fixed].numpy()
            histogram(axes, theme, free, f"fc1, 3 bits: {100 * fraction:.0f} % have their value")
            values, counts = np.unique(latent.shadow[latent.fixed].numpy(), return_counts=True)
            axes.vlines(values, 1, counts, color=theme.accent, linewidth=2.5)
            axes.plot(values, counts, "o", color=theme.accent)
            axes.set_ylim(bottom=0.8)
        return figure

    return draw


def output_aware(networks: Networks) -> Picture:
    """Errors of a kernel that cancel."""
    weights = networks.weights("lenet5", "conv2.weight")
    nearest = quantize_optimal(weights, BITS, fix_zeros=False)
    rounded = round_to_outputs(weights, nearest, zeros_stay=False)
    sums = {
        name: (weights - _dense(q)).reshape(-1, weights[0, 0].size).sum(axis=1)
        for name, q in (("nearest", nearest), ("rounding: outputs", rounded))
    }
    noise = [_sqnr_db(weights, q) for q in (nearest, rounded)]

    def draw(theme: Theme) -> Figure:
        figure, (axes,) = new_figure(theme, 1, columns=1, width=6.6)
        limit = max(float(np.abs(s).max()) for s in sums.values())
        for (name, values), colour, db in zip(sums.items(), (theme.muted, theme.accent), noise, strict=True):
            label = f"{name}: weights at {db:.1f} dB"
            axes.hist(values, np.linspace(-limit, limit, 60), color=colour, alpha=0.75, label=label)
        captions(
            axes,
            theme,
            "conv2 in 3 bits: errors summed over each kernel",
            "sum of a kernel's errors",
            "kernels",
        )
        legend(axes, theme)
        return figure

    return draw


def budget(networks: Networks) -> Picture:
    """Which layer gets how many bits."""
    rule = fw.Rule("*.weight", quantize=fw.Quantize(bits="auto"))
    state = networks.lenet5.state_dict()
    names = [name for name in state if name.endswith("weight")]
    chosen = {}
    for mean in (2.5, 3.5, 5.0):
        recipe = fw.choose_bits(state, fw.Recipe((rule,), budget=fw.Budget(mean_bits=mean)))
        chosen[mean] = [recipe.bits[name] for name in names]

    def draw(theme: Theme) -> Figure:
        figure, (axes,) = new_figure(theme, 1, columns=1, width=6.6)
        width = 0.26
        for i, (colour, (mean, bits)) in enumerate(zip(curve_colours(theme, 3), chosen.items(), strict=True)):
            places = np.arange(len(names)) + (i - 1) * width
            axes.bar(places, bits, width * 0.92, color=colour, label=f"mean_bits: {mean:g}")
        sizes = [f"{name.removesuffix('.weight')}\n{state[name].numel():,}" for name in names]
        axes.set_xticks(np.arange(len(names)), sizes)
        captions(axes, theme, "bits chosen for LeNet-5's layers", "", "bits")
        legend(axes, theme, ncols=3, loc="upper right")
        axes.set_ylim(top=axes.get_ylim()[1] * 1.2)
        return figure

    return draw
