"""What an importance that needs data learns from: a network, some of its training examples, the loss."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

import torch

from featherweight.errors import TensorError

#: ``(inputs, targets)``, examples along their first dimension.
Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor]
#: ``loss(network(inputs), targets)``, a mean over the examples of a batch.
Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
#: Told what is being done, how many steps of it are done, and how many there are.
Progress: TypeAlias = Callable[[str, int, int], None]


def _silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


class Calibration:
    """A network with data to judge its weights by.

    Every question is answered from the first examples that the batches give, so that all importances see
    the same ones; they are kept, so that an iterator will do.

    Attributes:
        network: maps inputs to what the loss takes.
        loss: ``loss(network(inputs), targets)``, a mean over the batch.
        progress: told how far a long computation is.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        batches: Iterable[Batch],
        loss: Loss,
        progress: Progress | None = None,
    ) -> None:
        self.network = network
        self.loss = loss
        self.progress = progress or _silent
        self._source = iter(batches)
        self._taken: list[Batch] = []

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        first = next(self.network.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    def batches(self) -> Iterator[Batch]:
        """All batches, on the network's device."""
        i = 0
        while i < len(self._taken) or self._take():
            yield self._taken[i]
            i += 1

    def examples(self, samples: int) -> list[Batch]:
        """Batches of the first ``samples`` examples, or of all if there are fewer.

        Raises:
            TensorError: where there are none.
        """
        chosen, left = [], samples
        for inputs, targets in self.batches():
            if left <= 0:
                break
            chosen.append((inputs[:left], targets[:left]))
            left -= len(inputs)
        if not chosen:
            raise TensorError(
                "the calibration data hold no batch; importance needs at least one "
                "(an iterator gives its batches once: pass a list or a DataLoader)"
            )
        return chosen

    def _take(self) -> bool:
        for batch in self._source:
            inputs, targets = batch
            if len(inputs):
                self._taken.append((inputs.to(self.device), targets.to(self.device)))
                return True
        return False

    def loss_of(self, weights: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """The loss of a batch with some parameters replaced, a scalar to differentiate."""
        inputs, targets = batch
        outputs = torch.func.functional_call(self.network, dict(weights), (inputs,))
        return self.loss(outputs, targets)


@contextlib.contextmanager
def evaluating(network: torch.nn.Module) -> Iterator[None]:
    """The network in evaluation mode: no dropout, fixed statistics; each module's mode is restored."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def leaves(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same values as tensors to differentiate by, whatever the parameters' ``requires_grad``."""
    return {name: weight.detach().requires_grad_() for name, weight in weights.items()}


def gradients(
    loss: torch.Tensor, inputs: Mapping[str, torch.Tensor], *, create_graph: bool = False
) -> dict[str, torch.Tensor]:
    """∂loss/∂input by name; zeros for an input that the loss does not depend on."""
    found = torch.autograd.grad(
        loss, list(inputs.values()), create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return dict(zip(inputs, found, strict=True))


def mean_gradients(
    weights: Mapping[str, torch.Tensor], batches: list[Batch], calibration: Calibration, what: str
) -> dict[str, torch.Tensor]:
    """∂L/∂W averaged over the examples of all batches, by name."""
    means = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    number = sum(len(inputs) for inputs, _ in batches)
    for i, batch in enumerate(batches):
        points = leaves(weights)
        for name, gradient in gradients(calibration.loss_of(points, batch), points).items():
            means[name] += gradient * (len(batch[0]) / number)
        calibration.progress(what, i + 1, len(batches))
    return means
