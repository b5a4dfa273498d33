"""Optional packages: which are missing, and how to get them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from featherweight.errors import MissingPackageError

if TYPE_CHECKING:
    from collections.abc import Iterable


def require(extra: str, packages: Iterable[str], purpose: str) -> None:
    """Make sure that the packages of an extra are installed, without importing them.

    Args:
        extra: of this project, such as ``onnx``.
        packages: names to import.
        purpose: what needs them, the beginning of the message.

    Raises:
        MissingPackageError: naming those that are missing and the command that installs them.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise MissingPackageError(
            f"{purpose} needs {' and '.join(missing)}; run pip install featherweight[{extra}]"
        )
