"""A file that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from featherweight.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator


class AtomicFile:
    """Context manager that writes beside ``path`` and takes its place when all has gone well.

    On any exception, KeyboardInterrupt included, what was at ``path`` stays and the temporary file goes.

    Args:
        path: where the file shall be; a symbolic link is followed.
        overwrite: whether a file that is there already may be replaced.

    Raises:
        OutputError: naming the path, if the file cannot be written. Other errors in the block pass unchanged.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool) -> None:
        self._path = Path(path)
        self._overwrite = overwrite
        self._target = Path(os.path.realpath(path))
        # In the same directory, so that the last step is a rename; opened plainly, so that the umask applies.
        self._temporary = self._target.with_name(f".{self._target.name[:64]}.{secrets.token_hex(8)}.tmp")
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        self._check_target()
        try:
            with self._output_errors():
                self._file = self._temporary.open("xb")
            return self
        except BaseException:  # Ctrl-C between the file's birth and the block, which alone calls __exit__
            self._discard()
            raise

    def write(self, data: bytes | memoryview) -> None:
        """Append ``data``."""
        assert self._file is not None, "write() belongs inside the with block"  # noqa: S101
        with self._output_errors():
            self._file.write(data)

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            self._discard()

    def _check_target(self) -> None:
        if self._target.exists() and not self._target.is_file():
            raise OutputError(f"{self._path}: is not a regular file; choose another path")
        if not self._overwrite and self._target.exists():
            raise OutputError(f"{self._path}: exists already; remove it, or overwrite it with --force")

    def _commit(self) -> None:
        assert self._file is not None  # noqa: S101
        self._check_target()
        with self._output_errors():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._temporary.replace(self._target)

    def _discard(self) -> None:
        """Remove what is left of the temporary file; after a commit there is nothing."""
        try:
            if self._file is not None:
                with contextlib.suppress(OSError):  # closing flushes, which fails again on a full disk
                    self._file.close()
        finally:
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _output_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written: {error.strerror or error}") from error
