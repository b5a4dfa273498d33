"""Full-precision shadows behind quantized weights: gradients against autograd, steps against plain loops."""

from __future__ import annotations

import pytest
import torch
from regression import closure_of, problem, step
from torch import nn
from torch.nn import functional as F

from featherweight.constraints import Constraints, FixedPoint, Incremental, Latent, Relabelled, Ternary
from featherweight.errors import CheckpointError, RecipeError
from featherweight.quantization import quantize_kmeans


def ternary_of(shadow, scales, threshold=0.05):
    delta = threshold * shadow.abs().max()
    return torch.where(shadow > delta, scales[0], torch.where(shadow < -delta, -scales[1], torch.zeros(())))


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
        lambda p: torch.optim.Adam(p, lr=0.02),
        lambda p: torch.optim.AdamW(p, lr=0.02),
    ],
    ids=["sgd", "adam", "adamw"],
)
def test_ternary_steps_are_those_of_the_paper(make):
    model, inputs, targets = problem()
    shadow, scales = model.weight.detach().clone(), torch.tensor([0.3, 0.2])
    bias = nn.Parameter(model.bias.detach().clone())
    constraints = Constraints(model)
    constraints.set_latent("weight", Ternary(shadow.clone(), scales=scales.clone()))
    optimizer = make(model.parameters())
    constraints.attach(optimizer)

    # By hand: autograd through the ternary values, one optimizer for the shadow, one for the scales.
    shadow, scales = nn.Parameter(shadow), nn.Parameter(scales)
    mine = make([shadow, bias])
    settings = {**mine.defaults, "weight_decay": 0.0}
    if not isinstance(mine, torch.optim.SGD):
        settings.pop("decoupled_weight_decay", None)
    of_scales = type(mine)([scales], **settings)
    for _ in range(8):
        step(model, optimizer, inputs, targets)
        weight = ternary_of(shadow.detach(), scales.detach()).requires_grad_()
        bias.grad = None
        F.mse_loss(F.linear(inputs, weight, bias), targets).backward()
        delta = 0.05 * shadow.detach().abs().max()
        up, down = shadow.detach() > delta, shadow.detach() < -delta
        scales.grad = torch.stack([weight.grad[up].sum(), -weight.grad[down].sum()])
        factor = torch.where(up, scales[0], torch.where(down, scales[1], torch.ones(()))).detach()
        shadow.grad = weight.grad * factor
        mine.step()
        of_scales.step()
        with torch.no_grad():
            scales.clamp_(min=0)
        torch.testing.assert_close(model.weight.detach(), ternary_of(shadow, scales).detach())
        torch.testing.assert_close(model.bias.detach(), bias.detach())
    held = constraints.latent("weight")
    torch.testing.assert_close(held.shadow, shadow.detach())
    assert constraints.quantized("weight").codebook.size <= 3
    assert constraints.is_shared("weight")


