"""Draw the README's picture from the directory of a run: ``python docs/make_pictures.py runs/NAME``.

Left, what each step leaves of the network's bytes; right, the weights of its largest layer before and
after, with the values that they share.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from safetensors.torch import load_file

import featherweight as fw
from featherweight.analysis.sizes import measure_file
from featherweight.fileformat import FileReader

INK, MUTED, ACCENT = "#1b1f24", "#8a929c", "#0b6e99"


def main() -> None:
    """Draw to ``docs/images/NAME.png``."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("run", type=Path, help="directory that featherweight run made")
    options.add_argument("-o", "--output", type=Path)
    args = options.parse_args()
    name = next(args.run.glob("*.fwt")).stem
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    draw_sizes(left, step_sizes(args.run, name))
    draw_weights(right, args.run)
    path = args.output or Path(__file__).parent / "images" / f"{name}.png"
    figure.savefig(path, dpi=130)


def step_sizes(run: Path, name: str) -> dict[str, int]:
    """Bytes after each step."""
    with FileReader(run / f"{name}.fwt") as reader:
        sizes = measure_file(reader)
    with tempfile.TemporaryDirectory() as folder:
        pruned = fw.save_file(load_file(run / "prune.safetensors"), Path(folder) / "pruned.fwt")
        weights = fw.load_file(run / f"{name}.fwt")
        shared = fw.save_file(weights, Path(folder) / "shared.fwt", coder="fixed")
        huffman = fw.save_file(weights, Path(folder) / "huffman.fwt", coder="huffman")
    return {
        "dense": sizes.dense_bytes,
        "pruned": pruned,
        "shared": shared,
        "Huffman-coded": huffman,
        "context-coded": sizes.file_bytes,
    }


def draw_sizes(axes: Axes, sizes: dict[str, int]) -> None:
    """One bar a step, labelled with its bytes and ratio."""
    dense = next(iter(sizes.values()))
    rows = np.arange(len(sizes))[::-1]
    axes.barh(rows, list(sizes.values()), color=[*[MUTED] * (len(sizes) - 1), ACCENT], height=0.6)
    for row, (_, size) in zip(rows, sizes.items(), strict=True):
        ratio = "" if size == dense else f"   {dense / size:.0f}× smaller"
        axes.text(size * 1.15, row, f"{size / 1000:,.1f} kB{ratio}", va="center", color=INK)
    axes.set_xscale("log")
    axes.set_xlim(min(sizes.values()) / 4, dense * 12)
    axes.set_yticks(rows, list(sizes))
    axes.set_title("What each step leaves (log scale)", loc="left", color=INK)
    axes.tick_params(length=0)
    axes.xaxis.set_visible(False)
    for side in axes.spines.values():
        side.set_visible(False)


def draw_weights(axes: Axes, run: Path) -> None:
    """The largest layer's weights: dense as a curve, shared values as stems."""
    dense, shared = load_file(run / "fit.safetensors"), load_file(run / "share.safetensors")
    name = max(dense, key=lambda n: dense[n].numel())
    before, after = dense[name].numpy().reshape(-1), shared[name].numpy().reshape(-1)
    values, counts = np.unique(after[after != 0], return_counts=True)
    limit = 1.15 * np.abs(values).max()
    dense_label = f"dense: {before.size:,} weights"
    axes.hist(before, bins=120, range=(-limit, limit), color="#d5dae0", label=dense_label)
    axes.vlines(values, 1, counts, color=ACCENT, linewidth=3)
    shared_label = f"shared: {counts.sum():,} weights, {len(values)} values"
    axes.plot(values, counts, "o", color=ACCENT, label=shared_label)
    axes.set_yscale("log")
    axes.set_ylim(1, before.size)
    axes.set_xlim(-limit, limit)
    axes.set_title(f"{name}, before and after", loc="left", color=INK)
    axes.set_xlabel("weight")
    axes.set_ylabel("how many (log scale)")
    axes.legend(frameon=False, loc="upper right")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


if __name__ == "__main__":
    main()
