"""Independent blocks on all cores: kernels release the interpreter's lock, so plain threads will do."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_T = TypeVar("_T")
_R = TypeVar("_R")

#: Numba's own variable, so that one setting holds for everything.
_VARIABLE = "NUMBA_NUM_THREADS"


def thread_count() -> int:
    """Threads to use: ``NUMBA_NUM_THREADS`` if it is set, else the cores that this process may use."""
    asked = os.environ.get(_VARIABLE, "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_blocks(function: Callable[[_T], _R], blocks: Iterable[_T]) -> list[_R]:
    """Results in order, whatever the number of threads; the first error is raised."""
    work = list(blocks)
    threads = min(thread_count(), len(work))
    if threads < 2:
        return [function(block) for block in work]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, work))
