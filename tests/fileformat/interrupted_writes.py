"""Writes a file over an old one in process after process, each killed at another line of the writer.

Prints, as JSON, what each left behind: ``old``, ``new`` or ``other`` at the path, and the rest of the folder.
A kill cannot be caught, so it may leave a temporary file; what it must not leave is a mixture at the path.
"""

import gc
import json
import linecache
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from samples import raw

from featherweight.fileformat import atomic, write_file, writer
from featherweight.tensors import Alias

FILES = {atomic.__file__, writer.__file__}
POINTS = 100


#: Where the writer already tidies up, and where a second interruption is one too many. The end of a block is
#: traced as its ``with`` line once more; Python itself calls no signal handler between there and __exit__.
TIDYING = frozenset({"__exit__", "_discard", "with AtomicFile"})


def tensors() -> dict:
    noise = raw(np.random.default_rng(0).normal(size=2000))
    return {"a": noise, "b": Alias("a"), "c": raw(np.ones(3)), "d": raw(np.zeros((0, 3)))}


def at_line(number: int, act: Callable[[], None], left_out: frozenset[str]) -> list[int]:
    """Call ``act`` before the ``number``-th line of the writer that runs from now on; returns the count."""
    count = [0]

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and not left_out & {frame.f_code.co_name, _start_of_line(frame)}:
            count[0] += 1
            if count[0] == number:
                act()
        return local

    sys.settrace(lambda frame, event, argument: local if frame.f_code.co_filename in FILES else None)
    return count


def _start_of_line(frame: FrameType) -> str:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip().split("(")[0]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write(path: Path, number: int, act: Callable[[], None], left_out: frozenset[str] = frozenset()) -> int:
    """Write with an interruption, but in no function that is left out; returns the lines that ran."""
    count = at_line(number, act, left_out)
    try:
        write_file(path, tensors())
    finally:
        sys.settrace(None)
    return count[0]


def left_behind(folder: Path, old: bytes, new: bytes) -> dict:
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    found = contents.pop("f.fwt", None)
    which = {old: "old", new: "new"}.get(found, "other")
    return {"file": which, "rest": sorted(contents)}


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as name:
        path = Path(name) / "f.fwt"
        lines = write(path, -1, die)
        new = path.read_bytes()
        write_file(path, {"old": raw(np.arange(5))})
        old = path.read_bytes()
        gc.freeze()
        found = []
        for number in np.unique(np.linspace(1, lines, POINTS).astype(int)).tolist():
            path.write_bytes(old)
            child = os.fork()
            if child == 0:
                write(path, number, die)
                os._exit(1)  # not reached
            status = os.waitpid(child, 0)[1]
            found.append({"signal": os.WTERMSIG(status), **left_behind(Path(name), old, new)})
            for rest in found[-1]["rest"]:
                (Path(name) / rest).unlink()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
