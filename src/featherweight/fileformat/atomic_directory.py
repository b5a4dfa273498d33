"""A directory that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from featherweight.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable


class AtomicDirectory:
    """Context manager that fills a directory beside ``path``, which takes its place when all has gone well.

    On any exception, KeyboardInterrupt included, what was at ``path`` stays and the new directory goes.

    Args:
        path: where the directory shall be; its own directory has to be there.
        replaceable: whether a directory that is there, and not empty, may be replaced; none unless given.

    Raises:
        OutputError: naming the path, if it is taken or cannot be written. Other errors in the block pass
            unchanged.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, replaceable: Callable[[Path], bool] | None = None
    ) -> None:
        self._path = Path(path)
        self._target = Path(os.path.realpath(path))
        self._replaceable = replaceable
        self._temporary = self._beside("tmp")

    def __enter__(self) -> Path:
        """The directory to fill."""
        self._check_target()
        try:
            self._temporary.mkdir()
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written: {error.strerror or error}") from error
        return self._temporary

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _check_target(self) -> None:
        if not self._target.exists():
            if not self._target.parent.is_dir():
                raise OutputError(
                    f"{self._path}: its directory does not exist; make it with mkdir -p {self._path.parent}"
                )
            return
        if not self._target.is_dir():
            raise OutputError(f"{self._path}: exists and is no directory; choose another name")
        if any(self._target.iterdir()) and not (self._replaceable and self._replaceable(self._target)):
            raise OutputError(f"{self._path}: exists already and is not empty; choose another name")

    def _commit(self) -> None:
        self._check_target()
        old = self._beside("old")
        try:
            if self._target.exists():
                self._target.replace(old)
            try:
                self._temporary.replace(self._target)
            except BaseException:
                with contextlib.suppress(OSError):
                    old.replace(self._target)
                raise
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written: {error.strerror or error}") from error
        shutil.rmtree(old, ignore_errors=True)

    def _beside(self, suffix: str) -> Path:
        return self._target.with_name(f".{self._target.name[:64]}.{secrets.token_hex(8)}.{suffix}")
