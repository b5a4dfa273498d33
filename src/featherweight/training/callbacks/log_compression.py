"""Sparsity, compression and histograms of weights, for Lightning's loggers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lightning

from featherweight.analysis.coded_bits import coded_bits
from featherweight.errors import RecipeError
from featherweight.tensors import FLOAT_DTYPES
from featherweight.training.callbacks.iterative_pruning import IterativePruning
from featherweight.training.callbacks.quantization import Quantization
from featherweight.training.callbacks.recipe_callbacks import PruneByRecipe
from featherweight.training.loggers import log_histograms
from featherweight.training.module import plain_model

if TYPE_CHECKING:
    import torch

#: What other callbacks log under the same names.
_LOGGED_BY = {
    IterativePruning: ("sparsity",),
    PruneByRecipe: (),
    Quantization: ("bits", "compression_rate"),
}


class LogCompression(lightning.Callback):
    """Log how small the network is by now, to whatever loggers the trainer has.

    At the end of an epoch: ``sparsity`` and ``sparsity/NAME`` (fractions), ``bits/NAME`` (bits a weight,
    positions and codebook included, by Han's accounting) and ``compression_rate`` (dense bits over those),
    and histograms ``weights/NAME``, without zeros, to TensorBoard and W&B. NAMEs are those of weights of two
    dimensions or more. What another callback of the trainer logs under these names is left to it.

    Args:
        every_epochs: how often.
        histograms: whether to log them.
    """

    def __init__(self, every_epochs: int = 1, histograms: bool = True) -> None:
        super().__init__()
        if every_epochs < 1:
            raise RecipeError(f"every_epochs must be at least 1, got {every_epochs}")
        self.every_epochs = every_epochs
        self.histograms = histograms

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log, if it is time."""
        if not trainer.loggers or not trainer.is_global_zero:
            return
        if (trainer.current_epoch + 1) % self.every_epochs:
            return
        model = plain_model(pl_module)
        left_out = {name for kind, names in _LOGGED_BY.items() if _has(trainer, kind) for name in names}
        figures = compression_figures(model)
        if _has(trainer, PruneByRecipe):  # of what its rules prune
            figures.pop("sparsity")
        figures = {name: value for name, value in figures.items() if name.split("/")[0] not in left_out}
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step)
        if self.histograms:
            log_histograms(trainer.loggers, large_weights(model), trainer.global_step)


def _has(trainer: lightning.Trainer, kind: type[lightning.Callback]) -> bool:
    return any(isinstance(callback, kind) for callback in trainer.callbacks)  # type: ignore[attr-defined]


def large_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters of two dimensions or more, tied ones once, by name."""
    return {name: p.detach() for name, p in model.named_parameters() if p.ndim > 1 and p.is_floating_point()}


def compression_figures(model: torch.nn.Module) -> dict[str, float]:
    """Sparsity, bits a weight of each layer, and the compression rate of all parameters.

    Args:
        model: tied parameters count once; buffers are left out.
    """
    figures: dict[str, float] = {}
    dense = coded = zeros = total = 0
    large = large_weights(model)
    for name, parameter in model.named_parameters():
        bits = 8 * parameter.nbytes
        dense, total = dense + bits, total + parameter.numel()
        if name in large and str(parameter.dtype).removeprefix("torch.") in FLOAT_DTYPES:
            wide = parameter.detach().cpu()
            array = (wide.float() if str(wide.dtype) == "torch.bfloat16" else wide).numpy()
            pruned = int((array == 0).sum())
            bits = min(bits, coded_bits(array))
            zeros += pruned
            figures[f"sparsity/{name}"] = pruned / max(1, array.size)
            figures[f"bits/{name}"] = bits / max(1, array.size)
        coded += bits
    figures["sparsity"] = zeros / max(1, total)
    figures["compression_rate"] = dense / max(1, coded)
    return figures
