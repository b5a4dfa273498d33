"""A journal of finished work: one line of JSON a result, kept through a kill at any moment."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from featherweight.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path


class Journal:
    """Lines of JSON in a file, the first of which says under which settings the others were made.

    A line is written by one call and on the disk when :meth:`append` returns. A last line that a kill
    cut short is dropped when the file is opened again.

    Args:
        path: the file; made if it is not there.
        settings: what must be the same for the results to be the same; plain values.

    Raises:
        OutputError: if the file is no journal, or of other settings, naming the first that differs.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        settings = json.loads(json.dumps(settings))
        lines = self._whole_lines()
        if lines:
            self._check(lines[0], settings)
        else:
            self._write({"settings": settings})
        self.entries: list[dict[str, Any]] = lines[1:]

    def append(self, entry: dict[str, Any]) -> None:
        """Add a result."""
        self._write(entry)
        self.entries.append(entry)

    def _write(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                if os.write(handle, line) < len(line):
                    raise OutputError(f"{self.path}: cannot be written: the disk is full")
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def _whole_lines(self) -> list[dict[str, Any]]:
        """The lines that are whole; what follows them is cut off the file."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(self.path, len(whole))
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise OutputError(f"{self.path}: is no journal of results: {error}") from None
        if not all(isinstance(line, dict) for line in lines):
            raise OutputError(f"{self.path}: is no journal of results; choose another directory")
        return lines

    def _check(self, first: dict[str, Any], settings: dict[str, Any]) -> None:
        before = first.get("settings")
        if not isinstance(before, dict):
            raise OutputError(f"{self.path}: is no journal of results; choose another directory")
        for key in {**settings, **before}:
            if settings.get(key) != before.get(key):
                raise OutputError(
                    f"{self.path}: holds results of another {key} ({_short(before.get(key))}, now "
                    f"{_short(settings.get(key))}); choose another directory, or --force to start anew"
                )


def _short(value: object, most: int = 60) -> str:
    text = json.dumps(value)
    return text if len(text) <= most else text[:most] + "…"
