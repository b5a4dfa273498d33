"""What each way to prune does to the weights of LeNet-300-100 and LeNet-5."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch

import featherweight as fw
from featherweight.analysis.plots import Theme, curve_colours, new_figure
from featherweight.pruning import IMPORTANCES, Schedule, per_bit
from featherweight.pruning.importance import L1Gate, L2Gate
from panels import bars, captions, filters, histogram, legend, pixel_map, plain_image, shades, weights_kept

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from networks import Networks

    Picture = Callable[[Theme], Figure]

FC1, CONV1 = "fc1.weight", "conv1.weight"
SPARSITY = 0.9


def magnitude(networks: Networks) -> Picture:
    """The smallest of fc1 go."""
    return _one_layer(networks, "magnitude", "magnitude: fc1, 90 % pruned")


def nisp(networks: Networks) -> Picture:
    """Scores that come back from the last hidden layer."""
    return _one_layer(networks, "nisp", "nisp: fc1, 90 % pruned")


def _one_layer(networks: Networks, importance: str, title: str) -> Picture:
    weights = networks.weights("lenet300", FC1)
    kept = networks.kept("lenet300", FC1, importance=importance, sparsity=SPARSITY)

    def draw(theme: Theme) -> Figure:
        figure, (left, right) = new_figure(theme, 2, columns=2)
        weights_kept(left, theme, weights, kept, title)
        pixel_map(right, theme, kept, "weights left of each pixel")
        return figure

    return draw


def norms(networks: Networks) -> Picture:
    """Whole filters go by their norm."""
    weights = networks.weights("lenet5", CONV1)
    kept = networks.kept("lenet5", CONV1, importance="l1norm", granularity="filter", sparsity=0.5)
    alive = kept.reshape(kept.shape[0], -1).any(axis=1)
    sums = np.abs(weights).reshape(weights.shape[0], -1).sum(axis=1)
    return _filters(weights, alive, sums, "l1norm: half of conv1's filters go", "L1 norm")


def sss(networks: Networks) -> Picture:
    """Factors of filters, some of them exactly 0."""
    weights = networks.weights("lenet5", CONV1)
    factors = networks.scores("lenet5", CONV1, IMPORTANCES["sss"](penalty=0.02), "filter").ravel()
    return _filters(weights, factors > 0, factors, "sss: factors of conv1's filters", "abs(λ)")


def _filters(weights: np.ndarray, alive: np.ndarray, values: np.ndarray, title: str, y: str) -> Picture:
    def draw(theme: Theme) -> Figure:
        figure, (left, right) = new_figure(theme, 2, columns=2)
        bars(left, theme, values, alive, title, y)
        filters(right, theme, weights, alive, "the filters; faint ones go")
        return figure

    return draw


def taylor(networks: Networks) -> Picture:
    """Large weights can go, and small ones stay."""
    weights = networks.weights("lenet300", FC1)
    names = ("taylor1", "taylor2", "taylor12")
    kept = {n: networks.kept("lenet300", FC1, importance=n, sparsity=SPARSITY) for n in names}

    def draw(theme: Theme) -> Figure:
        figure, panels = new_figure(theme, 3, columns=3, width=3.9)
        for axes, (name, mask) in zip(panels, kept.items(), strict=True):
            weights_kept(axes, theme, weights, mask, f"{name}: fc1, 90 % pruned")
        return figure

    return draw


def gates(networks: Networks) -> Picture:
    """Where the penalties take the factors."""
    weights = networks.weights("lenet300", FC1)
    factors = {
        "l1gate": networks.scores("lenet300", FC1, L1Gate()),
        "l2gate": networks.scores("lenet300", FC1, L2Gate()),
    }
    cut = np.quantile(factors["l1gate"], SPARSITY)

    def draw(theme: Theme) -> Figure:
        figure, (left, right) = new_figure(theme, 2, columns=2)
        edges = np.linspace(0, max(float(f.max()) for f in factors.values()), 80)
        for (name, values), colour in zip(factors.items(), theme.colours, strict=False):
            left.hist(values.ravel(), edges, histtype="step", color=colour, linewidth=1.6, label=name)
        left.set_yscale("log")
        captions(left, theme, "factors of fc1's weights after training", "abs(c), 1 at first", "how many")
        legend(left, theme)
        weights_kept(right, theme, weights, factors["l1gate"] > cut, "l1gate: fc1, 90 % pruned")
        return figure

    return draw


def empirical(networks: Networks) -> Picture:
    """The measured change of the loss beside the weight."""
    weights = networks.weights("lenet5", CONV1).ravel()
    scores = networks.scores("lenet5", CONV1, IMPORTANCES["empirical"](samples=128, limit=0)).ravel()
    kept = scores > np.quantile(scores, 0.7)

    def draw(theme: Theme) -> Figure:
        figure, (axes,) = new_figure(theme, 1, columns=1, width=6.6)
        floor = max(float(scores.max()) * 1e-6, 1e-12)
        for mask, colour, label in ((~kept, theme.muted, "70 % go"), (kept, theme.accent, "30 % stay")):
            axes.plot(weights[mask], np.maximum(scores[mask], floor), ".", color=colour, label=label)
        axes.set_yscale("log")
        captions(
            axes,
            theme,
            "empirical: each of conv1's 500 weights taken out alone",
            "weight",
            "abs(change of the loss)",
        )
        legend(axes, theme, loc="lower right")
        return figure

    return draw


def schedules(_: Networks) -> Picture:
    """Sparsity over epochs."""
    kinds = {
        "one_shot": (Schedule("one_shot", start_epoch=1), 0.9),
        "iterative": (Schedule("iterative", prune_every=1, target_sparsity=0.9), 0.4),
        "stages": (Schedule("stages", prune_every=3), (0.5, 0.8, 0.9)),
        "cubic": (Schedule("cubic", epochs=9), 0.9),
    }
    epochs = np.linspace(0, 10, 401)

    def draw(theme: Theme) -> Figure:
        figure, (axes,) = new_figure(theme, 1, columns=1, width=6.6)
        for colour, (name, (schedule, amount)) in zip(curve_colours(theme, 4), kinds.items(), strict=True):
            grown = [100 * schedule.sparsity_at(epoch, amount) for epoch in epochs]
            axes.plot(epochs, grown, color=colour, linewidth=2, label=name)
        captions(axes, theme, "four schedules on their way to 90 %", "epoch", "pruned, %")
        legend(axes, theme, loc="lower right")
        return figure

    return draw


def surgery(networks: Networks) -> Picture:
    """The band in which the mask stays as it is."""
    weights = networks.weights("lenet300", FC1).ravel()
    sizes = np.abs(weights)
    threshold = sizes.mean() + 1.5 * sizes.std()

    def draw(theme: Theme) -> Figure:
        figure, (axes,) = new_figure(theme, 1, columns=1, width=6.6)
        histogram(axes, theme, weights, "surgery: fc1 with c_rate 1.5")
        for side in (-1, 1):
            band = sorted((0.9 * side * threshold, 1.1 * side * threshold))
            axes.axvspan(*band, color=theme.accent, alpha=0.35, linewidth=0)
        pruned, stays = (sizes <= 0.9 * threshold).mean(), (sizes > 1.1 * threshold).mean()
        text = f"pruned at first: {100 * pruned:.1f} %   kept: {100 * stays:.1f} %   in between: as it was"
        axes.text(0.02, 0.95, text, transform=axes.transAxes, color=theme.ink, fontsize=9.5)
        axes.set_ylim(top=axes.get_ylim()[1] * 6)
        return figure

    return draw


def rate(networks: Networks) -> Picture:
    """What is left gathers in rows and columns."""
    weights = torch.from_numpy(networks.weights("lenet300", FC1))
    masks = {}
    for name, strength in (("by magnitude", 0.0), ("by magnitude and rate", 1.0)):
        mask = torch.ones_like(weights, dtype=torch.bool)
        for sparsity in 1 - 0.03 ** (np.arange(1, 31) / 30):
            scores = per_bit(weights.abs(), mask, strength).masked_fill(~mask, -1)
            mask = scores > scores.flatten().kthvalue(int(sparsity * weights.numel())).values
        masks[name] = mask.numpy()

    def draw(theme: Theme) -> Figure:
        figure, panels = new_figure(theme, 2, columns=2, height=2.7)
        for axes, (name, mask) in zip(panels, masks.items(), strict=True):
            axes.imshow(mask, cmap=shades(theme), aspect="auto", interpolation="nearest")
            full = (mask.any(axis=1).sum(), mask.any(axis=0).sum())
            plain_image(axes, theme, f"{name}: {full[0]} rows, {full[1]} columns in use")
        return figure

    return draw


def channels(networks: Networks) -> Picture:
    """Accuracy without any retraining, over the share of conv2's channels that is left."""
    shares = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9)
    found = {}
    for method in ("greedy", "lasso", "l1norm", "random"):
        found[method] = []
        for share in shares:
            model = copy.deepcopy(networks.lenet5)
            if share:
                fw.prune_channels(model, {"conv2": share}, data=networks.batches, method=method)
            found[method].append(networks.accuracy(model))

    def draw(theme: Theme) -> Figure:
        figure, (axes,) = new_figure(theme, 1, columns=1, width=6.6)
        for colour, marker, (name, values) in zip(
            curve_colours(theme, 4), "osD^", found.items(), strict=True
        ):
            axes.plot([100 * s for s in shares], values, marker=marker, color=colour, label=name)
        captions(
            axes,
            theme,
            "channels out of LeNet-5's conv2, least squares, no retraining",
            "channels removed, %",
            "test accuracy, %",
        )
        legend(axes, theme, loc="lower left")
        return figure

    return draw
