"""Where output goes: results to stdout, progress to stderr, colour to terminals alone.

``NO_COLOR`` and ``COLUMNS`` hold.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from featherweight.analysis.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

#: Columns where output is no terminal and nobody says how many: tables take what they need.
_PIPE_WIDTH = 200

#: Seconds between lines of progress where there is no terminal for a bar.
_LINE_SECONDS = 10.0

#: Columns for a bar, beside what it is of and how far.
_BAR_WIDTH = 48


def output() -> Console:
    """The console of results."""
    return _console(stderr=False)


def messages() -> Console:
    """The console of progress and remarks."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    # Made anew each time, so that it writes to what sys.stdout and sys.stderr are now.
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPE_WIDTH
    return console


def say(text: str, *, style: str = "", console: Console | None = None) -> None:
    """Print a line as it is: no markup, no wrapping, nothing that a terminal could take for a command."""
    (console or output()).print(Text(printable(text), style), soft_wrap=True)


def print_json(data: dict[str, Any]) -> None:
    """Print JSON that another program can read, without colour."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


@contextmanager
def progress(description: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Show how far a long job is: a bar on a terminal, a line now and then elsewhere.

    Args:
        description: what is going on, such as ``compressing``.
        total: number of steps.
        quiet: show nothing.

    Yields:
        A function to call after each step.
    """
    console = messages()
    if quiet:
        yield lambda: None
    elif console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        shown = columns if console.width >= _BAR_WIDTH else (columns[0], columns[2])
        with Progress(*shown, console=console, transient=True) as bar:
            task = bar.add_task(description, total=total)
            yield lambda: bar.advance(task)
    else:
        yield _line_by_line(description, total, console)


def _line_by_line(description: str, total: int, console: Console) -> Callable[[], None]:
    done, due = 0, time.monotonic() + _LINE_SECONDS

    def advance() -> None:
        nonlocal done, due
        done += 1
        if time.monotonic() >= due:
            say(f"{description}: {done} of {total}", console=console)
            due = time.monotonic() + _LINE_SECONDS

    return advance
