"""A whole run: fit, prune, share, encode, verify, test; everything in one directory."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file as load_safetensors
from torch.nn.functional import cross_entropy

from featherweight.accuracy_bounded import is_bounded
from featherweight.analysis.report import REPORT, write_report
from featherweight.analysis.results import Result, Validation
from featherweight.analysis.sizes import measure_file
from featherweight.channel_rules import check_channel_rules, prune_channels_by, removes_channels
from featherweight.compression import encode_state
from featherweight.errors import FormatError, OutputError, RecipeError
from featherweight.fileformat import FileReader
from featherweight.files import load_file, load_model, load_state, save_file
from featherweight.interop.checkpoints import read_checkpoint
from featherweight.interop.safetensors import write_safetensors
from featherweight.rule_targets import rules_to_prune
from featherweight.strict import read_mapping, write_mapping
from featherweight.training.evaluate import evaluate
from featherweight.training.loggers import RunLoggers
from featherweight.training.metrics import METRICS
from featherweight.training.phases import check_phases, seed_all, train_phase
from featherweight.training.progress import LoggedProgress
from featherweight.training.spec import RunSpec
from featherweight.training_steps import settled_for_training
from featherweight.unit_rules import arrange, check_recipe_units

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from featherweight.data import ImageData

logger = logging.getLogger(__name__)


class Run:
    """A run and the directory that holds all of it.

    Files: ``run.yaml`` (the run file with its recipe), ``fit.safetensors``, ``prune.safetensors`` and
    ``share.safetensors`` (the weights after each phase), ``channels.safetensors`` (the network after its
    channels were removed, if a rule says so), ``checkpoints/`` (of the phase at work), ``metrics.csv`` (a
    line an epoch), ``state.json``, ``bits.yaml`` (of tensors with ``bits: auto``), ``accuracy_bounded.json``
    (the steps of such a schedule), the compressed file ``NAME.fwt``, ``validation.json`` (where it stopped
    before the test), ``result.json`` and ``report.html``.

    Args:
        spec: what to do.
        directory: where.
    """

    def __init__(self, spec: RunSpec, directory: Path) -> None:
        self.spec = spec
        self.directory = directory
        self._new = False
        self._loggers = RunLoggers()
        self._answers: dict[str, torch.Tensor] = {}  # of teachers, asked once for all phases

    @classmethod
    def create(cls, spec: RunSpec, directory: Path, *, replace: bool = False) -> Run:
        """A run in a directory that is new or empty.

        Nothing is written before ``execute`` has found that the parts of the run fit together.

        Args:
            spec: what to do.
            directory: where.
            replace: start anew where the directory holds a run.

        Raises:
            OutputError: where the directory holds something else.
        """
        taken = directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
        if taken and not (replace and (directory / "run.yaml").is_file()):
            raise OutputError(_taken(directory))
        run = cls(spec, directory)
        run._new = True
        return run

    @classmethod
    def resume(cls, directory: Path) -> Run:
        """Take up a run where it stopped.

        Raises:
            RecipeError: where the directory holds no run.
        """
        if not (directory / "run.yaml").is_file():
            raise RecipeError(
                f"{directory}: holds no run to resume (run.yaml is missing); "
                f"give the directory of a run, or start one with featherweight run FILE"
            )
        return cls(RunSpec.load(directory / "run.yaml"), directory)

    @property
    def file(self) -> Path:
        """The compressed file."""
        return self.directory / f"{self.spec.name}.fwt"

    def execute(self, console: Console | None = None) -> Result:
        """Go through what is left of the run, and test the file.

        Raises:
            FeatherweightError: where the parts of the run do not fit together, training diverged or a
                file cannot be written.
            KeyboardInterrupt: where the user stopped it; ``resume`` goes on.
        """
        with self._loggers:
            result = self._test(self._make_file(console))
            self._finish(result, "result.json")
        return result

    def execute_without_test(self, console: Console | None = None) -> Validation:
        """Go through what is left of the run but the test, and try the file on the validation images.

        The test set stays unseen while epochs, sparsity and bits are chosen; :meth:`execute` tests later.

        Raises:
            RecipeError: where there are no validation images.
            FeatherweightError: as :meth:`execute`.
            KeyboardInterrupt: likewise.
        """
        if not len(self._images().validation_batches()):
            raise RecipeError("there are no validation images to try the file on: set data.validation_split")
        with self._loggers:
            validation = self._validate(self._make_file(console))
            self._finish(validation, "validation.json")
        return validation

    def _make_file(self, console: Console | None) -> ImageData:
        """Train and write the file; the data set."""
        if self.spec.threads is not None:
            torch.set_num_threads(self.spec.threads)
        images = self._images()
        network = self._network()
        self._start_from_weights(network)
        # What does not fit must not be found out after hours of training.
        rules = rules_to_prune(network, self.spec.recipe)
        check_recipe_units(network, self.spec.recipe)
        check_phases(self.spec, network)
        check_shapes(network, images)
        if is_bounded([r for r, _ in rules]) and self.spec.prune and not len(images.validation_batches()):
            raise RecipeError(
                "an accuracy_bounded schedule needs validation images; give the data a validation_split"
            )
        check_channel_rules(network, self.spec.recipe, next(iter(images.train_batches()))[0])
        self._loggers.make(self.spec, self.directory)
        self._begin()
        self._loggers.open()
        for name in self.spec.phases():
            if name == "share":
                self._choose_bits(network, images)
            self._phase(name, network, images, console)
        self._choose_bits(network, images)
        self._encode(network)
        return images

    def _begin(self) -> None:
        """Make the directory of a new run."""
        if not self._new:
            return
        if (self.directory / "run.yaml").is_file():
            shutil.rmtree(self.directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        part = self.directory / "run.part.yaml"
        self.spec.save(part)
        part.replace(self.directory / "run.yaml")
        self._new = False

    def _images(self) -> ImageData:
        images: ImageData = self.spec.data.create()
        if not hasattr(images, "train_batches"):
            raise RecipeError(f"data: {self.spec.data.class_path} is no featherweight.data.ImageData")
        if plain := self.spec.plain_epochs():
            images.train_batches().plain_epochs = plain
        return images

    def _network(self) -> torch.nn.Module:
        seed_all(self.spec.seed)
        network = self.spec.model.create()
        if not isinstance(network, torch.nn.Module):
            raise RecipeError(f"model: {self.spec.model.class_path} makes no torch.nn.Module")
        return network

    def _start_from_weights(self, network: torch.nn.Module) -> None:
        path = self.spec.weights_path()
        if path is None or (self.directory / "fit.safetensors").exists():
            return
        load_state(network, read_checkpoint(path), str(path))

    def _phase(self, name: str, network: torch.nn.Module, images: ImageData, console: Console | None) -> None:
        done = self.directory / f"{name}.safetensors"
        if name == "prune":
            self._remove_channels(network, images)
        if not done.exists():
            checkpoint = self.directory / "checkpoints" / f"{name}.ckpt"
            more = self._teacher(name), self._answers, self.directory / METRICS, self._loggers
            began = time.perf_counter()
            try:
                train_phase(name, self.spec, network, images, checkpoint, console, *more)
            finally:
                self._add_seconds(name, time.perf_counter() - began)
            write_safetensors(network.state_dict(), done)
            checkpoint.unlink(missing_ok=True)
        network.load_state_dict(load_safetensors(done))

    def _choose_bits(self, network: torch.nn.Module, images: ImageData) -> None:
        """Choose the bits of tensors once, on training images: a run that is resumed finds them."""
        if not self.spec.recipe.undecided:
            return
        done = self.directory / "bits.yaml"
        if not done.exists():
            batches = images.train_batches()
            batches.set_epoch(0)
            chosen = settled_for_training(
                network,
                self.spec.recipe,
                data=batches,
                loss=cross_entropy,
                trained="share" in self.spec.phases(),
                progress=LoggedProgress(logger.info),
            )
            part = self.directory / "bits.part.yaml"
            write_mapping(chosen.bits, part)
            part.replace(done)
        bits = read_mapping(done)
        self.spec = replace(self.spec, recipe=replace(self.spec.recipe, bits=bits))

    def _teacher(self, phase: str) -> torch.nn.Module | None:
        """The network that a phase learns from, as an earlier phase left it."""
        distill = self.spec.phases()[phase].distill
        if distill is None:
            return None
        teacher = self._network()
        weights = self.directory / f"{distill.teacher}.safetensors"
        load_state(teacher, load_safetensors(weights), str(weights))
        return teacher

    def _remove_channels(self, network: torch.nn.Module, images: ImageData) -> None:
        """Remove channels before the phase trains on, once: a run that is resumed finds what is left."""
        if not any(map(removes_channels, self.spec.recipe.rules)):
            return
        done = self.directory / "channels.safetensors"
        if not done.exists():
            prune_channels_by(network, self.spec.recipe, images.train_batches(), seed=self.spec.seed)
            write_safetensors(network.state_dict(), done)
        load_state(network, load_safetensors(done), str(done))

    def _encode(self, network: torch.nn.Module) -> None:
        """Write the file and make sure that it decodes to the network, bit for bit."""
        arrange(network, self.spec.recipe)
        tensors = encode_state(network, self.spec.recipe)
        size = save_file(tensors, self.file, coder=self.spec.recipe.code.coder)
        budget = self.spec.recipe.budget
        if budget is not None and budget.file_bytes is not None and size > budget.file_bytes:
            logger.warning(
                "%s has %d bytes, %d more than its budget: trained values took more than expected",
                self.file,
                size,
                size - budget.file_bytes,
            )
        with FileReader(self.file) as reader:
            reader.verify()
        if "share" not in self.spec.phases():
            return  # quantized just now: the network has never been other than what the file holds
        for name, decoded in load_file(self.file).items():
            expected = network.state_dict()[name]
            if not torch.equal(_bits(decoded), _bits(expected)):
                raise FormatError(f"{self.file}: tensor {name}: does not decode to the trained weights")

    def _test(self, images: ImageData) -> Result:
        """Test the dense network and the compressed file, the latter straight from the file."""
        dense, compressed = self._dense_and_compressed()
        batches = images.test_batches()
        with FileReader(self.file) as reader:
            sizes = measure_file(reader)
        # Channels that have gone count as what they were.
        dense_bytes = dense_size(dense)
        gone = dense_bytes / sizes.dense_bytes
        return Result(
            name=self.spec.name,
            model=type(compressed).__name__,
            dataset=images.name,
            error_dense_percent=(
                evaluate(dense, batches).error_percent if self.spec.fit.epochs or self.spec.weights else None
            ),
            error_percent=evaluate(compressed, batches).error_percent,
            bytes=sizes.file_bytes,
            dense_bytes=dense_bytes,
            ratio=sizes.ratio * gone,
            ratio_h=sizes.ratio_h * gone,
            ratio_n=sizes.ratio_n * gone,
            seconds=sum(self._seconds().values()),
            seed=self.spec.seed,
            command=f"featherweight run {shlex.quote(f'recipes/{self.spec.name}.yaml')}",
            file=self.file.name,
        )

    def _validate(self, images: ImageData) -> Validation:
        dense, compressed = self._dense_and_compressed()
        batches = images.validation_batches()
        size, dense_bytes = self.file.stat().st_size, dense_size(dense)
        return Validation(
            name=self.spec.name,
            dataset=images.name,
            images=batches.num_images,
            error_dense_percent=(
                evaluate(dense, batches).error_percent if self.spec.fit.epochs or self.spec.weights else None
            ),
            error_percent=evaluate(compressed, batches).error_percent,
            bytes=size,
            dense_bytes=dense_bytes,
            ratio=dense_bytes / size,
            seconds=sum(self._seconds().values()),
            seed=self.spec.seed,
            file=self.file.name,
        )

    def _dense_and_compressed(self) -> tuple[torch.nn.Module, torch.nn.Module]:
        """The network after ``fit``, and the one in the file."""
        dense, compressed = self._network(), self._network()
        dense.load_state_dict(load_safetensors(self.directory / "fit.safetensors"))
        load_model(compressed, self.file)
        return dense, compressed

    def _finish(self, outcome: Result | Validation, name: str) -> None:
        """Write down what came of the run, draw its page and log both; with that the run is done."""
        figures = asdict(outcome)
        _write_json(self.directory / name, figures)
        try:
            write_report(self.directory, self.directory / REPORT, overwrite=True)
        except Exception as error:
            logger.warning("the report was not written (%s); featherweight report tries again", error)
        self._loggers.finish(figures, self.directory)

    def _seconds(self) -> dict[str, float]:
        path = self.directory / "state.json"
        seconds: dict[str, float] = json.loads(path.read_text())["seconds"] if path.exists() else {}
        return seconds

    def _add_seconds(self, phase: str, seconds: float) -> None:
        spent = self._seconds()
        spent[phase] = spent.get(phase, 0.0) + seconds
        _write_json(self.directory / "state.json", {"seconds": spent})


def _taken(directory: Path) -> str:
    if not directory.is_dir():
        return f"{directory}: exists and is no directory; choose another"
    if not (directory / "run.yaml").is_file():
        return f"{directory}: exists and is not empty; choose another directory"
    return f"{directory}: exists; --resume {directory} goes on with it, --force starts it anew"


def dense_size(network: torch.nn.Module) -> int:
    """Bytes of a network's tensors, each at its own dtype, tied ones once."""
    distinct = {tensor.data_ptr(): tensor for tensor in network.state_dict().values()}
    return sum(tensor.nbytes for tensor in distinct.values())


@torch.no_grad()
def check_shapes(network: torch.nn.Module, images: ImageData) -> None:
    """Make sure that the network takes the data set's images and tells its classes apart.

    Raises:
        RecipeError: saying what it takes or gives.
    """
    inputs, _ = next(iter(images.train_batches()))
    training = network.training
    try:
        logits = network.eval()(inputs[:1])
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        shape = tuple(inputs.shape[1:])
        raise RecipeError(
            f"model: {type(network).__name__} does not take images {shape} of {images.name}: {error}"
        ) from None
    network.train(training)
    if tuple(logits.shape[:1]) != (1,) or logits.ndim != 2 or logits.shape[1] < images.num_classes:
        raise RecipeError(
            f"model: {type(network).__name__} must give logits (N, {images.num_classes}) "
            f"for {images.name}, it gives {('N', *logits.shape[1:])}".replace("'", "")
        )


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    part.replace(path)
