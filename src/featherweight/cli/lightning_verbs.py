"""``featherweight fit``, ``validate`` and ``test``: LightningCLI as people know it."""

from __future__ import annotations

import warnings
from argparse import RawDescriptionHelpFormatter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featherweight.cli.console import messages, print_json, say
from featherweight.cli.parsers import examples
from featherweight.cli.registry import VERBS
from featherweight.errors import CheckpointError, FeatherweightError, Interrupted, RecipeError

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from types import TracebackType

    import lightning
    from lightning.pytorch.cli import LightningCLI

#: What ``--ckpt_path`` takes beside a path.
CHECKPOINT_KEYWORDS = ("best", "last", "hpc", "registry")

#: Options of ours, which Lightning's command line does not know.
_QUIET, _JSON = ("--quiet", "-q"), ("--json",)

_OUR_OPTIONS = """options of every verb:
  --quiet, -q           no progress and no summary, only the result
  --json                print the metrics as JSON"""


def declare_options(parser: ArgumentParser) -> None:
    """Declare the options that shell completion offers; ``--help`` has all of Lightning's."""
    add = parser.add_argument
    add("--config", "-c", metavar="F", help="YAML or JSON: model, data, optimizer and trainer")
    add("--ckpt_path", metavar="PATH", help="the checkpoint to start from, or to evaluate")
    add("--print_config", action="store_true", help="print the configuration, and do nothing")
    add("--seed_everything", metavar="N", help="of all random draws")
    add("--trainer.max_epochs", metavar="N", help="epochs at most")
    add("--trainer.accelerator", choices=("auto", "cpu", "gpu"), help="where to compute")
    add("--trainer.devices", metavar="N", help="on how many of them")
    add("--trainer.precision", choices=("32-true", "16-mixed", "bf16-mixed"), help="of the arithmetic")
    add("--trainer.default_root_dir", metavar="DIR", help="for logs and checkpoints")
    add(*_QUIET, action="store_true", help="no progress and no summary, only the result")
    add(*_JSON, action="store_true", help="print the metrics as JSON")


@dataclass(frozen=True)
class _Ours:
    """What our own options ask for."""

    quiet: bool
    json: bool


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

    from featherweight.cli.training_options import log_to_stderr, silence_lightning

    trainers: list[lightning.Trainer] = []
    ours = _Ours(quiet=any(word in _QUIET for word in argv), json=any(word in _JSON for word in argv))
    argv = [word for word in argv if word not in (*_QUIET, *_JSON)]
    if ours.quiet:
        silence_lightning()
    try:
        with warnings.catch_warnings(), log_to_stderr(quiet=ours.quiet):
            # Lightning warns whoever passes `args` from a program that has arguments of its own.
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            # Lightning's own call of PyTorch.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
            _cli(verb, trainers, ours)(args=[verb, *argv], save_config_kwargs={"overwrite": True})
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
    _report(trainers[-1], as_json=ours.json)
    return 0


def _report(trainer: lightning.Trainer, *, as_json: bool) -> None:
    """Print what was measured last: of the epoch, for ``fit``."""
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if as_json:
        print_json(metrics)
        return
    width = max(map(len, metrics), default=0)
    for name, value in metrics.items():
        say(f"{name:<{width}}  {value:.6g}")


def _cli(verb: str, trainers: list[lightning.Trainer], ours: _Ours) -> type[LightningCLI]:
    """LightningCLI for one verb and any module and data; ``trainers`` receives its trainer."""
    import jsonargparse
    import torch
    from lightning.pytorch.cli import LightningCLI

    # Imported so that their bare names will do as class_path.
    import featherweight.training.callbacks
    import featherweight.training.module  # noqa: F401
    from featherweight.training.loggers import Guard
    from featherweight.training.progress import PhaseProgress

    class Help(RawDescriptionHelpFormatter, jsonargparse.DefaultHelpFormatter):
        """Lightning's options, and our examples as they stand."""

    about = VERBS[verb]
    described = {
        "description": f"{about.summary[0].upper()}{about.summary[1:]}, with Lightning.",
        "epilog": f"{_OUR_OPTIONS}\n\n{examples(about)}",
        "formatter_class": Help,
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
            trainer: Any = super().instantiate_trainer(**kwargs, **self._silent())
            wanted = self._get(self.config_init, "trainer").enable_progress_bar
            if verb == "fit" and not ours.quiet and wanted is not False:
                trainer.callbacks.append(PhaseProgress(verb, messages()))
            # One that fails does not stop the training.
            trainer.loggers = [logger for logger in trainer.loggers if Guard.of(logger).open()]
            trainers.append(trainer)
            return trainer

        def _silent(self) -> dict[str, Any]:
            """Progress is ours: Lightning's bar prints itself to pipes as well."""
            return {"enable_progress_bar": False} | ({"enable_model_summary": False} if ours.quiet else {})

        def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
            arguments: dict[str, Any] = super()._prepare_subcommand_kwargs(subcommand)
            return arguments if verb == "fit" else {**arguments, "verbose": False}

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
