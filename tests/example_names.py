"""What an example in the documentation may take as given: a model, its optimizer, batches, training."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from featherweight.models import LeNet300


def example_names() -> dict[str, Any]:
    """Names and their values; ``train`` takes three steps on random images."""
    torch.manual_seed(0)
    model, fresh_model = LeNet300(), LeNet300()
    images, labels = torch.randn(32, 1, 28, 28), torch.arange(32) % 10

    def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(3):
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            optimizer.step()

    return {
        "model": model,
        "fresh_model": fresh_model,
        "optimizer": torch.optim.Adam(model.parameters(), lr=1e-3),
        "train": train,
        "batches": [(images, labels)],
        "cross_entropy": cross_entropy,
    }
