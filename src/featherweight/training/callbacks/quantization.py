"""Trained quantization by weight sharing as a Lightning callback."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from featherweight.coding import paper_sizes
from featherweight.constraints import Sharing
from featherweight.errors import RecipeError
from featherweight.quantization import INITIALIZATIONS
from featherweight.recipe import Quantize
from featherweight.sharing import quantize
from featherweight.training.callbacks.constrained import ConstrainedCallback, select_parameters
from featherweight.training.module import plain_model

if TYPE_CHECKING:
    import lightning

logger = logging.getLogger(__name__)

FUNCTIONS = tuple(INITIALIZATIONS)


class Quantization(ConstrainedCallback):
    """Share weights by k-means at the start of an epoch and train the shared values from there on.

    Args:
        epoch: the epoch at whose start weights are clustered, counted from 0.
        quantization_fn: where k-means starts: ``linear``, ``density``, ``forgy``, ``k-means++`` or
            ``optimal``; also as ``linear_quantization`` and so on.
        parameter_names: parameters to quantize within a layer; ``["weight"]`` unless given.
        filter_layers: class names of the layers to quantize, such as ``["Linear", "Conv2d"]``.
        bits: a codebook holds 2^bits values, 1 to 8, one of them the zero of pruned weights.
        huffman_encode: also count the bits that Huffman codes take.
        verbose: 1 logs the overall compression rate after clustering, 2 that of each parameter too.
        seed: for ``forgy`` and ``k-means++``.

    Logs ``compression_rate`` and ``bits/NAME`` (bits a weight, positions and codebook included, and with
    ``huffman_encode`` ``compression_rate_huffman``) to the trainer's loggers at every epoch from then on.
    """

    kind = Sharing

    def __init__(
        self,
        epoch: int,
        quantization_fn: str = "linear",
        parameter_names: list[str] | None = None,
        filter_layers: list[str] | None = None,
        bits: int = 5,
        huffman_encode: bool = False,
        verbose: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        init = quantization_fn.removesuffix("_quantization")
        if init not in FUNCTIONS:
            raise RecipeError(f"unknown quantization_fn {quantization_fn!r}; known: {', '.join(FUNCTIONS)}")
        if epoch < 0:
            raise RecipeError(f"epoch must be at least 0, got {epoch}")
        self.spec = Quantize(bits=bits, init=init, seed=seed)
        self.epoch = epoch
        self.parameter_names = parameter_names or ["weight"]
        self.filter_layers = filter_layers
        self.huffman_encode = huffman_encode
        self.verbose = verbose

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Cluster the weights if this is the epoch."""
        if trainer.current_epoch != self.epoch:
            return
        model = plain_model(pl_module)
        for name, parameter in select_parameters(model, self.parameter_names, self.filter_layers).items():
            shared = quantize(name, parameter, self.spec)
            self.constraints.set_sharing(name, shared, fixed_zero=True)
        self._report()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log compression rates and bits a weight."""
        values = self._sizes()
        if values:
            pl_module.log_dict(values)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say so where training ended before the epoch came."""
        if not any(map(self.constraints.is_shared, self.constraints)):
            logger.warning("training ended before epoch %d: nothing was quantized", self.epoch)

    def _sizes(self) -> dict[str, float]:
        weights, fixed, coded, values = 0, 0, 0, {}
        for name in self.constraints:
            shared = self.constraints.quantized(name)
            if shared is None:
                continue
            sizes = paper_sizes(shared.indices, shared.codebook.size)
            weights += sizes.numel
            fixed += sizes.total_bits_pq
            coded += sizes.total_bits_pqh
            total = sizes.total_bits_pqh if self.huffman_encode else sizes.total_bits_pq
            values[f"bits/{name}"] = total / sizes.numel
        if not weights:
            return {}
        values["compression_rate"] = 32 * weights / fixed
        if self.huffman_encode:
            values["compression_rate_huffman"] = 32 * weights / coded
        return values

    def _report(self) -> None:
        values = self._sizes()
        if self.verbose >= 1:
            logger.info("epoch %d: shared the weights, %.1f× smaller", self.epoch, values["compression_rate"])
            if self.huffman_encode:
                logger.info("  %.1f× with Huffman coding", values["compression_rate_huffman"])
        if self.verbose >= 2:
            for name, bits in values.items():
                if name.startswith("bits/"):
                    logger.info("  %s: %.3f bits a weight", name.removeprefix("bits/"), bits)
