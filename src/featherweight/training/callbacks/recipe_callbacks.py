"""A recipe followed while Lightning trains: the callbacks behind ``featherweight run``."""

from __future__ import annotations

import logging
from collections.abc import Callable  # noqa: TC003
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch  # noqa: TC002  (Lightning's command line reads the annotations at run time)
from torch.nn.functional import cross_entropy

from featherweight.accuracy_bounded import is_bounded
from featherweight.constraints import Incremental, Latent, Mask, Sharing, Surgery
from featherweight.pruning import Calibration, any_in_group, sparsity
from featherweight.recipe import read_recipe
from featherweight.rule_targets import rules_for, rules_to_prune
from featherweight.selection import prune_rules, targets_of
from featherweight.sharing import RuleWeights, relabel_rules
from featherweight.training.calibration import calibration_batches, undisturbed
from featherweight.training.callbacks.bounded import BoundedEpochs
from featherweight.training.callbacks.constrained import ConstrainedCallback
from featherweight.training.module import plain_model
from featherweight.training.progress import LoggedProgress
from featherweight.training_steps import settled_for_training, share_by
from featherweight.unit_rules import remove_dead_units

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import lightning

    from featherweight.pruning import Loss, Progress
    from featherweight.recipe import Prune, Rule

logger = logging.getLogger(__name__)

#: Training samples whose gradients tell the importance of weights, where a rule asks for ``weights: fisher``.
FISHER_SAMPLES = 1024


class PruneByRecipe(ConstrainedCallback):
    """Prune as the rules' schedules say, counting epochs from the start of this training.

    An importance that needs data gets training batches, the same in every run: those that the trainer's
    loader gives at the start of the epoch, or of a ``DataLoader`` a sample drawn by ``seed``.

    Args:
        recipe: a recipe, its path, or what YAML gives for it; rules without ``prune`` are passed over,
            and those that remove channels: they are gone by now.
        loss: ``loss(network(inputs), targets)`` for such an importance; cross-entropy unless given.
        progress: told how far the scores are; a line in the log now and then unless given.
        seed: of the calibration batches.
        journal: file for the steps of ``accuracy_bounded`` schedules, as JSON. These ask the trainer's
            validation batches, and end the training when no layer gives any more.
        tell: takes a line about every such step; it goes to the log unless given.

    Logs ``sparsity``, the fraction pruned of all that the rules prune, at every epoch.
    """

    kind = (Mask, Surgery)

    def __init__(
        self,
        recipe: Any,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        progress: Callable[[str, int, int], None] | None = None,
        seed: int = 0,
        journal: str | None = None,
        tell: Callable[[str], object] | None = None,
    ) -> None:
        super().__init__()
        self.recipe = read_recipe(recipe)
        self.loss: Loss = loss or cross_entropy
        self._bounded: BoundedEpochs | None = None
        if is_bounded([r for r in self.recipe.rules if r.prune is None or not r.prune.removes_channels]):
            self._bounded = BoundedEpochs(journal, tell or logger.info)
        self.progress: Progress = progress or LoggedProgress(logger.info)
        self.seed = seed
        self._rules: list[tuple[Rule, dict[str, torch.nn.Parameter]]] = []
        self._done: dict[str, float] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Find out which parameters each rule is for."""
        super().on_train_start(trainer, pl_module)
        self._rules = rules_to_prune(plain_model(pl_module), self.recipe)
        if self._bounded is not None:
            self._bounded.start(trainer, pl_module, self._rules, self.constraints)
            self._further(trainer, pl_module, at_start=True)

    def _further(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *, at_start: bool
    ) -> None:
        """Prune the next layer within the bound, if its turn has come."""
        assert self._bounded is not None  # noqa: S101  (callers ask)
        needs_data = any(rule.prune is not None and rule.prune.needs_data for rule, _ in self._rules)
        calibration = None
        if needs_data:
            batches = calibration_batches(trainer, self.seed)
            calibration = Calibration(plain_model(pl_module), batches, self.loss, self.progress)
        with undisturbed(self.seed):
            self._bounded.further(trainer, calibration, at_start=at_start)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Prune further where a schedule is ahead of the masks."""
        if self._bounded is not None:
            return
        epoch = trainer.current_epoch + batch_idx / trainer.num_training_batches
        due = []
        for rule, weights in self._rules:
            reached = _progress(rule.prune, epoch, trainer.global_step)
            if reached is not None and self._done.get(rule.label) != reached:
                due.append((rule, weights))
                self._done[rule.label] = reached
        if due:
            self._prune(trainer, plain_model(pl_module), due, epoch)

    def _prune(
        self,
        trainer: lightning.Trainer,
        network: torch.nn.Module,
        rules: list[tuple[Rule, dict[str, torch.nn.Parameter]]],
        epoch: float,
    ) -> None:
        def prune() -> None:
            batches = calibration_batches(trainer, self.seed)
            with undisturbed(self.seed):
                calibration = Calibration(network, batches, self.loss, self.progress)
                prune_rules(rules, self.constraints, epoch, calibration)

        if any(rule.prune is not None and rule.prune.needs_data for rule, _ in rules):
            self.on_first_rank(trainer, network, prune)
        else:
            prune()
        remove_dead_units(self.recipe, self.constraints)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say so where training ended before a schedule did."""
        if self._bounded is not None:
            return
        for rule, weights in self._rules:
            if rule.prune is None or not rule.prune.has_target:
                continue
            wanted, reached = self._shares(rule.prune, weights)
            if reached < wanted - 0.005:
                logger.warning("%s: pruned %.3f, not %.3f: too few epochs", rule.label, reached, wanted)

    def _shares(self, spec: Prune, weights: Mapping[str, torch.nn.Parameter]) -> tuple[float, float]:
        """The fractions of a rule's groups that its schedule wants pruned, and that are."""
        targets = targets_of(spec, {name: tuple(weight.shape) for name, weight in weights.items()}, None)
        masks = [self.constraints.mask(name) for name in weights]
        left = [any_in_group(mask, spec.granularity) for mask in masks if mask is not None]
        total = sum(mask.numel() for mask in left)
        if not total:
            return 0.0, 0.0
        pruned = total - sum(int(mask.sum()) for mask in left)
        return sum(count for _, count in targets) / total, pruned / total

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log sparsity; keep what was tried within a bound, or take it back."""
        everything = {name: w for _, weights in self._rules for name, w in weights.items()}
        masks = {name: self.constraints.mask(name) for name in everything}
        pruned = sparsity({name: mask for name, mask in masks.items() if mask is not None})
        pl_module.log("sparsity", pruned, prog_bar=True)
        if self._bounded is not None and self._bounded.epoch_ended(trainer, pl_module):
            self._further(trainer, pl_module, at_start=False)

    def state_dict(self) -> dict[str, Any]:
        """Masks, and how far each schedule has come."""
        state = {"masks": super().state_dict(), "done": dict(self._done)}
        return state if self._bounded is None else {**state, "bounded": self._bounded.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until training starts."""
        super().load_state_dict(state_dict["masks"])
        self._done = dict(state_dict["done"])
        if self._bounded is not None:
            self._bounded.load_state_dict(state_dict["bounded"])


