"""Least squares and the Gram matrix against NumPy on what the layers really see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from channel_networks import concatenation, grouped, resnet
from torch import nn

from featherweight.pruning.channels import channel_group, gram, least_squares
from featherweight.pruning.channels.reconstruction import reconstruct
from featherweight.pruning.channels.samples import Sample, collect


def test_least_squares_against_numpy():
    rng = np.random.default_rng(0)
    kept, gone = rng.normal(size=(50, 7)), rng.normal(size=(50, 3))
    expected = np.linalg.lstsq(kept, gone, rcond=None)[0]
    np.testing.assert_allclose(least_squares(kept, gone, ridge=0.0), expected, atol=1e-12)


def test_with_fewer_samples_than_features_the_smallest_solution_is_found():
    rng = np.random.default_rng(0)
    kept, gone = rng.normal(size=(6, 20)), rng.normal(size=(6, 3))
    expected = np.linalg.lstsq(kept, gone, rcond=None)[0]  # of minimal norm
    np.testing.assert_allclose(least_squares(kept, gone, ridge=1e-12), expected, atol=1e-8)


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_the_penalty_is_the_same_for_few_and_many_samples(shape):
    rng = np.random.default_rng(0)
    kept, gone = rng.normal(size=shape), rng.normal(size=(shape[0], 2))
    penalty = 0.1 * np.square(kept).sum() / shape[1]
    padded = np.vstack([kept, penalty**0.5 * np.eye(shape[1])])
    expected = np.linalg.lstsq(padded, np.vstack([gone, np.zeros((shape[1], 2))]), rcond=None)[0]
    np.testing.assert_allclose(least_squares(kept, gone, ridge=0.1), expected, atol=1e-10)


def test_dead_features_change_nothing():
    assert not least_squares(np.zeros((5, 3)), np.ones((5, 2))).any()


def fan_out(network, name, images=6, rows=100_000):
    torch.manual_seed(1)
    batches = [torch.randn(images // 2, 3, 8, 8) for _ in range(2)]
    group = channel_group(network, name, batches[0])
    return group, collect(network, group, batches, rows, seed=0), batches


@pytest.mark.parametrize(
    ("make", "name"),
    [(concatenation, "stem"), (concatenation, "right"), (grouped, "stem"), (grouped, "grouped")],
)
def test_the_gram_matrix_is_that_of_the_contributions(make, name):
    group, samples, _ = fan_out(make(), name, rows=300)
    Z = []
    for sample in samples:
        for c in range(group.channels):
            columns = sample.features([c])
            Z.append((sample.rows[:, columns].double() @ sample.weight[:, columns].double().T).reshape(-1))
    per_layer = [torch.stack(Z[i : i + group.channels]) for i in range(0, len(Z), group.channels)]
    expected = sum(z @ z.T for z in per_layer)
    np.testing.assert_allclose(gram(samples, group.channels), expected, rtol=1e-9, atol=1e-9)


def test_the_gram_matrix_in_chunks(monkeypatch):
    group, samples, _ = fan_out(concatenation(), "right", rows=200)
    whole = gram(samples, group.channels)
    monkeypatch.setattr("featherweight.pruning.channels.samples._CHUNK", 48)
    np.testing.assert_allclose(gram(samples, group.channels), whole, rtol=1e-12)
    np.testing.assert_allclose(whole, whole.T, rtol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("name", ["grouped", "depthwise"])
def test_sampled_rows_are_what_the_layer_sees(name):
    """Each row times the weights is one of the layer's outputs, less its bias."""
    network = grouped()
    root = {"grouped": "stem", "depthwise": "grouped"}[name]
    _, samples, batches = fan_out(network, root, rows=60)
    sample = samples[0]
    seen = {}
    sample.member.layer.register_forward_hook(lambda _m, _i, out: seen.setdefault("out", []).append(out))
    for batch in batches:
        network(batch)
    outputs = torch.cat(seen["out"]) - sample.member.layer.bias[:, None, None]
    made = (sample.rows @ sample.weight.T).view(6, -1, outputs.shape[1])
    for image in range(6):
        places = outputs[image].flatten(1).T  # (H·W, out)
        nearest = torch.cdist(made[image].double(), places.double()).min(dim=1).values
        assert float(nearest.max()) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_fitted_as_numpy_fits_it(groups, bias):
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 4, 1, groups=groups, bias=bias)
    before = layer.weight.detach().double().flatten(1).numpy().copy()
    old_bias = layer.bias.detach().double().numpy().copy() if bias else np.zeros(4)
    member = type("M", (), {"layer": layer, "name": "l", "at": lambda _self, channels: list(channels)})()
    rows = torch.randn(200, 6) @ torch.randn(6, 6) + 0.5
    removed = [1, 4]
    reconstruct(Sample(member, rows, 1), removed, ridge=0.0)
    size = 6 // groups
    for part in range(groups):
        X = rows[:, part * size : (part + 1) * size].double().numpy()
        keep = [c for c in range(size) if part * size + c not in removed]
        out = slice(part * 4 // groups, (part + 1) * 4 // groups)
        target = X @ before[out].T + old_bias[out]
        inputs = np.column_stack([X[:, keep], np.ones(200)]) if bias else X[:, keep]
        expected = np.linalg.lstsq(inputs, target, rcond=None)[0].T
        np.testing.assert_allclose(layer.weight.flatten(1)[out][:, keep], expected[:, : len(keep)], atol=1e-5)
        if bias:
            np.testing.assert_allclose(layer.bias[out], expected[:, -1], atol=1e-5)


def test_a_residual_stage_has_all_its_readers_sampled():
    _, samples, _ = fan_out(resnet("B"), "conv1")
    assert [sample.member.name for sample in samples] == [
        "layer1.0.conv1",
        "layer2.0.downsample.0",
        "layer2.0.conv1",
    ]
