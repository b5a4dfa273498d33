"""Entropy-constrained quantization beside k-means: bytes of the file at equal validation error.

A trained network's weights are quantized, without training after, by k-means in several numbers of bits and
by ``ecsq`` under several Lagrangians. Errors count alike on both sides (``--errors``): by what they change in
the layers' outputs, by the Fisher diagonal, or plainly. The coder is the same. Each k-means file that no
smaller one is as good as is then set against the smallest ``ecsq`` file measured whose error is no higher.
All is judged on the validation split; ``--test`` reads the test set once, for the pairs in the table.
``--plot STEM`` draws bytes against error.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import cross_entropy

import featherweight as fw
from auto_bits import Subject, errors, load
from common import parser, write_json
from featherweight.quantization.weighted import fisher_diagonal
from featherweight.sharing import importance_of, quantize

KMEANS, ECSQ = "k-means", "ecsq"


@dataclass(frozen=True)
class Measured:
    """One file.

    Attributes:
        method: ``k-means`` or ``ecsq``.
        bits: of its codebooks.
        setting: the initialization, or the Lagrangian.
        bytes: of the file.
        validation_error: percent.
        validation_loss: mean cross-entropy, nats.
        test_error: percent, where it was read.
    """

    method: str
    bits: int
    setting: str
    bytes: int
    validation_error: float
    validation_loss: float
    test_error: float | None = None

    def __str__(self) -> str:
        return f"{self.method}, {self.bits} bits, {self.setting}"


@dataclass(frozen=True)
class Pair:
    """A k-means file and the smallest of ``ecsq`` that is at least as good."""

    kmeans: Measured
    ecsq: Measured

    @property
    def saved_percent(self) -> float:
        """Of the k-means file's bytes."""
        return 100 * (1 - self.ecsq.bytes / self.kmeans.bytes)


def front(measured: list[Measured]) -> list[Measured]:
    """Those files that no smaller one, nor one of the same size, is as good as; smallest first."""
    best: list[Measured] = []
    for one in sorted(measured, key=lambda m: (m.bytes, m.validation_error)):
        if not best or one.validation_error < best[-1].validation_error:
            best.append(one)
    return best


def pairs(measured: list[Measured]) -> list[Pair]:
    """Every k-means file of the front with its counterpart, unless no ``ecsq`` file comes up to it."""
    found = []
    for one in front([m for m in measured if m.method == KMEANS]):
        good = [m for m in measured if m.method == ECSQ and m.validation_error <= one.validation_error]
        if good:
            found.append(Pair(one, min(good, key=lambda m: m.bytes)))
    return found


def main() -> int:
    """Measure, print, draw."""
    options = parser(__doc__)
    options.add_argument("recipe", type=Path, help="run file: the network and its data")
    options.add_argument("weights", type=Path, help="its weights, trained, pruned or not")
    options.add_argument("--kmeans-bits", type=int, nargs="+", default=[3, 4, 5])
    options.add_argument("--inits", nargs="+", default=["optimal", "density"], help="of k-means")
    options.add_argument("--ecsq-init", default="density", help="of the k-means that ecsq starts from")
    options.add_argument("--ecsq-bits", type=int, nargs="+", default=[5])
    options.add_argument(
        "--lagrangians", type=float, nargs="+", default=[0.01, 0.015, 0.02, 0.03, 0.05, 0.06, 0.08]
    )
    options.add_argument("--errors", choices=("outputs", "fisher", "plain"), default="outputs")
    options.add_argument("--images", type=int, default=10**9, help="validation images at most")
    options.add_argument("--coder", default="context")
    options.add_argument("--test", action="store_true", help="read the test set for the pairs")
    options.add_argument("--plot", type=Path, metavar="STEM", help="draw STEM-light.png and the like")
    args = options.parse_args()
    torch.set_num_threads(1)
    args.match = "*"
    subject = load(args)
    dense = errors(subject, subject.network, test=args.test)
    print(f"float: {dense}", flush=True)
    measured = measure_all(subject, args)
    found = pairs(measured)
    if args.test:
        found = [Pair(tested(subject, p.kmeans, args), tested(subject, p.ecsq, args)) for p in found]
    show(found)
    if args.plot is not None:
        draw(measured, dense["validation_error"], args.plot)
    rows = [{**asdict(pair), "saved_percent": pair.saved_percent} for pair in found]
    write_json(args.json, {"dense": dense, "measured": [asdict(m) for m in measured], "pairs": rows})
    return 0


