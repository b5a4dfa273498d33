"""Two processes that each see half of the data prune and share alike, whatever they weigh by."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import lightning
import pytest
import torch
from training_helpers import LIGHTNING_WARNINGS, Trained, digits, network

from featherweight.constraints import Constraints
from featherweight.training.callbacks import PruneByRecipe, ShareByRecipe

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.filterwarnings(warning) for warning in LIGHTNING_WARNINGS]

#: Prunes further in the midst of training, when there is momentum.
SCHEDULE = {"kind": "cubic", "epochs": 0.5, "every_steps": 1}
PRUNE = {
    "rules": [
        {"match": "fc1.weight", "prune": {"importance": "taylor1", "sparsity": 0.5, "schedule": SCHEDULE}}
    ]
}
SHARE = {
    "rules": [{"match": "fc2.weight", "quantize": {"bits": "auto", "weights": "fisher", "init": "optimal"}}],
    "budget": {"mean_bits": 3},
}


class Keep(lightning.Callback):
    """Writes down what each process ends with."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 0:
            self.keep(trainer, pl_module, "start")

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.keep(trainer, pl_module, "end")

    def keep(self, trainer: Any, pl_module: Any, when: str) -> None:
        constraints = Constraints.attached_to(trainer.optimizers[0])
        assert constraints is not None
        state = {"weights": dict(pl_module.state_dict()), "constraints": constraints.state_dict()}
        torch.save(state, self.directory / f"{when}-{trainer.global_rank}.pt")


def test_both_end_with_the_same(tmp_path: Path) -> None:
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp_spawn",
        max_epochs=1,
        limit_train_batches=4,
        callbacks=[PruneByRecipe(PRUNE), ShareByRecipe(SHARE), Keep(tmp_path)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=str(tmp_path),
    )
    module = Trained(network(), partial(torch.optim.SGD, lr=0.01, momentum=0.9))
    trainer.fit(module, digits(64).train_batches())
    for when in ("start", "end"):
        first, second = (torch.load(tmp_path / f"{when}-{rank}.pt", weights_only=True) for rank in (0, 1))
        assert first["constraints"].keys() == second["constraints"].keys() == {"fc1.weight", "fc2.weight"}
        for name, held in first["constraints"].items():
            for field, value in held.items():
                other = second["constraints"][name][field]
                same = torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
                assert same, f"{when}: {name}: {field}"
        for name, weight in first["weights"].items():
            assert torch.equal(weight, second["weights"][name]), f"{when}: {name}"
