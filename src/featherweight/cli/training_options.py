"""What the verbs that train or test have in common."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """Declare ``--data-root``."""
    parser.add_argument(
        "--data-root",
        metavar="DIR",
        help="folder that holds the data sets; FEATHERWEIGHT_DATA or ./data unless given",
    )


def use_data_root(args: argparse.Namespace) -> None:
    """Let every data set that names no folder of its own look in ``--data-root``."""
    if args.data_root is not None:
        os.environ["FEATHERWEIGHT_DATA"] = args.data_root


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Declare ``--quiet``."""
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress, only the result")


def silence_lightning() -> None:
    """Keep Lightning's remarks on devices and products out of our output."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)


class _ToStderr(logging.StreamHandler[Any]):
    """Writes to what ``sys.stderr`` is now: while a bar is shown, that is above the bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        self.stream = sys.stderr
        super().emit(record)


@contextmanager
def log_to_stderr(*, quiet: bool = False) -> Iterator[None]:
    """Show what is logged in the block; only warnings if ``quiet``."""
    handler = _ToStderr()
    handler.setFormatter(logging.Formatter("%(message)s"))
    package = logging.getLogger("featherweight")
    handlers, level = package.handlers, package.level
    package.handlers = [handler]
    package.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        yield
    finally:
        package.handlers = handlers
        package.setLevel(level)
