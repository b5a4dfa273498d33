"""Taylor importances against finite differences, explicit Hessians and loops over single examples."""

from __future__ import annotations

import pytest
import torch
from importance_networks import Chain, SmallResidual, examples, make, mean_loss, scores_of
from torch import nn
from torch.nn import functional as F

from featherweight.errors import RecipeError, TensorError
from featherweight.pruning import Calibration
from featherweight.pruning.importance.hessian import hutchinson

NAMES = ["conv.weight", "fc1.weight", "fc2.bias"]


def slopes_by_differences(network, batches, name, step=1e-5):
    """∂L/∂w by central differences."""
    weight = dict(network.named_parameters())[name]
    found = torch.zeros_like(weight)
    with torch.no_grad():
        for i in range(weight.numel()):
            kept = weight.view(-1)[i].item()
            values = []
            for sign in (1, -1):
                weight.view(-1)[i] = kept + sign * step
                values.append(mean_loss(network, batches))
            weight.view(-1)[i] = kept
            found.view(-1)[i] = (values[0] - values[1]) / (2 * step)
    return found


def hessian_diagonal(network, batches, name):
    """The diagonal of the explicit Hessian of the mean loss in one tensor."""
    weight = dict(network.named_parameters())[name]

    def loss(value):
        network.eval()
        images, labels = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
        return F.cross_entropy(torch.func.functional_call(network, {name: value}, (images,)), labels)

    matrix = torch.autograd.functional.hessian(loss, weight.detach())
    return matrix.reshape(weight.numel(), weight.numel()).diagonal().reshape(weight.shape)


def fisher_by_loop(network, batches, name):
    network.eval()
    weight = dict(network.named_parameters())[name]
    squares, number = torch.zeros_like(weight), 0
    for images, labels in batches:
        for image, label in zip(images, labels, strict=True):
            loss = F.cross_entropy(network(image[None]), label[None])
            squares += torch.autograd.grad(loss, weight)[0] ** 2
            number += 1
    return squares.detach() / number


@pytest.mark.parametrize("kind", [Chain, SmallResidual])
def test_taylor1_is_the_slope_by_finite_differences_times_the_weight(kind):
    network, batches = make(kind), examples()
    names = [n for n, p in network.named_parameters() if p.numel() < 80]
    found = scores_of("taylor1", network, batches, names)
    for name in names:
        weight = dict(network.named_parameters())[name].detach()
        expected = (slopes_by_differences(network, batches, name) * weight).abs()
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("at_once", [None, 1, 3])
def test_taylor2_with_fisher_is_half_the_mean_square_of_single_gradients(at_once):
    network, batches = make(), examples()
    found = scores_of("taylor2", network, batches, NAMES, at_once=at_once)
    for name in NAMES:
        weight = dict(network.named_parameters())[name].detach()
        torch.testing.assert_close(found[name], 0.5 * fisher_by_loop(network, batches, name) * weight**2)


def test_taylor2_with_hutchinson_tends_to_the_explicit_hessian():
    network, batches = make(), examples()
    errors = []
    for probes in (100, 1600):
        found = scores_of("taylor2", network, batches, NAMES, hessian="hutchinson", probes=probes)
        difference = scale = 0.0
        for name in NAMES:
            weight = dict(network.named_parameters())[name].detach()
            expected = 0.5 * hessian_diagonal(network, batches, name) * weight**2
            difference += float((found[name] - expected).square().sum())
            scale += float(expected.square().sum())
        errors.append((difference / scale) ** 0.5)
    assert errors[1] < 0.1
    assert errors[1] < 0.5 * errors[0]  # a quarter, by the square root of 16


