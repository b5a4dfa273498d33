"""Incremental network quantization: groups of weights take their values, the others train on."""

from __future__ import annotations

import pytest
import regression
import torch
from regression import closure_of, step
from torch import nn
from torch.nn import functional as F

from featherweight.constraints import Constraints, Incremental
from featherweight.errors import CheckpointError

VALUES = torch.tensor([0.0, -0.25, -0.1, 0.1, 0.25])


def problem(seed=0):
    """The regression, with a row of the weights pruned."""
    model, inputs, targets = regression.problem(seed)
    with torch.no_grad():
        model.weight[1] = 0
    return model, inputs, targets


def incremental_of(model):
    shadow = model.weight.detach().clone()
    return Incremental(shadow, keep=shadow != 0, codebook=VALUES)


def test_the_largest_weights_take_the_nearest_value_first():
    model, _, _ = problem()
    latent = incremental_of(model)
    before = latent.shadow.clone()
    latent.fix(0.5)
    assert latent.stage == 1
    assert latent.fixed.sum() == 24  # of the 48 that are kept
    assert not latent.fixed[1].any()
    assert before[latent.fixed].abs().min() >= before[~latent.fixed].abs().max()
    distances = (before[latent.fixed].unsqueeze(1) - VALUES[1:]).abs()
    assert torch.equal(latent.shadow[latent.fixed], VALUES[1:][distances.argmin(dim=1)])
    assert torch.equal(latent.shadow[~latent.fixed], before[~latent.fixed])
    first = latent.fixed.clone()
    latent.fix(0.75)
    assert latent.fixed.sum() == 36
    assert latent.fixed[first].all()
    latent.fix(1.0)
    assert torch.equal(latent.fixed, latent.keep)
    assert latent.shadow[latent.keep].unique().tolist() == pytest.approx([-0.25, -0.1, 0.1, 0.25])


def test_the_layout_of_a_weight_makes_no_difference():
    torch.manual_seed(0)
    weights = torch.randn(4, 3, 2, 2)
    plain = Incremental(weights.clone(), codebook=VALUES)
    last = Incremental(weights.contiguous(memory_format=torch.channels_last), codebook=VALUES)
    for latent in (plain, last):
        latent.fix(0.4)
    assert torch.equal(plain.shadow, last.shadow)
    assert torch.equal(plain.fixed, last.fixed)
    assert plain.fixed.sum() == 19


def test_without_pruning_zero_is_a_value_like_others():
    weights = torch.tensor([[0.3, 0.0, -0.02, 0.06]])
    latent = Incremental(weights.clone(), codebook=VALUES, fixed_zero=False)
    latent.fix(1.0)
    assert torch.equal(latent.shadow, torch.tensor([[0.25, 0.0, 0.0, 0.1]]))
    assert latent.fixed.all()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
        lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1),
    ],
    ids=["sgd", "adamw"],
)
def test_free_weights_train_as_if_the_others_were_constants(make):
    model, inputs, targets = problem()
    latent = incremental_of(model)
    latent.fix(0.5)
    fixed, weight = latent.fixed.clone(), latent.shadow.clone()
    bias = nn.Parameter(model.bias.detach().clone())
    constraints = Constraints(model)
    constraints.set_latent("weight", latent)
    optimizer = make(model.parameters())
    constraints.attach(optimizer)

    free = nn.Parameter(weight[~fixed & latent.keep])
    by_hand = make([free, bias])
    for _ in range(6):
        step(model, optimizer, inputs, targets)
        by_hand.zero_grad()
        whole = weight.masked_scatter(~fixed & latent.keep, free)
        F.mse_loss(F.linear(inputs, whole, bias), targets).backward()
        by_hand.step()
    torch.testing.assert_close(model.weight[~fixed & latent.keep].detach(), free.detach())
    assert torch.equal(model.weight[fixed], weight[fixed])
    assert not model.weight[1].any()
    assert not constraints.is_shared("weight")
    assert torch.equal(constraints.mask("weight"), latent.keep)


def test_lbfgs_moves_the_free_weights_alone():
    model, inputs, targets = problem()
    latent = incremental_of(model)
    latent.fix(0.25)
    fixed, before = latent.fixed.clone(), latent.shadow.clone()
    constraints = Constraints(model)
    constraints.set_latent("weight", latent)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=20)
    constraints.attach(optimizer)

    closure = closure_of(model, optimizer, inputs, targets)
    first = float(closure().detach())
    optimizer.step(closure)
    least = float(F.mse_loss(inputs @ torch.linalg.lstsq(inputs, targets).solution, targets))
    assert least < float(closure().detach()) < 0.9 * first
    assert torch.equal(model.weight[fixed], before[fixed])
    assert not model.weight[1].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_nearest_value_is_found_in_narrow_types_too(dtype):
    pairs = {torch.float16: (40000.0, 60000.0, 60096.0), torch.bfloat16: (1.0, 1.0234375, 1.015625)}
    low, high, weight = pairs.get(dtype, (1.0, 2.0, 1.75))
    latent = Incremental(torch.tensor([weight], dtype=dtype), codebook=torch.tensor([0, low, high]).to(dtype))
    latent.fix(1.0)
    assert latent.shadow.tolist() == [high]
    shared = latent.shared()
    assert shared.indices.tolist() == [2]
    assert shared.codebook.tolist() == [0, low, high]


def test_weights_without_any_value_but_zero_become_zero():
    latent = Incremental(torch.tensor([1e-9, 0.0]), torch.tensor([True, False]), codebook=torch.zeros(1))
    latent.fix(1.0)
    assert latent.shadow.tolist() == [0, 0]
    assert latent.shared().indices.tolist() == [1, 0]
    assert latent.fraction == 1


@pytest.mark.parametrize(
    "damage",
    [
        {"fixed": torch.zeros(5, dtype=torch.bool)},
        {"fixed": torch.zeros(5, 12)},
        {"codebook": torch.zeros(0)},
        {"codebook": torch.tensor([0.0, torch.inf])},
        {"stage": -1},
    ],
)
def test_a_damaged_checkpoint_is_refused(damage):
    model, _, _ = problem()
    constraints = Constraints(model)
    constraints.set_latent("weight", incremental_of(model))
    state = constraints.state_dict()["weight"]
    constraints.load_state_dict({"weight": state})
    with pytest.raises(CheckpointError, match="weight: the checkpoint's quantized weights are damaged"):
        constraints.load_state_dict({"weight": {**state, **damage}})
