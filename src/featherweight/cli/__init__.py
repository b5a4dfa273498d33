"""The command line: ``featherweight VERB ...``.

:func:`main` looks at the first argument and imports that verb's module alone, so that verbs which need
no PyTorch start at once.
"""

from featherweight.cli.dispatch import main

__all__ = ["main"]
