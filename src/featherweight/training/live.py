"""Computing only with the units and inputs that pruning has left: the same network, in less time.

At 98 % sparsity most rows and columns of a layer hold no weight at all. A matrix of those that do gives the
same outputs, and the same gradients of the weights that are left, with a fraction of the products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning
import torch
from torch.nn import functional as F

from featherweight.constraints import Constraints, Incremental, Mask, Relabelled, Sharing
from featherweight.training.module import plain_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from featherweight.constraints import Constraint

#: Share of a layer's products up to which leaving out the others is worth gathering what is left.
WORTH_IT = 0.75


class LiveOnly(lightning.Callback):
    """Let linear and convolutional layers compute with what their masks leave, while a network trains.

    Goes after the callbacks that prune or share: it looks, before every step, whether masks are new ones.
    Layers whose pruned weights may come back (surgery, ternary weights) are left alone. The
    network's layers are as before when training ends, however it ends.
    """

    def __init__(self) -> None:
        self._seen: dict[str, Constraint | None] = {}
        self._changed: list[torch.nn.Module] = []

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look for layers whose masks are new."""
        optimizers = [o for o in trainer.optimizers if isinstance(o, torch.optim.Optimizer)]
        attached = [c for c in map(Constraints.attached_to, optimizers) if c is not None]
        if not attached:
            return
        for name, layer in _layers(plain_model(pl_module)):
            found = attached[0].constraint(f"{name}.weight")
            if found is not self._seen.get(name):
                self._seen[name] = found
                self._refresh(layer, found)

    def _refresh(self, layer: torch.nn.Module, found: Constraint | None) -> None:
        layer.__dict__.pop("forward", None)
        keep = kept(found)
        live = None if keep is None else LiveLayer(layer, keep)
        if live is not None and live.share <= WORTH_IT:
            layer.__dict__["forward"] = live
            self._changed.append(layer)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Give the layers back their own forward."""
        self._undo()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Give the layers back their own forward."""
        self._undo()

    def _undo(self) -> None:
        for layer in self._changed:
            layer.__dict__.pop("forward", None)
        self._changed, self._seen = [], {}


class LiveLayer:
    """The forward of a layer whose weights are zero outside of some rows and columns.

    Args:
        layer: a ``Linear``, or a ``Conv2d`` of one group.
        keep: bool, in its weight's shape, false where the weight is zero and stays zero.

    Attributes:
        share: of the layer's products that are left, 0 to 1.
    """

    def __init__(self, layer: torch.nn.Module, keep: torch.Tensor) -> None:
        cells = keep.flatten(2).any(2) if keep.ndim > 2 else keep
        self._layer = layer
        self._rows, self._columns = cells.any(1).nonzero()[:, 0], cells.any(0).nonzero()[:, 0]
        self._outputs, self._inputs = cells.shape
        left = len(self._rows) * len(self._columns)
        # A layer without any weight computes as it always has.
        self.share = left / cells.numel() if left else 1.0

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """What the layer gives for ``inputs``, ``(N, inputs)`` or ``(N, inputs, H, W)``."""
        layer: Any = self._layer
        weight, bias = layer.weight, layer.bias
        if inputs.ndim != weight.ndim:  # one image, or a sequence
            return type(layer).forward(layer, inputs)  # type: ignore[no-any-return]
        if len(self._columns) < self._inputs:
            inputs = inputs.index_select(1, self._columns)
            weight = weight.index_select(1, self._columns)
        if len(self._rows) == self._outputs:
            return self._product(layer, inputs, weight, bias)
        weight = weight.index_select(0, self._rows)
        product = self._product(layer, inputs, weight, None if bias is None else bias[self._rows])
        shape = (product.shape[0], self._outputs, *product.shape[2:])
        rest = product.new_zeros(()) if bias is None else bias.view(-1, *[1] * (product.ndim - 2))
        return rest.expand(shape).index_copy(1, self._rows, product)

    @staticmethod
    def _product(
        layer: Any, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        if isinstance(layer, torch.nn.Linear):
            return F.linear(inputs, weight, bias)
        return layer._conv_forward(inputs, weight, bias)  # type: ignore[no-any-return]


def kept(constraint: Constraint | None) -> torch.Tensor | None:
    """Where weights may differ from zero for as long as this constraint holds, or ``None`` for everywhere."""
    if isinstance(constraint, Mask):
        return constraint.keep
    if isinstance(constraint, Sharing) and constraint.fixed_zero:
        return constraint.indices != 0
    if isinstance(constraint, Relabelled | Incremental) and constraint.fixed_zero:
        return constraint.keep  # what is zero now may come back, but not beyond this
    return None


def _layers(network: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    for name, module in network.named_modules():
        plain = type(module) is torch.nn.Linear
        if plain or (type(module) is torch.nn.Conv2d and module.groups == 1):
            yield name, module
