"""K-means weight sharing of AlexNet's largest layer, and the same k-means side by side with scikit-learn's.

First 37,748,736 normally distributed float32 weights (fc6, 4096 × 9216) are shared among 32 centroids, in a
process of its own that tells how far its resident memory rose above what it was with the weights loaded.
Then fewer weights, from the same start and with as many Lloyd steps on both sides, in turn. Exits with 1
where a limit is passed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
import warnings
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.cluster import KMeans

from common import alternate, parser, write_json
from featherweight.analysis.text import times
from featherweight.quantization import INITIALIZATIONS, kmeans_codebook, quantize_kmeans
from featherweight.quantization.sorted_weights import SortedWeights

FC6 = (4096, 9216)
CENTROIDS = 32
BITS = 5
MOST_SECONDS = 3.0
MOST_MEMORY = 3.0  # times the weights, those themselves included
LEAST_RATIO = 20.0
STEPS = 100


def _weights(shape: tuple[int, ...]) -> Any:
    # In place: the memory's high-water mark must not hold a second copy that the measurement could use up.
    weights = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    weights *= np.float32(0.01)
    return weights


def share_fc6(init: str, rounds: int) -> dict[str, Any]:
    """Seconds to share all of fc6, and the memory it takes."""
    quantize_kmeans(_weights((512, 1024)), BITS, init, fix_zeros=False)  # compile
    weights = _weights(FC6)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds, processor, codebook = [], [], 0
    for _ in range(rounds):
        began, worked = time.perf_counter(), time.process_time()
        codebook = quantize_kmeans(weights, BITS, init, fix_zeros=False).codebook.size
        seconds.append(time.perf_counter() - began)
        processor.append(time.process_time() - worked)
    rose = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - held
    return {
        "init": init,
        "weights": weights.size,
        "centroids": codebook,
        "seconds": statistics.median(seconds),
        "processor_seconds": statistics.median(processor),
        "memory_over_weights": 1 + rose / weights.nbytes,
    }


def against_scikit_learn(size: int, rounds: int) -> dict[str, Any]:
    """Seconds of both sides for the same k-means from the same start."""
    weights = _weights((size,))
    start = INITIALIZATIONS["linear"](SortedWeights.of(weights), CENTROIDS, np.random.default_rng(0))
    column = weights.reshape(-1, 1)
    found: dict[str, Any] = {}

    def ours() -> None:
        found["ours"] = kmeans_codebook(weights, CENTROIDS, "linear", max_steps=STEPS)

    def theirs() -> None:
        model = KMeans(
            CENTROIDS, init=start.reshape(-1, 1).astype(np.float32), n_init=1, max_iter=STEPS, tol=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found["theirs"] = np.sort(model.fit(column).cluster_centers_.reshape(-1))

    seconds = alternate({"featherweight": ours, "scikit-learn": theirs}, rounds, warmup=0)
    ours()
    return {
        "weights": size,
        "steps": STEPS,
        "featherweight_seconds": statistics.median(seconds["featherweight"]),
        "scikit_learn_seconds": statistics.median(seconds["scikit-learn"]),
        "ratio": statistics.median(
            b / a for a, b in zip(seconds["featherweight"], seconds["scikit-learn"], strict=True)
        ),
        "largest_difference": float(np.abs(found["ours"] - found["theirs"]).max()),
    }


def main() -> int:
    """Measure, print and judge."""
    options: argparse.ArgumentParser = parser(str(__doc__))
    options.set_defaults(rounds=3)
    options.add_argument(
        "--inits",
        nargs="+",
        choices=list(INITIALIZATIONS),
        default=["linear", "density", "k-means++", "optimal"],
    )
    options.add_argument("--size", type=int, default=1_000_000, help="weights for the side-by-side run")
    args = options.parse_args()
    fc6 = []
    for init in args.inits:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            fc6.append(pool.apply(share_fc6, (init, args.rounds)))
    beside = against_scikit_learn(args.size, args.rounds)
    table = Table("what", "weights", "seconds", "limit", "processor s", "memory / weights", "limit")
    for row in fc6:
        table.add_row(
            f"fc6, {row['init']}",
            f"{row['weights']:,}",
            f"{row['seconds']:.2f}",
            f"{MOST_SECONDS:.0f}",
            f"{row['processor_seconds']:.2f}",
            f"{row['memory_over_weights']:.2f}",
            f"{MOST_MEMORY:.0f}",
        )
    for side in ("featherweight", "scikit-learn"):
        seconds = beside[f"{side.replace('-', '_')}_seconds"]
        table.add_row(f"{STEPS} steps, {side}", f"{beside['weights']:,}", f"{seconds:.3f}", "", "", "", "")
    console = Console(width=110)
    console.print(table)
    console.print(
        f"scikit-learn takes {times(beside['ratio'])} as long (at least {LEAST_RATIO:.0f}× asked); "
        f"centroids differ by at most {beside['largest_difference']:.1e}"
    )
    good = beside["ratio"] >= LEAST_RATIO and all(
        row["seconds"] <= MOST_SECONDS and row["memory_over_weights"] <= MOST_MEMORY for row in fc6
    )
    write_json(args.json, {"fc6": fc6, "beside_scikit_learn": beside, "passed": good})
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
