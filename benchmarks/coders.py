"""Speed of the coders of index arrays, and their bits against the zero-order entropy, on one core.

Run ``python benchmarks/coders.py [--json PATH] [--quick]``.

(d) a layer of 9216 x 4096 weights, 9 % of them nonzero, with 15 shared values (4 bits with zero);
(e) 32 Mi symbols of a Gaussian discretised to 4 steps a standard deviation.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["NUMBA_NUM_THREADS"] = "1"  # before Numba is imported

import numpy as np

from featherweight.coding import CODERS, entropy_bits, histogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_SEED = 0
_REPEATS = 3


def sparse_layer(shape: tuple[int, int]) -> tuple[NDArray[np.uint8], int]:
    """A pruned layer: 9 % of the indices are nonzero, in a bell around zero."""
    generator = np.random.default_rng(_SEED)
    kept = generator.random(shape, np.float32) < 0.09
    steps = np.rint(generator.normal(scale=3.0, size=int(kept.sum()))).clip(-7, 7).astype(np.int8)
    indices = np.zeros(shape, np.uint8)
    indices[kept] = np.where(steps < 0, -steps, steps + 8)
    return indices, 16


def discretised_gaussian(count: int) -> tuple[NDArray[np.uint8], int]:
    """Quantized activations or weights without pruning."""
    generator = np.random.default_rng(_SEED)
    steps = np.rint(generator.standard_normal(count, np.float32) * 4)
    return (steps.clip(-32, 31) + 32).astype(np.uint8), 64


def measure(name: str, indices: NDArray[np.uint8], codebook_size: int) -> dict[str, Any]:
    """Time one coder on one array; the first call, which compiles, is not counted."""
    coder = CODERS[name]
    payload = coder.encode(indices, codebook_size)
    data = np.frombuffer(payload, np.uint8)
    decoded = coder.decode(data, indices.shape, codebook_size)
    assert np.array_equal(decoded, indices)
    entropy = entropy_bits(histogram(indices, codebook_size))
    return {
        "coder": name,
        "symbols": indices.size,
        "stored": coder.describe(data, indices.shape, codebook_size).stored,
        "bytes": len(payload),
        "bits_per_symbol": 8 * len(payload) / indices.size,
        "entropy_bits_per_symbol": entropy / indices.size,
        "encode_symbols_per_s": indices.size / _best_seconds(lambda: coder.encode(indices, codebook_size)),
        "decode_symbols_per_s": indices.size
        / _best_seconds(lambda: coder.decode(data, indices.shape, codebook_size)),
    }


def _best_seconds(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print one aligned line a measurement."""
    print(f"{'input':<22}{'coder':<10}{'bits':>8}{'entropy':>9}{'encode M/s':>12}{'decode M/s':>12}")
    for row in rows:
        print(
            f"{row['input']:<22}{row['coder']:<10}{row['bits_per_symbol']:>8.4f}"
            f"{row['entropy_bits_per_symbol']:>9.4f}{row['encode_symbols_per_s'] / 1e6:>12.0f}"
            f"{row['decode_symbols_per_s'] / 1e6:>12.0f}"
        )


def main() -> None:
    """Measure every coder on every input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the measurements here")
    parser.add_argument("--quick", action="store_true", help="a sixteenth of the symbols")
    arguments = parser.parse_args()
    scale = 16 if arguments.quick else 1
    inputs = {
        "sparse layer (d)": sparse_layer((9216 // scale, 4096)),
        "Gaussian (e)": discretised_gaussian((1 << 25) // scale),
    }
    rows = [
        {"input": label} | measure(name, indices, size)
        for label, (indices, size) in inputs.items()
        for name in CODERS
    ]
    print_table(rows)
    if arguments.json:
        machine = {"machine": platform.machine(), "python": platform.python_version(), "threads": 1}
        arguments.json.write_text(json.dumps(machine | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
