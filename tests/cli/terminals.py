"""Runs the command line in a terminal of its own, as wide as a test wants it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

_COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3[0-9]|4[0-9]|9[0-9])(?:;[0-9;]*)?m")
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def in_terminal(columns: int, *arguments: object, **environment: str) -> str:
    """What ``featherweight ARGUMENTS`` writes to a terminal of so many columns, control codes and all."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    kept = {
        key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "featherweight", *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**kept, "TERM": "xterm-256color", **environment},
    )
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # the terminal is gone when its last program is
        while chunk := os.read(ours, 65536):
            written += chunk
    os.close(ours)
    assert process.wait() == 0, written.decode()
    return written.decode()


def has_colour(written: str) -> bool:
    return bool(_COLOUR.search(written))


def lines(written: str) -> list[str]:
    """Without control codes; what is drawn over is a line as well."""
    return re.split(r"[\r\n]+", _ESCAPE.sub("", written))
