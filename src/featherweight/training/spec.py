"""What ``featherweight run`` reads: one file with the model, the data, three phases and the recipe."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featherweight.data.root import resolve_data_root
from featherweight.errors import RecipeError
from featherweight.recipe import Recipe
from featherweight.strict import build, plain, read_mapping, write_mapping

LR_SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True)
class ClassSpec:
    """A class by its import path, and what to call it with.

    Attributes:
        class_path: such as ``featherweight.models.LeNet300``.
        init_args: keyword arguments.
    """

    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        """Import the class.

        Raises:
            RecipeError: where it cannot be imported.
        """
        module, _, name = self.class_path.rpartition(".")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise RecipeError(f"class_path {self.class_path!r} cannot be imported: {error}") from None

    def create(self, *args: Any, **more: Any) -> Any:
        """Call the class with ``init_args`` and what is given here.

        Raises:
            RecipeError: where it cannot be imported, or does not take these arguments.
        """
        cls = self.load()
        try:
            return cls(*args, **{**self.init_args, **more})
        except RecipeError as error:
            raise RecipeError(f"{self.class_path}: {error}") from None
        except (TypeError, ValueError, RuntimeError) as error:
            raise RecipeError(f"{self.class_path}: {error}; check init_args") from None


@dataclass(frozen=True)
class Distill:
    """Learn from what an earlier phase's network says of each image, beside its label.

    The loss is (1 − weight) · cross-entropy + weight · T² · KL(teacher ‖ student), both softened by the
    temperature T (G. Hinton, O. Vinyals, J. Dean, 2015).

    Attributes:
        teacher: the phase whose weights teach, such as ``fit``, the dense network.
        weight: of the teacher against the labels, 0 to 1.
        temperature: by which logits are divided, above 0.
        remember: ask the teacher once for every image, shift and mirroring, before the phase begins, and
            keep its answers in memory: faster for phases of more epochs than a shift has places.
    """

    teacher: str = "fit"
    weight: float = 0.5
    temperature: float = 1.0
    remember: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise RecipeError(f"weight is a fraction between 0 and 1, got {self.weight}")
        if not self.temperature > 0:
            raise RecipeError(f"temperature must be above 0, got {self.temperature}")


@dataclass(frozen=True)
class Phase:
    """One phase of training.

    Attributes:
        epochs: how long.
        lr: the learning rate at its start.
        lr_schedule: ``cosine`` falls to 0 over the phase, ``constant`` stays.
        optimizer: in place of the run's own.
        distill: learn from the network that an earlier phase left.
        adjust_dropout: let dropout before pruned layers fall with their connections (Han et al. 2015), in
            ``prune`` and ``share``; in place of ``true``, the layers that each dropout is before, by name.
        plain_epochs: at its end, in which the training images are neither shifted nor mirrored: a network
            that was augmented for long comes to the images that it is for (as Z. Ge et al., YOLOX, 2021, do
            with their strongest augmentations).
    """

    epochs: int
    lr: float
    lr_schedule: str = "cosine"
    optimizer: ClassSpec | None = None
    distill: Distill | None = None
    adjust_dropout: bool | dict[str, Any] = False
    plain_epochs: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise RecipeError(f"epochs must be at least 0, got {self.epochs}")
        if not 0 <= self.plain_epochs <= self.epochs:
            raise RecipeError(
                f"plain_epochs must be from 0 to the phase's {self.epochs} epochs, got {self.plain_epochs}"
            )
        if not self.lr > 0:
            raise RecipeError(f"lr must be above 0, got {self.lr}")
        if self.lr_schedule not in LR_SCHEDULES:
            raise RecipeError(f"unknown lr_schedule {self.lr_schedule!r}; known: {', '.join(LR_SCHEDULES)}")


@dataclass(frozen=True)
class RunSpec:
    """A whole run.

    Attributes:
        name: names the output and the result.
        model: any module that maps images to logits.
        data: an :class:`~featherweight.data.ImageData`.
        optimizer: of all phases that have none of their own; the phase gives ``lr``.
        fit: dense training; without it, or with 0 epochs, the network is pruned from scratch.
        prune: training while the recipe prunes; without it, nothing is pruned.
        share: training of shared weights; without it, weights are quantized once at the end.
        recipe: what happens to which tensor.
        weights: a checkpoint that ``fit`` starts from, of any kind that ``featherweight compress`` reads; a
            relative path is looked for beside the run file, then in the data root. Random weights unless
            given.
        channels_last: train convolutions on the channels-last layout, which is often faster.
        live_only: while pruned weights are held, compute only with units and inputs that have weights left:
            the same network but for the order of its sums, and faster where most of it is pruned.
        seed: of the weights, the order of the data and everything else that is random.
        threads: compute threads on the CPU; small networks are fastest on one. All cores unless given.
        trainer: further arguments of Lightning's ``Trainer``, such as ``precision`` or ``accelerator``;
            ``logger`` is ``tensorboard``, ``wandb``, a ``class_path`` with ``init_args``, or a list of such.
    """

    name: str
    model: ClassSpec
    data: ClassSpec
    optimizer: ClassSpec
    fit: Phase = field(default_factory=lambda: Phase(0, 1.0))
    prune: Phase | None = None
    share: Phase | None = None
    recipe: Recipe = field(default_factory=Recipe)
    weights: str | None = None
    channels_last: bool = False
    live_only: bool = False
    seed: int = 0
    threads: int | None = None
    trainer: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or Path(self.name).name != self.name:
            raise RecipeError(f"name must do as the name of a file, got {self.name!r}")
        if self.threads is not None and self.threads < 1:
            raise RecipeError(f"threads must be at least 1, got {self.threads}")
        earlier: list[str] = []
        for name, phase in self.phases().items():
            if phase.distill is not None and phase.distill.teacher not in earlier:
                known = ", ".join(earlier) or "there is none"
                raise RecipeError(
                    f"{name}.distill: no phase {phase.distill.teacher!r} comes before it; earlier: {known}"
                )
            earlier.append(name)
        if self.fit.adjust_dropout:
            raise RecipeError("fit: adjust_dropout is for prune and share; nothing is pruned yet")
        if self.weights is None and not any(phase.epochs for phase in self.phases().values()):
            raise RecipeError("no phase has epochs; give fit, or prune a network from scratch by prune")

    @classmethod
    def load(cls, path: str | Path) -> RunSpec:
        """Read a run file; ``recipe`` and ``weights`` may be paths relative to the file.

        Raises:
            RecipeError: for anything that cannot be meant as written, naming the file and the key.
        """
        path = Path(path)
        data = read_mapping(path)
        if isinstance(data.get("recipe"), str):
            data["recipe"] = Recipe.load(path.parent / data["recipe"]).to_dict()
        if isinstance(data.get("weights"), str) and (beside := path.parent / data["weights"]).exists():
            data["weights"] = str(beside.absolute())
        data.setdefault("name", path.stem)
        return build(cls, data, str(path))

    def save(self, path: str | Path) -> None:
        """Write the run file, the recipe in place."""
        write_mapping(plain(self), path)

    def weights_path(self) -> Path | None:
        """Where the weights are that training starts from."""
        return (
            None
            if self.weights is None
            else resolve_data_root(self.data.init_args.get("data_root")) / self.weights
        )

    def phases(self) -> dict[str, Phase]:
        """The phases that there are, by name, in order."""
        named = {"fit": self.fit, "prune": self.prune, "share": self.share}
        return {name: phase for name, phase in named.items() if phase is not None}

    def plain_epochs(self) -> frozenset[int]:
        """Epochs without augmentation, counted from the start of the first phase."""
        plain: set[int] = set()
        end = 0
        for phase in self.phases().values():
            end += phase.epochs
            plain.update(range(end - phase.plain_epochs, end))
        return frozenset(plain)


def read_model_and_data(path: str | Path) -> tuple[ClassSpec, ClassSpec]:
    """The network and the data set of a run file or of a configuration for ``featherweight fit``.

    Raises:
        RecipeError: where either is missing or malformed.
    """
    return read_model(path), _read_class(path, "data", "images")


def read_model(path: str | Path) -> ClassSpec:
    """The network of a run file, of a configuration for ``featherweight fit``, or of a file with it alone.

    Raises:
        RecipeError: where it is missing or malformed.
    """
    return _read_class(path, "model", "network")


def _read_class(path: str | Path, key: str, inner: str) -> ClassSpec:
    """The class under ``key``, or, of Lightning's configurations, under ``inner`` among its arguments."""
    value = read_mapping(path).get(key)
    if not isinstance(value, dict):
        raise RecipeError(f"{path}: {key} is missing; expected class_path and init_args under it")
    value = value["init_args"] if inner in (value.get("init_args") or {}) else value
    return build(ClassSpec, value.get(inner, value), f"{path}: {key}")
