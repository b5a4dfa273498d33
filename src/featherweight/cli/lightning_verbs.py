"""``featherweight fit``, ``validate`` and ``test``: LightningCLI as people know it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featherweight.errors import CheckpointError, FeatherweightError, Interrupted, RecipeError

if TYPE_CHECKING:
    from types import TracebackType

    import lightning
    from lightning.pytorch.cli import LightningCLI

#: What ``--ckpt_path`` takes beside a path.
CHECKPOINT_KEYWORDS = ("best", "last", "hpc", "registry")


def run_lightning(verb: str, argv: list[str]) -> int:
    """Hand a verb and its arguments to LightningCLI.

    Args:
        verb: ``fit``, ``validate`` or ``test``.
        argv: what follows it on the command line.

    Raises:
        RecipeError: where arguments or the configuration are wrong.
        CheckpointError: where ``--ckpt_path`` cannot be read or does not fit the model.
        Interrupted: on Ctrl-C, saying how to go on.
    """
    import jsonargparse
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from featherweight.cli.training_options import log_to_stderr

    log_to_stderr()
    trainers: list[lightning.Trainer] = []
    try:
        with warnings.catch_warnings():
            # Lightning warns whoever passes `args` from a program that has arguments of its own.
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            _cli(verb, trainers)(args=[verb, *argv], save_config_kwargs={"overwrite": True})
    except jsonargparse.ArgumentError as error:
        raise RecipeError(_innermost(error)) from None
    except SystemExit:
        if any(trainer.interrupted for trainer in trainers):
            raise Interrupted(
                f"stopped; featherweight {verb} --ckpt_path PATH goes on from a checkpoint"
            ) from None
        raise
    except (TypeError, ValueError, RuntimeError, LookupError, MisconfigurationException) as error:
        if isinstance(error, FeatherweightError) or not _raised_by_lightning(error.__traceback__):
            raise
        raise RecipeError(" ".join(str(error).split())) from None
    return 0


def _cli(verb: str, trainers: list[lightning.Trainer]) -> type[LightningCLI]:
    """LightningCLI for one verb and any module and data; ``trainers`` receives its trainer."""
    import torch
    from lightning.pytorch.cli import LightningCLI

    # Imported so that their bare names will do as class_path.
    import featherweight.training.callbacks
    import featherweight.training.module  # noqa: F401
    from featherweight.training.loggers import Guard

    described = {
        "description": "Train with Lightning; callbacks prune, share and save. "
        f"Example: featherweight {verb} --config recipes/lightning/lenet300-mnist.yaml",
        "exit_on_error": False,
    }

    class Cli(LightningCLI):
        """LightningCLI for one verb."""

        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            return {verb: LightningCLI.subcommands()[verb]}

        def init_parser(self, **kwargs: Any) -> Any:
            return super().init_parser(**{**kwargs, **described})

        def setup_parser(self, *args: Any, **kwargs: Any) -> None:
            super().setup_parser(*args, **kwargs)
            self._parser(verb).prog = f"featherweight {verb}"

        def parse_arguments(self, parser: Any, args: Any) -> None:
            super().parse_arguments(parser, args)
            _check_checkpoint(self.config[verb].get("ckpt_path"))

        def instantiate_classes(self) -> None:
            try:
                super().instantiate_classes()
            except FeatherweightError:
                raise
            except (TypeError, ValueError, RuntimeError) as error:
                raise RecipeError(f"{_innermost(error)}; check init_args") from None

        def instantiate_trainer(self, **kwargs: Any) -> Any:
            trainer = super().instantiate_trainer(**kwargs)
            # One that fails does not stop the training.
            trainer.loggers = [logger for logger in trainer.loggers if Guard.of(logger).open()]
            trainers.append(trainer)
            return trainer

    def _check_checkpoint(path: str | None) -> None:
        if path is None or str(path).split(":")[0] in CHECKPOINT_KEYWORDS or "://" in str(path):
            return
        if not Path(path).is_file():
            raise CheckpointError(f"{path}: there is no such checkpoint; check --ckpt_path")
        try:
            found = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:  # the restricted loader meets damage with whatever its bytes lead to
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(
                f"{path}: is no checkpoint of Lightning's, or is damaged: {reason}"
            ) from None
        if not isinstance(found, dict) or "state_dict" not in found:
            raise CheckpointError(f"{path}: is no checkpoint of Lightning's: it has no state_dict")

    return Cli


def _innermost(error: BaseException) -> str:
    """The message of our own error where there is one underneath, else the parser's, in one line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, FeatherweightError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split())


def _raised_by_lightning(traceback: TracebackType | None) -> bool:
    """Whether Lightning itself raised: it refuses an option, as against a bug in a model or the data."""
    name = ""
    while traceback is not None:
        name = traceback.tb_frame.f_globals.get("__name__", "")
        traceback = traceback.tb_next
    return name.startswith("lightning.")
