"""Where data sets lie on disk."""

from __future__ import annotations

import os
from pathlib import Path

#: Environment variable that names the folder of all data sets.
DATA_VARIABLE = "FEATHERWEIGHT_DATA"

#: Used when nothing else is said, relative to the working directory.
DEFAULT_ROOT = "data"


def resolve_data_root(data_root: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds one folder for each data set.

    Args:
        data_root: the folder, ``~`` allowed; None or empty takes the environment's
            ``FEATHERWEIGHT_DATA``, and ``./data`` where that is unset or empty.

    Returns:
        An absolute path, which need not exist.
    """
    chosen = os.fspath(data_root) if data_root is not None else ""
    return Path(chosen or os.environ.get(DATA_VARIABLE) or DEFAULT_ROOT).expanduser().absolute()
