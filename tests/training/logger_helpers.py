"""Loggers that fail, for the tests of what training does then."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.loggers import Logger


class Unreachable(Logger):
    """Its server does not answer; it also plays with random generators."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    @property
    def name(self) -> str:
        return "unreachable"

    @property
    def version(self) -> str:
        return "0"

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        import random

        import torch

        self.calls += 1
        random.seed(1)
        torch.manual_seed(1)
        raise ConnectionError("no route\nto the host")

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass


class NoLogger:
    """Is no logger."""


class NoServer(Unreachable):
    """Cannot even begin."""

    @property
    def experiment(self) -> None:
        raise ConnectionError("the name of the host is not known")
