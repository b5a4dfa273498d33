"""Numbers and names as people read them."""

from __future__ import annotations

import re

#: From here on a ratio is told without a decimal.
_WHOLE_RATIO = 100

#: Counts below this are told in full.
_FULL_COUNT = 10_000


def times(ratio: float, decimals: int = 1) -> str:
    """A ratio: ``48.7×``, ``487×``."""
    return f"{ratio:.0f}×" if ratio >= _WHOLE_RATIO else f"{ratio:.{decimals}f}×"


def percent(fraction: float, decimals: int = 2) -> str:
    """A fraction: ``2.05%``; a whole is ``100%``."""
    return "100%" if fraction == 1 else f"{100 * fraction:.{decimals}f}%"


def count(number: int) -> str:
    """A count in at most five characters up to a billion: ``1000``, ``235K``, ``38.1M``."""
    if number < _FULL_COUNT:
        return str(number)
    for unit, size in (("K", 10**3), ("M", 10**6)):
        if number < 999.5 * size:
            decimals = 1 if unit == "M" and number < 99.95 * size else 0
            return f"{number / size:.{decimals}f}{unit}"
    return f"{number / 10**9:.1f}G"


def shape(sizes: tuple[int, ...]) -> str:
    """A shape: ``300×784``; a scalar's is ``scalar``."""
    return "×".join(map(str, sizes)) or "scalar"


def printable(text: str) -> str:
    """Text from a file, safe to show: what a terminal could take for a command is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def byte_count(size: int) -> str:
    """Bytes in decimal units, three digits: ``382 B``, ``12.9 kB``, ``1.07 MB``."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= 0.9995 * scale:
            value = size / scale
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    return f"{size} B"


def shortened(text: str, most: int = 80) -> str:
    """A long text without its middle."""
    return text if len(text) <= most else f"{text[: most - most // 3 - 1]}…{text[-(most // 3) :]}"


def natural_order(text: str) -> list[tuple[int, int, str]]:
    """A key that sorts ``conv2`` before ``conv10``."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+", text.casefold())
    return [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts]
