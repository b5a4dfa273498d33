"""Dynamic network surgery against the paper's loop, written out in NumPy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import featherweight as fw
from featherweight.constraints import Constraints, Surgery
from featherweight.errors import CheckpointError, RecipeError, TensorError
from featherweight.pruning.surgery import SurgeryOptions, draw

RECIPE = {
    "rules": [{"match": "weight", "prune": {"surgery": {
        "c_rate": 0.3, "gamma": 0.2, "power": 1.5, "iter_stop": 25, "seed": 4}}}]
}  # fmt: skip


def problem():
    torch.manual_seed(0)
    return nn.Linear(10, 6, bias=False).double(), torch.randn(50, 10).double(), torch.randn(50, 6).double()


def loss_of(model, inputs, targets):
    return ((model(inputs) - targets) ** 2).sum()


def step(model, optimizer, inputs, targets):
    optimizer.zero_grad()
    loss_of(model, inputs, targets).backward()
    optimizer.step()


def by_numpy(weight, inputs, targets, steps, lr, momentum=0.9):
    """The paper's algorithm 1 with momentum; yields W ∘ T and T after every step."""
    w, t_mask = weight.copy(), np.ones(weight.shape)
    magnitudes = np.abs(w)
    t = max(magnitudes.mean() + 0.3 * magnitudes.std(), 0)
    velocity = np.zeros_like(w)
    for iteration in range(steps):
        gradient = 2 * (inputs @ (w * t_mask).T - targets).T @ inputs  # of W ∘ T, for all of W
        if iteration < 25 and draw("weight", iteration, 4) < (1 + 0.2 * iteration) ** -1.5:
            t_mask = np.where(np.abs(w) <= 0.9 * t, 0, np.where(np.abs(w) > 1.1 * t, 1, t_mask))
        velocity = momentum * velocity + gradient
        w = w - lr * velocity
        yield w * t_mask, t_mask


def test_masks_and_weights_are_those_of_the_papers_loop():
    model, inputs, targets = problem()
    expected = by_numpy(model.weight.detach().numpy(), inputs.numpy(), targets.numpy(), 40, 1e-3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    constraints = fw.prune(model, fw.Recipe.from_dict(RECIPE), optimizer=optimizer)
    masks = []
    for weight, mask in expected:
        step(model, optimizer, inputs, targets)
        np.testing.assert_allclose(model.weight.detach().numpy(), weight, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(constraints.mask("weight").numpy(), mask.astype(bool))
        masks.append(mask.astype(bool))
    came_back = any((~a & b).any() for a, b in pairwise(masks))
    assert came_back
    assert all((m == masks[24]).all() for m in masks[24:])  # iter_stop
    assert 0.2 < masks[-1].mean() < 0.9
    assert not constraints.is_shared("weight")
    assert constraints.quantized("weight") is None


def test_how_often_a_mask_is_revised():
    options = SurgeryOptions(c_rate=0, iter_stop=1000, gamma=0.01, power=2.0)
    chances = [(1 + 0.01 * i) ** -2.0 for i in range(1000)]
    hits = [draw("fc", i, options.seed) < p for i, p in enumerate(chances)]
    assert hits[0]
    assert sum(hits) == pytest.approx(sum(chances), abs=4 * sum(p * (1 - p) for p in chances) ** 0.5)
    assert draw("fc", 3, 0) != draw("fc", 3, 1) != draw("conv", 3, 1)


def test_a_checkpoint_goes_on_exactly(tmp_path):
    def prepare():
        model, inputs, targets = problem()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        return model, optimizer, Constraints(model), inputs, targets

    model, optimizer, constraints, inputs, targets = prepare()
    options = SurgeryOptions(c_rate=0.0, iter_stop=100, gamma=0.5)
    constraints.set_latent("weight", Surgery.of("weight", model.weight, options))
    constraints.attach(optimizer)
    for _ in range(5):
        step(model, optimizer, inputs, targets)
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "c": constraints.state_dict()}
    torch.save(saved, tmp_path / "c.pt")
    for _ in range(9):
        step(model, optimizer, inputs, targets)

    saved = torch.load(tmp_path / "c.pt", weights_only=True)
    again, fresh, other, inputs, targets = prepare()
    again.load_state_dict(saved["model"])
    other.load_state_dict(saved["c"])
    other.attach(fresh, resume=True)
    fresh.load_state_dict(saved["optimizer"])
    for _ in range(9):
        step(again, fresh, inputs, targets)
    assert torch.equal(again.weight, model.weight)
    assert torch.equal(other.mask("weight"), constraints.mask("weight"))
    assert other.latent("weight").iteration == 14
    with pytest.raises(CheckpointError, match=r"weight: .*damaged"):
        other.load_state_dict({"weight": {**saved["c"]["weight"], "mask": torch.zeros(6, 10)}})


def test_what_cannot_be_meant():
    for options, message in (
        ({"c_rate": 1.0, "iter_stop": 0}, "iter_stop must be at least 1, got 0"),
        ({"c_rate": 1.0, "iter_stop": 9, "gamma": -1}, "gamma must be at least 0, got -1"),
        ({"c_rate": float("nan"), "iter_stop": 9}, "c_rate must be a finite number, got nan"),
    ):
        with pytest.raises(RecipeError, match=message):
            SurgeryOptions(**options)
    surgery = SurgeryOptions(1.0, 9)
    with pytest.raises(RecipeError, match="surgery prunes single weights of each layer by magnitude"):
        fw.Prune(surgery=surgery, granularity="filter")
    with pytest.raises(RecipeError, match="only one"):
        fw.Prune(surgery=surgery, sparsity=0.5)
    typo = {"rules": [{"match": "*", "prune": {"surgery": {"c_rat": 4, "iter_stop": 9}}}]}
    with pytest.raises(
        RecipeError, match=r"rules\[0\].prune.surgery: unknown key 'c_rat'; did you mean 'c_rate'"
    ):
        fw.Recipe.from_dict(typo)
    model, inputs, targets = problem()
    with pytest.raises(RecipeError, match="dynamic network surgery needs training"):
        fw.compress(model, fw.Recipe.from_dict(RECIPE))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    everything = fw.Recipe((fw.Rule("weight", fw.Prune(surgery=SurgeryOptions(100.0, 9))),))
    fw.prune(model, everything, optimizer=optimizer)
    with pytest.raises(TensorError, match="weight: surgery has pruned it to nothing; give a smaller c_rate"):
        step(model, optimizer, inputs, targets)
