"""``featherweight validate``: see :mod:`featherweight.cli.lightning_verbs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featherweight.cli.lightning_verbs import declare_options, run_lightning

if TYPE_CHECKING:
    from argparse import ArgumentParser


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options that shell completion offers."""
    declare_options(parser)


def run_raw(argv: list[str]) -> int:
    """Hand the arguments to LightningCLI."""
    return run_lightning("validate", argv)
