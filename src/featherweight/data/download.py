"""Downloads that resume, are checked, and appear whole or not at all.

A file is fetched into ``NAME.part`` beside its place. What a broken connection leaves there is carried on
with an HTTP range request, by the next mirror or the next run. Only contents with the right SHA-256 are
moved into place. One process downloads into a folder at a time; others wait and find the files there.
"""

from __future__ import annotations

import hashlib
import logging
import re
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, TypeAlias
from urllib.error import HTTPError

from featherweight.data.gzipped import read_uncompressed
from featherweight.data.locks import exclusive
from featherweight.data.root import DATA_VARIABLE
from featherweight.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

#: Told, after each piece: the file's name, bytes on disk, bytes in all (None if the server does not say).
Progress: TypeAlias = Callable[[str, int, int | None], None]

#: Seconds without a byte after which a mirror counts as down.
TIMEOUT_SECONDS = 20.0

LOCK_NAME = ".download.lock"

_CHUNK_BYTES = 1 << 16
_PARTIAL_CONTENT = 206
_RANGE_NOT_SATISFIABLE = 416


@dataclass(frozen=True)
class RemoteFile:
    """A file that mirrors offer.

    Attributes:
        name: on the mirror and on disk.
        sha256: of the uncompressed contents, in hexadecimal: mirrors may have gzipped them differently.
        as_it_is: ``sha256`` is of the file itself, uncompressed or not.
    """

    name: str
    sha256: str
    as_it_is: bool = False


def download(
    files: Sequence[RemoteFile],
    mirrors: Sequence[str],
    directory: Path,
    *,
    dataset: str,
    progress: Progress | None = None,
) -> None:
    """Fetch the files that a folder lacks.

    Args:
        files: what is needed; those already in the folder are left as they are.
        mirrors: base addresses, http or https, ending in ``/``; tried in this order.
        directory: where the files go; created if need be.
        dataset: the data set's name, for messages.
        progress: called after each piece of a file.

    Raises:
        DataError: if a file can be had from none of the mirrors, or the folder cannot be written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with exclusive(directory / LOCK_NAME):
            # Looked at under the lock: another process may have fetched them while this one waited.
            for file in _missing(files, directory):
                failures = _fetch_from_any(file, mirrors, directory, progress)
                if failures:
                    raise DataError(
                        _advice(dataset, _missing(files, directory), mirrors, directory, failures)
                    )
    except OSError as error:
        raise DataError(
            f"{dataset} cannot be written to {directory} ({error.strerror or error}); "
            f"choose another folder with --data-root or {DATA_VARIABLE}"
        ) from error


def _missing(files: Sequence[RemoteFile], directory: Path) -> list[RemoteFile]:
    return [file for file in files if not (directory / file.name).exists()]


def _advice(
    dataset: str,
    missing: Sequence[RemoteFile],
    mirrors: Sequence[str],
    directory: Path,
    failures: Sequence[str],
) -> str:
    return (
        f"{dataset} is incomplete and could not be downloaded ({'; '.join(failures)}). "
        f"Put {', '.join(file.name for file in missing)} into {directory}, from any of {', '.join(mirrors)}, "
        f"or choose another folder with --data-root or {DATA_VARIABLE}"
    )


def _fetch_from_any(
    file: RemoteFile, mirrors: Sequence[str], directory: Path, progress: Progress | None
) -> list[str]:
    """Fetch one file from the first mirror that has it; returns each mirror's failure if none has."""
    failures = []
    for mirror in mirrors:
        url = mirror + file.name
        logger.info("Downloading %s", url)
        try:
            _fetch(file, url, directory, progress)
        except (DataError, HTTPException, OSError) as error:
            logger.warning("Download of %s failed: %s", url, error)
            failures.append(f"{url}: {error}")
        else:
            return []
    return failures


def _fetch(file: RemoteFile, url: str, directory: Path, progress: Progress | None) -> None:
    """Fetch one file from one address, check it and move it into place."""
    part = directory / f"{file.name}.part"
    resumed = part.exists()
    _transfer(url, part, file.name, progress)
    if not _is_intact(part, file):
        part.unlink()
        if not resumed:
            raise DataError("the contents have another SHA-256 than they should")
        # The two pieces may have come from mirrors that compressed differently: once more, from the start.
        _fetch(file, url, directory, progress)
        return
    part.replace(directory / file.name)


def _is_intact(path: Path, file: RemoteFile) -> bool:
    if file.as_it_is:
        with path.open("rb") as contents_as_they_are:
            return hashlib.file_digest(contents_as_they_are, "sha256").hexdigest() == file.sha256
    try:
        contents = read_uncompressed(path)
    except DataError:
        return False
    return contents.complete and hashlib.sha256(contents.data).hexdigest() == file.sha256


def _transfer(url: str, part: Path, name: str, progress: Progress | None) -> None:
    """Append what ``part`` still lacks, or write it anew where the server knows no ranges."""
    if not url.startswith(("http://", "https://")):
        raise DataError("the address of a mirror must start with http:// or https://")
    offset = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "featherweight"})  # noqa: S310 (checked above)
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310
    except HTTPError as error:
        with error:
            if offset and error.code == _RANGE_NOT_SATISFIABLE:
                return  # all of it is there already, or more than all: the checksum decides
            raise
    with response:
        _save(response, part, offset if _continues(response, offset) else 0, name, progress)


def _continues(response: HTTPResponse, offset: int) -> bool:
    """Whether the answer is the rest of the file from ``offset`` on, rather than the whole file."""
    served = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return response.status == _PARTIAL_CONTENT and served is not None and int(served[1]) == offset


def _save(response: HTTPResponse, part: Path, offset: int, name: str, progress: Progress | None) -> None:
    length = response.headers.get("Content-Length")
    total = offset + int(length) if length is not None else None
    done = offset
    with part.open("ab" if offset else "wb") as out:
        while chunk := response.read(_CHUNK_BYTES):
            out.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(name, done, total)
    # http.client reports a connection that closes early as the end of the file.
    if total is not None and done != total:
        raise DataError(f"the connection closed after {done:,} of {total:,} bytes")
