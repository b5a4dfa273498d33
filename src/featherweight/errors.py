"""The errors that a user can cause, each told in one line.

The command line prints a :class:`FeatherweightError` as one line and exits with 1;
anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations


class FeatherweightError(Exception):
    """Base of every error that says what was expected, what came and what to do."""


class FormatError(FeatherweightError, ValueError):
    """All that a bad ``.fwt`` file can raise: the file, the tensor and the reason."""


class RecipeError(FeatherweightError, ValueError):
    """A recipe or a run file that cannot be meant as written."""


class CheckpointError(FeatherweightError, ValueError):
    """A checkpoint that cannot be read, or does not fit the model."""


class TensorError(FeatherweightError, ValueError):
    """A tensor that cannot be compressed as asked, such as one with non-finite weights."""


class DataError(FeatherweightError):
    """A data set that is missing, incomplete or damaged."""


class OutputError(FeatherweightError):
    """An output that cannot be written: the path exists, the disk is full."""


class ExportError(FeatherweightError):
    """A network that another format cannot express; names the operation."""


class MissingPackageError(FeatherweightError, ImportError):
    """An optional package that is not installed; names the extra that has it."""


class Interrupted(FeatherweightError):  # noqa: N818  (as in KeyboardInterrupt)
    """Ctrl-C in a job that can be taken up again; says how."""
