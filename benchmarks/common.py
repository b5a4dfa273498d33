"""What the benchmarks share: alternating timings, a table, JSON."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch


def alternate(
    sides: Mapping[str, Callable[[], Any]],
    rounds: int,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time several ways of doing one thing in turn, so that a drifting machine favours none.

    Args:
        sides: what to time, by name.
        rounds: timings of each.
        warmup: runs of each beforehand that do not count.
        clock: ``time.process_time`` on a machine that others use as well.

    Returns:
        Seconds by name, one for each round.
    """
    for side in sides.values():
        for _ in range(warmup):
            side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            began = clock()
            side()
            seconds[name].append(clock() - began)
    return seconds


def median_ratio(seconds: Mapping[str, Sequence[float]], side: str, base: str) -> float:
    """The median over rounds of how much longer ``side`` took than ``base``."""
    return statistics.median(a / b for a, b in zip(seconds[side], seconds[base], strict=True))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--rounds", type=int, default=15, help="timings of each side, in turn")
    result.add_argument("--json", type=Path, metavar="PATH", help="write the figures here, too")
    return result


def write_json(path: Path | None, figures: dict[str, Any]) -> None:
    """Write the figures and the machine, if a path was given."""
    if path is not None:
        path.write_text(json.dumps({"machine": machine(), **figures}, indent=2) + "\n", encoding="utf-8")
