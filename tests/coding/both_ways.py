"""Compiled kernels and plain Python, each in its turn."""

from unittest.mock import patch

from featherweight.coding import numba_when_it_pays

BOTH = [True, False]


def only(compiled):
    """A context in which loops run compiled, or none does."""
    return patch.object(numba_when_it_pays, "_forced", compiled)
