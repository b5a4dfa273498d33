"""Files that may or may not be gzipped, read whole."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

from featherweight.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

#: What to do about a damaged file.
REMEDY = "delete it and run again to download it"

#: First bytes of every gzip file.
GZIP_MAGIC = b"\x1f\x8b"

#: Bytes that a file may expand to: far above any data set read this way, and a bound for a hostile one.
MAX_BYTES = 1 << 31

# zlib's way to say: a gzip header, and the largest window.
_GZIP_WBITS = 16 + zlib.MAX_WBITS


class Contents(NamedTuple):
    """What a file holds.

    Attributes:
        data: uncompressed.
        complete: whether the gzip stream was there to its end, its checksum included.
    """

    data: bytes
    complete: bool = True


def read_uncompressed(path: Path) -> Contents:
    """The contents of a file, uncompressed if it starts as a gzip file does, whatever its name.

    Args:
        path: an existing file.

    Returns:
        Its contents. Those of a gzip file that was cut short go as far as they can, so that the caller,
        who knows how long they should be, can say so.

    Raises:
        DataError: if the file cannot be read, is damaged, or expands to more than 2 GiB.
    """
    try:
        raw = path.read_bytes()
        if not raw.startswith(GZIP_MAGIC):
            return Contents(raw)
        inflater = zlib.decompressobj(_GZIP_WBITS)
        data = inflater.decompress(raw, MAX_BYTES)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except zlib.error as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); {REMEDY}") from error
    if inflater.unconsumed_tail or inflater.unused_data:
        raise DataError(f"{path} holds more than one gzip stream of at most {MAX_BYTES:,} bytes; {REMEDY}")
    return Contents(data, inflater.eof)