def measure_all(subject: Subject, args: Any) -> list[Measured]:
    """Every setting of both methods."""
    settings = [(KMEANS, bits, init) for init in args.inits for bits in args.kmeans_bits]
    settings += [(ECSQ, bits, f"{one:g}") for bits in args.ecsq_bits for one in args.lagrangians]
    found = []
    for method, bits, setting in settings:
        with tempfile.TemporaryDirectory() as folder:
            network, size = compressed(subject, method, bits, setting, args, Path(folder))
        error = errors(subject, network, test=False)
        found.append(Measured(method, bits, setting, size, **error))
        print(f"{found[-1]}: {size:,} bytes, {error}", flush=True)
    return found


def tested(subject: Subject, one: Measured, args: Any) -> Measured:
    """The same with its error on the test set, straight from the file."""
    with tempfile.TemporaryDirectory() as folder:
        network, _ = compressed(subject, one.method, one.bits, one.setting, args, Path(folder))
    return replace(one, test_error=errors(subject, network, test=True)["test_error"])


def compressed(
    subject: Subject, method: str, bits: int, setting: str, args: Any, folder: Path
) -> tuple[torch.nn.Module, int]:
    """The network as its file gives it back, and the bytes of the file."""
    weights = {name: p for name, p in subject.network.named_parameters() if p.ndim > 1}
    how: dict[str, Any] = {"weights": "fisher"} if args.errors == "fisher" else {}
    if args.errors == "outputs":
        how = {"rounding": "outputs"}
    if method == KMEANS:
        spec = fw.Quantize("kmeans", bits, init=setting, fix_zeros=None, **how)
    else:
        spec = fw.Quantize("ecsq", bits, init=args.ecsq_init, lagrangian=float(setting), **how)
    importance, power = importance_of(spec, weights, fisher(subject, list(weights), args), None)
    tensors: dict[str, Any] = dict(subject.network.state_dict())
    for name, weight in weights.items():
        tensors[name] = quantize(name, weight, spec, importance.get(name), power)
    size = fw.save_file(tensors, folder / "model.fwt", coder=args.coder)
    return fw.load_model(subject.spec.model.create(), folder / "model.fwt"), size


def fisher(subject: Subject, names: list[str], args: Any) -> dict[str, torch.Tensor]:
    """The Fisher diagonal over the calibration images, computed once."""
    if args.errors != "fisher":
        return {}
    if id(subject) not in _diagonals:
        _diagonals[id(subject)] = fisher_diagonal(subject.network, subject.calibration, cross_entropy, names)
    return _diagonals[id(subject)]


_diagonals: dict[int, dict[str, torch.Tensor]] = {}


def show(found: list[Pair]) -> None:
    """Print the pairs."""
    table = Table("k-means", "bytes", "val error", "test", "ecsq", "bytes", "val error", "test", "saved")
    for pair in found:
        cells = []
        for one in (pair.kmeans, pair.ecsq):
            test = "" if one.test_error is None else f"{one.test_error:.2f} %"
            cells += [
                f"{one.bits} bits, {one.setting}",
                f"{one.bytes:,}",
                f"{one.validation_error:.2f} %",
                test,
            ]
        table.add_row(*cells, f"{pair.saved_percent:.1f} %")
    Console(width=120).print(table)


def draw(measured: list[Measured], dense: float, stem: Path) -> None:
    """Error over bytes of both methods' fronts, in both themes."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    from featherweight.analysis.plots import THEMES, End, label_axes, label_ends, new_figure, save_figure

    most = 4 * max(dense, 1.0)
    for theme in THEMES:
        figure, (axes,) = new_figure(theme, 1, columns=1, width=6.4)
        ends = []
        for method, colour, marker in ((KMEANS, theme.colours[1], "s"), (ECSQ, theme.colours[0], "o")):
            mine = [m for m in measured if m.method == method and m.validation_error <= most]
            best = front(mine)
            xs, ys = [m.bytes / 1000 for m in best], [m.validation_error for m in best]
            rest = [m for m in mine if m not in best]
            axes.plot(xs, ys, color=colour, marker=marker, markersize=5, linewidth=1.7)
            axes.scatter(
                [m.bytes / 1000 for m in rest],
                [m.validation_error for m in rest],
                color=colour,
                marker=marker,
                s=9,
                alpha=0.45,
                linewidths=0,
            )
            ends.append(End(xs[-1], ys[-1], method, colour, bold=method == ECSQ))
        axes.axhline(dense, color=theme.muted, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        label_axes(axes, theme, x="bytes of the file, thousands", y="validation error, %")
        ends.append(End(axes.get_xlim()[1], dense, f"float {dense:.2f} %", theme.muted))
        label_ends(figure, axes, ends)
        save_figure(figure, stem.with_name(f"{stem.name}-{theme.name}"))


if __name__ == "__main__":
    raise SystemExit(main())
