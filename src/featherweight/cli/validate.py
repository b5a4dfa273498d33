"""``featherweight validate``: see :mod:`featherweight.cli.lightning_verbs`."""

from __future__ import annotations

from featherweight.cli.lightning_verbs import run_lightning


def run_raw(argv: list[str]) -> int:
    """Hand the arguments to LightningCLI."""
    return run_lightning("validate", argv)