def _progress(spec: Prune | None, epoch: float, step: int) -> float | None:
    """How far a schedule is, a number that changes where it prunes; ``None`` where it does not look."""
    if spec is None:
        return None
    if spec.schedule.kind == "cubic":
        return None if step % spec.schedule.every_steps else spec.schedule.sparsity_at(epoch, 1.0)
    return spec.schedule.prunings(epoch)


class ShareByRecipe(ConstrainedCallback):
    """Cluster the weights when training starts and train the shared values.

    Args:
        recipe: a ``Recipe``, its path, or the mapping that YAML gives for it; weights of rules that only
            prune stay pruned, others are left alone.
    """

    kind = (Mask, Sharing, Latent)

    def __init__(self, recipe: Any) -> None:
        super().__init__()
        self.recipe = read_recipe(recipe)
        self._rules: list[RuleWeights] = []
        self._epoch: int | None = None  # whose start has been seen to

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Choose bits and cluster, unless a checkpoint held the clusters."""
        resumed = self._restored is not None
        super().on_train_start(trainer, pl_module)
        model = plain_model(pl_module)
        self._rules = list(rules_for(model, self.recipe))
        if resumed:
            return
        self._epoch = trainer.current_epoch
        if self._needs_data():
            bits = self.on_first_rank(trainer, model, lambda: self._share(trainer, pl_module))
            self.recipe = replace(self.recipe, bits=bits)
        else:
            self._share(trainer, pl_module)
        for rule, weights in rules_to_prune(model, self.recipe):
            if rule.quantize is None:
                for name, weight in weights.items():
                    self.constraints.set_mask(name, weight.detach() != 0)

    def _share(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> dict[str, int]:
        """Choose bits and cluster; the bits of ``bits: auto``."""
        model = plain_model(pl_module)
        data = list(self._some_batches(trainer, pl_module)) if self._needs_data() else None
        loss = cross_entropy if data is not None else None
        optimizer = trainer.optimizers[0] if trainer.optimizers else None
        recipe = settled_for_training(
            model,
            self.recipe,
            optimizer=optimizer,
            data=data,
            loss=loss,
            progress=LoggedProgress(logger.info),
        )
        share_by(recipe, model, self.constraints, optimizer=optimizer, data=data, loss=loss)
        return dict(recipe.bits)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Do what rules say of a later epoch's start.

        Not in the hook of that name: Lightning leaves it out after a checkpoint of an epoch's last step.
        """
        if trainer.current_epoch != self._epoch:
            self._epoch = trainer.current_epoch
            relabel_rules(self._rules, self.constraints, self.recipe.bits)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say so where training ended before all weights had taken a shared value."""
        for name in self.constraints:
            latent = self.constraints.latent(name)
            if isinstance(latent, Incremental):
                logger.warning(
                    "%s: %.1f %% of the weights share values: fewer epochs than stages of incremental",
                    name,
                    100 * latent.fraction,
                )

    def state_dict(self) -> dict[str, Any]:
        """Clusters, and the bits that were chosen."""
        return {"constraints": super().state_dict(), "bits": dict(self.recipe.bits), "epoch": self._epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until training starts."""
        super().load_state_dict(state_dict["constraints"])
        self._epoch = state_dict.get("epoch")
        if self.recipe.undecided:
            self.recipe = replace(self.recipe, bits=dict(state_dict["bits"]))

    def _needs_data(self) -> bool:
        if self.recipe.undecided:
            return True
        return any(r.quantize is not None and r.quantize.weights == "fisher" for r in self.recipe.rules)

    @staticmethod
    def _some_batches(
        trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Training batches of as many samples as the Fisher diagonal takes."""
        samples = 0
        for inputs, targets in _as_batches(trainer.train_dataloader):
            yield inputs.to(pl_module.device), targets.to(pl_module.device)
            samples += len(targets)
            if samples >= FISHER_SAMPLES:
                return


def _as_batches(loader: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    yield from loader
