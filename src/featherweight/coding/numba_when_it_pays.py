"""When to load Numba: its import and its kernels take a second, in which plain Python decodes a small file.

Kernels live in modules of their own, named ``*_kernels``, which import Numba; they are imported inside
functions, only after :func:`use_numba` has said so. Below that, the same work is done in Python or NumPy,
with the same results.
"""

from __future__ import annotations

import sys

#: Symbols that this process has coded in plain Python, against those that take as long as loading Numba.
_done = 0
_PATIENCE = 1 << 20

#: NumPy's own loops pass this many elements while plain Python codes a symbol.
VECTORIZED = 64

#: No single array is left to plain Python from this size on.
_LARGE = 1 << 18


#: Takes the decision away from :func:`use_numba`; for tests of both ways against each other.
_forced: bool | None = None


def use_numba(symbols: int) -> bool:
    """Whether a loop over so many symbols shall run compiled; plain Python's share is counted."""
    global _done
    if _forced is not None:
        return _forced
    if "numba" in sys.modules or symbols >= _LARGE or _done + symbols > _PATIENCE:
        return True
    _done += symbols
    return False
