"""``featherweight fit``, ``validate`` and ``test``: LightningCLI as people know it."""

from __future__ import annotations

from typing import Any

from featherweight.errors import FeatherweightError, Interrupted, RecipeError


def run_lightning(verb: str, argv: list[str]) -> int:
    """Hand a verb and its arguments to LightningCLI.

    Args:
        verb: ``fit``, ``validate`` or ``test``.
        argv: what follows it on the command line.

    Raises:
        RecipeError: where arguments or the configuration are wrong.
    """
    import jsonargparse
    from lightning.pytorch.cli import LightningCLI

    from featherweight.cli.training_options import log_to_stderr
    from featherweight.training.module import Classifier, ImagesInMemory

    log_to_stderr()
    described = {
        "prog": f"featherweight {verb}",
        "description": "Train with Lightning; callbacks prune, share and save. "
        f"Example: featherweight {verb} --config recipes/lightning/lenet300-mnist.yaml",
        "exit_on_error": False,
    }

    class Cli(LightningCLI):
        """LightningCLI for one verb."""

        def init_parser(self, **kwargs: Any) -> Any:
            return super().init_parser(**{**kwargs, **described})

    try:
        Cli(Classifier, ImagesInMemory, args=[verb, *argv], save_config_kwargs={"overwrite": True})
    except jsonargparse.ArgumentError as error:
        raise RecipeError(_innermost(error)) from None
    except KeyboardInterrupt:
        raise Interrupted("stopped; --ckpt_path PATH goes on from a checkpoint") from None
    return 0


def _innermost(error: BaseException) -> str:
    """The message of our own error where there is one underneath, else the parser's, in one line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, FeatherweightError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split())