def test_fixed_point_passes_gradients_straight_through():
    model, inputs, targets = problem()
    shadow = model.weight.detach().clone()
    constraints = Constraints(model)
    constraints.set_latent("weight", FixedPoint(shadow.clone(), bits=4, integer_bits=0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    constraints.attach(optimizer)
    bias = model.bias.detach().clone()
    for _ in range(5):
        step(model, optimizer, inputs, targets)
        weight = ((shadow * 16).round().clamp(-8, 7) / 16).requires_grad_()
        bias.requires_grad_()
        bias.grad = None
        F.mse_loss(F.linear(inputs, weight, bias), targets).backward()
        shadow = (shadow - 0.05 * weight.grad).clamp(-0.5, 0.5)
        bias = (bias - 0.05 * bias.grad).detach()
    expected = (shadow * 16).round().clamp(-8, 7) / 16
    assert torch.equal(model.weight.detach(), expected)
    assert not torch.equal(model.weight.detach(), shadow)


def test_relabelled_values_are_means_of_their_members():
    model, inputs, targets = problem()
    weights = model.weight.detach().clone()
    weights[0] = 0
    shared = quantize_kmeans(weights.numpy(), 3, "density")
    with torch.no_grad():
        model.weight.copy_(weights)
    constraints = Constraints(model)
    latent = Relabelled(weights.clone(), keep=weights != 0)
    latent.relabel(shared)
    constraints.set_latent("weight", latent)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    constraints.attach(optimizer)
    assert torch.equal(model.weight.detach(), torch.from_numpy(shared.dequantize()))
    for _ in range(3):
        step(model, optimizer, inputs, targets)
    held = constraints.latent("weight")
    assert torch.equal(model.weight[0], torch.zeros(12))
    for k in range(1, shared.codebook.size):
        members = torch.from_numpy(shared.indices == k)
        values = model.weight.detach()[members].unique()
        assert values.numel() == 1
        torch.testing.assert_close(values[0], held.shadow[members].mean())
    assert held.shadow[1:].unique().numel() == 48
    before = held.indices.clone()
    latent.relabel(quantize_kmeans(held.shadow.numpy(), 3, "density"))
    constraints.constrain_weight("weight")
    assert not torch.equal(before, held.indices)
    assert model.weight.unique().numel() <= 8


@pytest.mark.parametrize("kind", ["ternary", "fixed", "relabelled", "incremental"])
def test_pruned_weights_stay_zero_and_a_checkpoint_goes_on_exactly(kind, tmp_path):
    def prepare():
        model, inputs, targets = problem(3)
        shadow = model.weight.detach().clone()
        shadow[2:4] = 0
        keep = shadow != 0
        if kind == "ternary":
            latent: Latent = Ternary(shadow, keep, scales=torch.tensor([0.2, 0.2]))
        elif kind == "fixed":
            latent = FixedPoint(shadow, keep, bits=5, integer_bits=1)
        elif kind == "incremental":
            latent = Incremental(shadow, keep, codebook=torch.tensor([0, -0.2, -0.1, 0.1, 0.2]))
            latent.fix(0.5)
        else:
            latent = Relabelled(shadow, keep)
            latent.relabel(quantize_kmeans(shadow.numpy(), 2, "density"))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        constraints = Constraints(model)
        constraints.set_latent("weight", latent)
        constraints.attach(optimizer)
        return model, constraints, optimizer, inputs, targets

    model, constraints, optimizer, inputs, targets = prepare()
    for _ in range(3):
        step(model, optimizer, inputs, targets)
    torch.save(
        {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "c": constraints.state_dict()},
        tmp_path / "c.pt",
    )
    for _ in range(3):
        step(model, optimizer, inputs, targets)
    assert not model.weight[2:4].any()
    saved = torch.load(tmp_path / "c.pt", weights_only=True)

    again, other, fresh, inputs, targets = prepare()
    again.load_state_dict(saved["model"])
    other.load_state_dict(saved["c"])
    fresh.load_state_dict(saved["optimizer"])
    for _ in range(3):
        step(again, fresh, inputs, targets)
    assert torch.equal(again.weight, model.weight)
    assert torch.equal(other.latent("weight").shadow, constraints.latent("weight").shadow)


def test_what_cannot_be_trained_or_loaded():
    model, inputs, targets = problem()
    constraints = Constraints(model)
    constraints.set_latent("weight", Ternary(model.weight.detach().clone()))
    optimizer = torch.optim.LBFGS(model.parameters())
    constraints.attach(optimizer)

    with pytest.raises(RecipeError, match="LBFGS"):
        optimizer.step(closure_of(model, optimizer, inputs, targets))
    state = constraints.state_dict()["weight"]
    with pytest.raises(CheckpointError, match="weight: the checkpoint's quantized weights are damaged"):
        constraints.load_state_dict({"weight": {**state, "latent": "Other"}})
    with pytest.raises(CheckpointError, match="damaged"):
        constraints.load_state_dict({"weight": {**state, "scales": torch.zeros(3)}})


def test_a_weight_without_a_gradient_stays():
    model, _, _ = problem()
    constraints = Constraints(model)
    constraints.set_latent("weight", FixedPoint(model.weight.detach().clone(), bits=6, integer_bits=0))
    before = model.weight.detach().clone()
    constraints.attach(torch.optim.SGD(model.parameters(), lr=0.1)).constrain_weights()
    assert torch.equal(model.weight, before)
