"""Independent jobs on all cores, or on a Ray cluster, through joblib."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import joblib
import torch

from featherweight.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")

BACKENDS = ("loky", "ray")

#: Ray's pool tells of results a round at a time: so many jobs a worker in each.
_JOBS_A_ROUND = 4

#: How often a worker looks whether its parent is still there.
_WATCH_SECONDS = 2.0


def run_each(
    function: Callable[[Item], Result], items: Sequence[Item], *, jobs: int = -1, backend: str = "loky"
) -> Iterator[tuple[Item, Result]]:
    """Call a function for every item, in worker processes of one compute thread each.

    Args:
        function: found by its import path, so that workers can import it; its result depends on the item
            alone.
        items: what to call it with; they and the results go through pickle between our own processes.
        jobs: workers; -1 is one a core (of the cluster, with Ray). One is this process itself.
        backend: ``loky`` for processes on this machine, ``ray`` for a cluster: the one that is connected or
            that ``RAY_ADDRESS`` names, else one on this machine for as long as the jobs take.

    Yields:
        Items with their results, as they are done.

    Raises:
        RecipeError: for an unknown backend, or where Ray is not installed.
    """
    if backend not in BACKENDS:
        raise RecipeError(f"unknown backend {backend!r}; known: {', '.join(BACKENDS)}")
    if jobs == 0 or jobs < -1:
        raise RecipeError(f"jobs must be at least 1, or -1 for all cores, got {jobs}")
    if backend == "ray":
        call = joblib.delayed(_Call(function))
        with _ray_cluster() as cores:
            yield from _in_rounds(call, items, cores if jobs == -1 else min(jobs, cores))
        return
    call = joblib.delayed(_Call(function, parent=os.getpid()))
    workers = joblib.Parallel(n_jobs=jobs, backend=backend, batch_size=1, return_as="generator_unordered")
    done = workers(call(item) for item in items)
    try:
        yield from done
    finally:
        done.close()  # after an exception, no worker goes on


class _Call:
    """The function on one compute thread; its results carry their item."""

    def __init__(self, function: Callable[[Any], Any], parent: int | None = None) -> None:
        self.function = function
        self.parent = parent

    #: What joblib names in its own messages.
    __name__ = "point"

    def __call__(self, item: Any) -> tuple[Any, Any]:
        if self.parent not in (None, os.getpid()):
            _leave_with_the_parent()
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return item, self.function(item)
        finally:
            torch.set_num_threads(before)


@functools.cache
def _leave_with_the_parent() -> None:
    """End this worker soon after its parent has: joblib's would go on waiting for work for minutes."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _in_rounds(call: Any, items: Sequence[Any], workers: int) -> Iterator[tuple[Any, Any]]:
    size = _JOBS_A_ROUND * workers
    pool_messages = logging.getLogger("ray.util.multiprocessing.pool")
    pool_messages.addFilter(_of_interest)
    # A core each, else Ray may put all of them on one node.
    ray = joblib.parallel_config("ray", ray_remote_args={"num_cpus": 1})
    try:
        with ray, joblib.Parallel(n_jobs=workers, batch_size=1) as pool:
            for start in range(0, len(items), size):
                yield from pool(call(item) for item in items[start : start + size])
    finally:
        pool_messages.removeFilter(_of_interest)


def _of_interest(record: logging.LogRecord) -> bool:
    """Not that joblib gives Ray's pool an argument that it does not take."""
    return "'context' argument is not supported" not in record.getMessage()


@contextlib.contextmanager
def _ray_cluster() -> Iterator[int]:
    """A cluster to work on, and how many cores it has."""
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise RecipeError("the backend ray needs Ray; pip install 'featherweight[ray]'") from None
    started = not ray.is_initialized()
    if started:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=None)
    try:
        register_ray()  # type: ignore[no-untyped-call]
        yield int(ray.cluster_resources()["CPU"])  # type: ignore[no-untyped-call]
    finally:
        if started:
            ray.shutdown()
