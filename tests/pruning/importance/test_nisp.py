"""NISP against propagation written out: layer by layer, and by explicit matrices."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from importance_networks import Chain, SmallResidual, examples, make, scores_of
from torch import nn
from torch.nn import functional as F

from featherweight.errors import TensorError


def last_response_scores(hidden):
    """mean(abs(a)) · Var(a) of (N, units)."""
    hidden = hidden.detach().numpy()
    return np.abs(hidden).mean(0) * hidden.var(0)


def chain_by_hand(network, batches):
    """Scores of the units of the convolution and of the first linear layer, and of the last response."""
    network.eval()
    images = torch.cat([x for x, _ in batches])
    maps = F.avg_pool2d(torch.tanh(network.norm(network.conv(images))), 2)
    hidden = torch.tanh(network.fc1(maps.flatten(1)))
    last = last_response_scores(hidden)
    w1 = np.abs(network.fc1.weight.detach().numpy())
    positions = w1.T @ last  # (3 · 2 · 2,)
    norm = network.norm
    scale = np.abs(norm.weight.detach().numpy()) / np.sqrt(norm.running_var.numpy() + norm.eps)
    return scale * positions.reshape(3, 4).sum(1), last


def normal(scores):
    return scores / scores.mean()


def test_a_chain_by_hand():
    network, batches = make(Chain), examples()
    maps, last = chain_by_hand(network, batches)
    w0, w1, w2 = (np.abs(layer.weight.detach().numpy()) for layer in (network.conv, network.fc1, network.fc2))
    expected = {
        "filter": {"conv.weight": maps, "fc1.weight": last},
        "element": {
            "conv.weight": w0 * maps[:, None, None, None],
            "fc1.weight": w1 * last[:, None],
            "fc2.weight": w2 * last[None, :],
        },
        "kernel": {"conv.weight": (w0 * maps[:, None, None, None]).sum((2, 3))},
        "channel": {"fc1.weight": w1.T @ last, "fc2.weight": last},
    }
    for granularity, by_name in expected.items():
        found = scores_of("nisp", network, batches, list(by_name), granularity)
        for name, scores in by_name.items():
            np.testing.assert_allclose(found[name].numpy(), normal(scores), rtol=1e-9)


def matrix_of(function, shape):
    """The matrix of a linear function of maps of ``shape``, column by column."""
    columns = []
    for position in itertools.product(*map(range, shape)):
        unit = torch.zeros(1, *shape, dtype=torch.float64)
        unit[(0, *position)] = 1
        columns.append(function(unit).reshape(-1).detach().numpy())
    return np.stack(columns, axis=1)


def test_a_residual_network_by_explicit_matrices():
    network, batches = make(SmallResidual), examples()
    network.eval()
    images = torch.cat([x for x, _ in batches])
    hidden = {}
    network.fc.register_forward_hook(lambda m, a, o: hidden.update(last=a[0]))
    network(images)
    last = last_response_scores(hidden["last"])

    def layer(conv, norm, shape):
        w = conv.weight.detach().abs()
        scale = (
            torch.ones(1)
            if norm is None
            else norm.weight.detach().abs() / (norm.running_var + norm.eps).sqrt()
        )
        weight = w * scale.reshape(-1, 1, 1, 1)
        return matrix_of(lambda x: F.conv2d(x, weight, None, conv.stride, conv.padding), shape)

    def scale_of(norm):
        return (norm.weight.detach().abs() / (norm.running_var + norm.eps).sqrt()).numpy()

    b1, b2 = network.block1, network.block2
    pool = matrix_of(lambda x: F.adaptive_avg_pool2d(x, 1), (8, 3, 3))  # (8, 72)
    out2 = pool.T @ last  # at block 2's sum, (8·3·3,)
    mid2 = layer(b2.conv2, b2.bn2, (8, 3, 3)).T @ out2  # at conv1's normalised output
    into2 = layer(b2.conv1, b2.bn1, (4, 6, 6)).T @ mid2 + layer(b2.shortcut, None, (4, 6, 6)).T @ out2
    mid1 = layer(b1.conv2, b1.bn2, (4, 6, 6)).T @ into2
    into1 = layer(b1.conv1, b1.bn1, (4, 6, 6)).T @ mid1 + into2
    at_outputs = {
        "conv.weight": into1.reshape(4, -1).sum(1) * scale_of(network.bn),
        "block1.conv1.weight": mid1.reshape(4, -1).sum(1) * scale_of(b1.bn1),
        "block1.conv2.weight": into2.reshape(4, -1).sum(1) * scale_of(b1.bn2),
        "block2.conv1.weight": mid2.reshape(8, -1).sum(1) * scale_of(b2.bn1),
        "block2.conv2.weight": out2.reshape(8, -1).sum(1) * scale_of(b2.bn2),
        "block2.shortcut.weight": out2.reshape(8, -1).sum(1),
    }
    found = scores_of("nisp", network, batches, list(at_outputs), "filter")
    for name, expected in at_outputs.items():
        np.testing.assert_allclose(found[name].numpy(), normal(expected), rtol=1e-9)


def test_what_has_no_scores_is_told():
    network, batches = make(Chain), examples()
    with pytest.raises(TensorError, match=r"norm.weight: nisp scores the weights of linear layers and conv"):
        scores_of("nisp", network, batches, ["norm.weight"])
    with pytest.raises(TensorError, match=r"fc2.weight: nisp has no scores for the units of the last layer"):
        scores_of("nisp", network, batches, ["fc2.weight"], "filter")
    same = [(torch.ones(3, 1, 6, 6).double(), torch.zeros(3).long())]
    with pytest.raises(TensorError, match="last hidden response is the same for all examples"):
        scores_of("nisp", network, same, ["fc1.weight"], "filter")
    flat = nn.Sequential(nn.Flatten(), nn.Linear(36, 4)).double()
    with pytest.raises(TensorError, match="two linear or convolutional layers at least"):
        scores_of("nisp", flat, batches, ["1.weight"])


def test_activations_in_every_form_are_left_out():
    """The same scores whatever the activation, but for what the last response itself is."""

    class Forms(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2, self.fc3 = nn.Linear(36, 5), nn.Linear(5, 6), nn.Linear(6, 4)
            self.act = nn.GELU()
            self.inplace = nn.ReLU(inplace=True)

        def forward(self, x):
            x = self.inplace(self.act(self.fc1(x.flatten(1))).sigmoid())
            return self.fc3(F.leaky_relu(self.fc2(x)).clamp(min=-1))

    network, batches = make(Forms), examples()
    hidden = {}
    network.fc3.register_forward_hook(lambda m, a, o: hidden.update(last=a[0]))
    network.eval()(torch.cat([x for x, _ in batches]))
    last = last_response_scores(hidden["last"])
    expected = np.abs(network.fc2.weight.detach().numpy()).T @ last
    found = scores_of("nisp", network, batches, ["fc1.weight"], "filter")["fc1.weight"]
    np.testing.assert_allclose(found.numpy(), normal(expected), rtol=1e-9)
