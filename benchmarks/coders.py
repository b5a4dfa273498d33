"""Our coders of index arrays beside those of others: bytes, and speed both ways, measured in one process.

Run ``make bench-coders``, or ``python benchmarks/coders.py [--quick] [--run RUN ...] [--coders NAME ...]
[--json PATH]``. The arrays are

(a) networks that ``featherweight run`` has pruned and shared: run directories or files given with ``--run``,
    else ``results/*.fwt``, else LeNet-300-100 and LeNet-5 trained here in short runs on bundled digits;
(b) ResNet-20, each convolution rounded to steps of a third of its standard deviation;
(c) the codes of ``compressed_SqueezeNet.net``;
(d) a layer of 9216 x 4096 weights, 9 % of them nonzero, 4 bits, independent draws;
(e) 32 Mi symbols of a discretised Gaussian.

The peers are DeepCABAC, constriction and zstandard where they are installed, and xz. All code the same
integers, in turn, round after round, and the median time of each counts; one that takes long is timed less
often. Bytes are those of all tensors together. What was decoded is compared with what went in.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coder_inputs import Input, all_inputs
from coder_peers import DEEPCABAC, Contender, contenders, size
from featherweight.coding import entropy_bits, histogram

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROUNDS = 5

#: Seconds of timings of one coder on one input, after which it is left out of further rounds.
_PATIENCE_SECONDS = 6.0


def entropy_bytes(given: Input) -> float:
    """Zero-order entropy of each tensor, summed."""
    return sum(entropy_bits(histogram(t.indices, t.codebook.size)) for t in given.tensors) / 8


class Timings:
    """Seconds that one contender has taken for one input, both ways, and its bytes."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.encode: list[float] = []
        self.decode: list[float] = []
        self.bytes = 0

    def is_out_of_patience(self) -> bool:
        """Whether it has had its share of time."""
        return sum(self.encode) + sum(self.decode) > _PATIENCE_SECONDS

    def run(self, given: Input) -> None:
        """Code all tensors and read them back, once."""
        start = time.perf_counter()
        coded = [self.contender.encode(tensor) for tensor in given.tensors]
        middle = time.perf_counter()
        decoded = [
            self.contender.decode(one, tensor) for one, tensor in zip(coded, given.tensors, strict=True)
        ]
        end = time.perf_counter()
        for indices, tensor in zip(decoded, given.tensors, strict=True):
            if not np.array_equal(indices, tensor.indices):
                raise AssertionError(f"{self.contender.name} does not give {given.label} back")
        self.encode.append(middle - start)
        self.decode.append(end - middle)
        self.bytes = sum(size(one) for one in coded)


def measure(given: Input, everyone: Sequence[Contender], rounds: int) -> list[dict[str, Any]]:
    """Time everyone in turn; a row for each."""
    timings = [Timings(contender) for contender in everyone]
    for _ in range(rounds):
        for timing in timings:
            if not timing.is_out_of_patience():
                timing.run(given)
    entropy = entropy_bytes(given)
    cabac = next((timing.bytes for timing in timings if timing.contender.name == DEEPCABAC), None)
    return [
        {
            "input": given.label,
            "source": given.source,
            "symbols": given.symbols,
            "tensors": len(given.tensors),
            "entropy_bytes": round(entropy),
            "coder": timing.contender.name,
            "cores": timing.contender.threads,
            "bytes": timing.bytes,
            "against_entropy": timing.bytes / entropy,
            "against_deepcabac": timing.bytes / cabac if cabac else None,
            "encode_symbols_per_s": given.symbols / statistics.median(timing.encode),
            "decode_symbols_per_s": given.symbols / statistics.median(timing.decode),
            "rounds": len(timing.encode),
        }
        for timing in timings
    ]


def warm_up(everyone: Sequence[Contender]) -> None:
    """Compile what is compiled at first use: indices of one byte and of two, dense and sparse, all lanes."""
    from coder_inputs import discretised_gaussian, quantize, sparse_layer

    wide = Input("", (quantize(np.arange(1 << 19, dtype=np.int32).reshape(512, 1024) % 300),), "")
    for given in (sparse_layer((512, 1024)), discretised_gaussian(1 << 19), wide):
        for contender in everyone:
            Timings(contender).run(given)


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print the table of one input, 100 columns at most."""
    first = rows[0]
    print(
        f"\n{first['input']}: {first['symbols']:,} symbols in {first['tensors']} tensors, "
        f"entropy {first['entropy_bytes']:,} bytes\n  from {first['source']}"
    )
    print(
        f"  {'coder':<14}{'cores':>5}{'bytes':>13}{'/ entropy':>11}{'/ DeepCABAC':>13}"
        f"{'encode M/s':>12}{'decode M/s':>12}{'rounds':>8}"
    )
    for row in rows:
        ratio = row["against_deepcabac"]
        print(
            f"  {row['coder']:<14}{row['cores']:>5}{row['bytes']:>13,}{row['against_entropy']:>11.4f}"
            f"{f'{ratio:.4f}' if ratio else '–':>13}{row['encode_symbols_per_s'] / 1e6:>12.2f}"
            f"{row['decode_symbols_per_s'] / 1e6:>12.2f}{row['rounds']:>8}"
        )


def machine() -> dict[str, Any]:
    """What the figures were measured on, and with which versions."""
    versions = {}
    for package in ("numpy", "numba", "nncodec", "constriction", "zstandard"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
    }


def arguments() -> argparse.Namespace:
    """The options given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--run", type=Path, nargs="*", default=[], help="run directories or .fwt files for (a)"
    )
    parser.add_argument("--data-root", help="the folder of data; FEATHERWEIGHT_DATA unless given")
    parser.add_argument("--json", type=Path, help="write the measurements here, too")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="timings of each coder, in turn")
    parser.add_argument("--quick", action="store_true", help="a round, short runs, small arrays")
    parser.add_argument("--coders", nargs="+", help="names of those to measure; all unless given")
    parser.add_argument("--only", default="abcde", help="letters of the inputs to measure; all unless given")
    return parser.parse_args()


def main() -> None:
    """Measure everyone on every input."""
    given = arguments()
    everyone, absent = contenders()
    if given.coders:
        known = list(dict.fromkeys(one.name for one in everyone))
        if unknown := set(given.coders) - set(known):
            sys.exit(f"no coder {', '.join(sorted(unknown))}; known: {', '.join(known)}")
        everyone = [one for one in everyone if one.name in given.coders]
    left_out = list(absent)
    for line in absent:
        print(line)
    if not given.quick:
        warm_up(everyone)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for one in all_inputs(given.only, given.run, given.data_root, given.quick, Path(scratch)):
            if isinstance(one, str):
                left_out.append(one)
                print(one)
                continue
            rows += measure(one, everyone, 1 if given.quick else given.rounds)
            print_rows([row for row in rows if row["input"] == one.label])
    if given.json:
        figures = {"machine": machine(), "left_out": left_out, "rows": rows}
        given.json.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
