"""The networks that all pictures show: LeNet-300-100 and LeNet-5, trained on the bundled digits."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

import featherweight as fw
from featherweight.data import Digits
from featherweight.models import LeNet5, LeNet300

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EPOCHS = 6


@dataclass
class Networks:
    """Both networks, made when first asked for."""

    @cached_property
    def batches(self) -> Any:
        """Of the training images."""
        return Digits(batch_size=64).train_batches()

    @cached_property
    def lenet300(self) -> torch.nn.Module:
        """Trained, not pruned."""
        return self._trained(LeNet300())

    @cached_property
    def lenet5(self) -> torch.nn.Module:
        """Trained, not pruned."""
        return self._trained(LeNet5())

    def _trained(self, model: torch.nn.Module) -> torch.nn.Module:
        torch.manual_seed(0)
        for layer in model.modules():
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
                layer.reset_parameters()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
        for _ in range(EPOCHS):
            for images, labels in self.batches:
                optimizer.zero_grad()
                cross_entropy(model(images), labels).backward()
                optimizer.step()
        return model.eval()

    def weights(self, network: str, name: str) -> NDArray[np.float32]:
        """Of a layer of ``lenet300`` or ``lenet5``."""
        return getattr(self, network).state_dict()[name].numpy().copy()

    def kept(self, network: str, name: str, **prune: Any) -> NDArray[np.bool_]:
        """Which weights of a layer a rule's ``prune`` leaves."""
        model = copy.deepcopy(getattr(self, network))
        recipe = fw.Recipe(rules=(fw.Rule(name, fw.Prune(**prune)),))
        fw.prune(model, recipe, data=self.batches, loss=cross_entropy)
        return model.state_dict()[name].numpy() != 0

    def scores(self, network: str, name: str, importance: Any, granularity: str = "element") -> Any:
        """What an importance that needs data makes of a layer."""
        from featherweight.pruning import Calibration

        model = getattr(self, network)
        calibration = Calibration(model, self.batches, cross_entropy)
        weights = {name: dict(model.named_parameters())[name]}
        return importance.scores(weights, granularity, calibration)[name].numpy()

    def accuracy(self, model: torch.nn.Module) -> float:
        """On the test images, percent."""
        from featherweight.training.evaluate import evaluate

        return 100 - evaluate(model, Digits().test_batches()).error_percent