def test_hutchinson_is_exact_where_the_hessian_is_diagonal():
    """Of Σ (w_i x_i)⁴ / 4 the Hessian is diagonal, 3 w² x⁴, so that a single probe will do."""
    network = nn.Linear(4, 1, bias=False).double()
    inputs = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    class Powers(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = network.weight

        def forward(self, x):
            return (x * self.weight[0]) ** 4 / 4

    model = Powers()
    calibration = Calibration(model, [(inputs, inputs)], lambda outputs, _: outputs.sum(1).mean())
    found = hutchinson({"weight": model.weight}, calibration.examples(5), calibration, 1, 3)["weight"]
    expected = 3 * model.weight.detach() ** 2 * (inputs**4).mean(0)
    torch.testing.assert_close(found, expected)


def test_a_loss_that_is_linear_has_no_curvature():
    model = nn.Linear(3, 1, bias=False).double()
    data = [(torch.ones(2, 3).double(), torch.zeros(2))]
    calibration = Calibration(model, data, lambda outputs, _: outputs.mean())
    found = hutchinson(dict(model.named_parameters()), calibration.examples(2), calibration, 2, 0)
    assert found["weight"].tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("hessian", ["fisher", "hutchinson"])
def test_taylor12_joins_both_orders(hessian):
    network, batches = make(), examples()
    options = {"hessian": hessian, "probes": 5, "seed": 2}
    found = scores_of("taylor12", network, batches, NAMES, **options)
    second = scores_of("taylor2", network, batches, NAMES, **options)
    for name in NAMES:
        weight = dict(network.named_parameters())[name].detach()
        first = slopes_by_differences(network, batches, name) * weight
        torch.testing.assert_close(found[name], (-first + second[name]).abs(), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", ["taylor1", "taylor2", "taylor12"])
@pytest.mark.parametrize(
    ("granularity", "dims"), [("kernel", (2, 3)), ("filter", (1, 2, 3)), ("channel", (0, 2, 3))]
)
def test_a_groups_score_is_the_mean_of_its_elements(name, granularity, dims):
    network, batches = make(), examples()
    single = scores_of(name, network, batches, ["conv.weight"])["conv.weight"]
    found = scores_of(name, network, batches, ["conv.weight"], granularity)["conv.weight"]
    torch.testing.assert_close(found, single.mean(dims))


def test_samples_are_the_first_and_a_part_of_a_batch_counts_by_its_size():
    network, batches = make(), examples(7)
    images, labels = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    for samples in (1, 4, 5, 100):
        expected = scores_of("taylor1", network, [(images[:samples], labels[:samples])], NAMES)
        found = scores_of("taylor1", network, batches, NAMES, samples=samples)
        for name in NAMES:
            torch.testing.assert_close(found[name], expected[name])


class Undecided(nn.Module):
    """Looks at its activations, which vmap cannot."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(36, 4)

    def forward(self, images):
        hidden = self.fc(images.flatten(1))
        return hidden if bool(hidden.sum() > 0) else -hidden


def test_a_network_that_cannot_be_vectorized_is_told_and_a_loop_will_do():
    network, batches = make(Undecided), examples()
    with pytest.raises(TensorError, match=r"vmap: .*set options: \{at_once: 1\}, .*hutchinson"):
        scores_of("taylor2", network, batches, ["fc.weight"])
    found = scores_of("taylor2", network, batches, ["fc.weight"], at_once=1)["fc.weight"]
    expected = 0.5 * fisher_by_loop(network, batches, "fc.weight") * network.fc.weight.detach() ** 2
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["taylor1", "taylor2", "taylor12"])
def test_the_network_stays_as_it_is(name):
    network, batches = make(), examples()
    network.conv.weight.requires_grad_(False)  # frozen weights are scored as well
    network.fc1.eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    modes = {n: m.training for n, m in network.named_modules()}
    found = scores_of(name, network, batches, NAMES)
    assert (found["conv.weight"] > 0).any()
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert {n: m.training for n, m in network.named_modules()} == modes
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("taylor1", {"samples": 0}, "options of taylor1: samples must be at least 1, got 0"),
        ("taylor1", {"probes": 2}, "options of taylor1: unknown key 'probes'; known: samples"),
        ("taylor2", {"hesian": "fisher"}, "unknown key 'hesian'; did you mean 'hessian'"),
        ("taylor2", {"hessian": "exact"}, "unknown hessian 'exact'; known: fisher, hutchinson"),
        ("taylor2", {"samples": "many"}, "options of taylor2.samples: expected a whole number, got 'many'"),
        ("taylor12", {"probes": 0}, "probes must be at least 1"),
    ],
)
def test_options_that_cannot_be_meant(name, options, message):
    with pytest.raises(RecipeError, match=message):
        scores_of(name, make(), examples(), NAMES, **options)
