"""When to load Numba: its import and its kernels take a second, in which plain Python decodes a small file.

Kernels live in modules of their own, named ``*_kernels``, which import Numba; they are imported inside
functions, only after :func:`use_numba` has said so. Below that, the same work is done in Python or NumPy,
with the same results.
"""

from __future__ import annotations

import importlib.util
import sys

#: Symbols that this process has coded in plain Python, against those that take as long as loading Numba.
_done = 0
_PATIENCE = 1 << 20

#: What a coded byte holds, about.
_SYMBOLS_PER_BYTE = 2

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
    if "numba" in sys.modules:
        return True
    if symbols >= _LARGE or _done + symbols > _PATIENCE:
        import_numba()
        return True
    _done += symbols
    return False


def expect(coded_bytes: int) -> None:
    """Say how much this process is about to decode, so that it does not begin in plain Python in vain."""
    global _done
    if coded_bytes * _SYMBOLS_PER_BYTE > _PATIENCE:
        _done = _PATIENCE


def import_numba() -> None:
    """Import Numba without the sixth of a second that it takes to see whether SciPy has a BLAS.

    No kernel of ours needs one, but the module that loads all array functions asks by importing
    ``scipy.linalg``. For that moment it is told whether SciPy is installed, which is the same answer; whoever
    compiles a call of BLAS makes Numba ask in earnest. Where Numba has no such function, nothing is gained.
    """
    import numba.np.linalg as linalg

    in_earnest = getattr(linalg, "ensure_blas", None)
    if in_earnest is None or "numba.np.arraymath" in sys.modules or "scipy.linalg" in sys.modules:
        return
    linalg.ensure_blas = _blas_is_installed
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        linalg.ensure_blas = in_earnest


def _blas_is_installed() -> None:
    if importlib.util.find_spec("scipy") is None:
        raise ImportError("SciPy is not installed")
