"""Arguments that verbs on files have in common, and what is checked of them before a long job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from featherweight.errors import OutputError

if TYPE_CHECKING:
    from argparse import ArgumentParser


class UsageError(Exception):
    """Arguments that are fine one by one but do not go together; exit code 2."""


def add_output(parser: ArgumentParser, metavar: str, what: str = "the file to write") -> None:
    """Declare ``-o`` and ``--force``; see :func:`check_output`."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar=metavar, help=what)
    parser.add_argument("--force", action="store_true", help="overwrite the output if it exists")


def check_output(path: Path, *, force: bool) -> None:
    """Find out before a long job, rather than after it, that its output cannot be written.

    Raises:
        OutputError: if the path is taken, or its directory does not exist.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a directory; name a file in it")
    if path.exists() and not force:
        raise OutputError(f"{path}: exists already; choose another name or give --force to overwrite it")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: its directory does not exist; make it with mkdir -p {path.parent}")
