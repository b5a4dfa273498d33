"""Channels that leave: the network that is left computes what it did with them silent."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from channel_networks import Concatenation, Grouped, concatenation, grouped, randomize, resnet
from torch import nn

import featherweight as fw
from featherweight.errors import CheckpointError, RecipeError
from featherweight.models import VGG16, CifarResNet, LeNet5
from featherweight.pruning.channels import channel_group, prune_channels
from featherweight.pruning.channels.removal import silence


def narrow_vgg():
    """VGG-16 in its depth, with few channels."""
    torch.manual_seed(0)
    widths = ((4, 4), (6, 6), (8, 8, 8), (8, 8, 8), (8, 8, 8))
    with patch("featherweight.models.vgg.BLOCKS", widths), patch("featherweight.models.vgg.HIDDEN", 16):
        return randomize(VGG16(num_classes=5, size=64, batch_norm=True))


CASES = {
    "vgg": (narrow_vgg, 64, ["conv1_1", "conv3_2", "conv5_3", "fc6"]),
    "resnet-A": (lambda: resnet("A"), 16, ["layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1"]),
    "resnet-B": (lambda: resnet("B"), 16, ["conv1", "layer2.0.conv1", "layer2.0.conv2", "layer3.0.conv2"]),
    "concatenation": (concatenation, 8, ["stem", "left", "right"]),
    "grouped": (grouped, 12, ["stem", "grouped", "pointwise"]),
}


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_removing_channels_equals_silencing_them(case):
    make, size, names = CASES[case]
    network = make()
    images = torch.randn(3, 3, size, size)
    for name in names:
        silent = copy.deepcopy(network)
        done = prune_channels(network, {name: 0.5}, method="l1norm", example=images)[0]
        group = channel_group(silent, name, images)
        gone = [c for c in range(done.before) if c not in done.kept]
        assert len(gone) == done.before // 2 // (max(group.blocks) + 1) * (max(group.blocks) + 1)
        silence(group, gone)
        torch.testing.assert_close(network(images), silent(images), rtol=1e-4, atol=1e-5)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            shape = (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
            assert tuple(module.weight.shape) == shape, name


@torch.no_grad()
@pytest.mark.parametrize("method", ["greedy", "lasso"])
def test_dead_channels_are_the_first_to_go_and_nothing_changes(method):
    network = concatenation()
    dead = [1, 2, 5]
    network.stem.weight[dead], network.stem.bias[dead] = 0.0, -1.0
    images = torch.randn(20, 3, 8, 8)
    before = network(images)
    done = prune_channels(network, {"stem": 3}, method=method, data=[images])
    assert done[0].kept == (0, 3, 4)
    torch.testing.assert_close(network(images), before, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_channels_that_others_repeat_are_made_up_for():
    """A channel that is twice another one can leave: least squares moves its weights to the other."""
    network = concatenation()
    network.stem.weight[4], network.stem.bias[4] = 2 * network.stem.weight[0], 2 * network.stem.bias[0]
    network.stem.weight[0].mul_(0.01)  # the one that a norm removes
    network.stem.bias[0].mul_(0.01)
    images = torch.randn(60, 3, 8, 8)
    network.left.weight[:, 0] *= 100  # but that matters
    network.right.weight[:, 0] *= 100
    before, without = network(images), copy.deepcopy(network)
    for pruned, fit in ((network, True), (without, False)):
        done = prune_channels(
            pruned, {"stem": 5}, method="l1norm", data=[images], reconstruction=fit, ridge=1e-9
        )
        assert done[0].kept == (1, 2, 3, 4, 5)
    torch.testing.assert_close(network(images), before, rtol=1e-3, atol=1e-3)
    assert float((without(images) - before).abs().max()) > 0.1


def test_norms_choose_by_hand_computed_filters():
    network = concatenation()
    l1 = network.left.weight.detach().abs().sum(dim=(1, 2, 3))
    kept = prune_channels(network, {"left": 3}, method="l1norm", example=torch.randn(1, 3, 8, 8))[0].kept
    assert kept == tuple(sorted(l1.topk(3).indices.tolist()))
    network = concatenation()
    l2 = network.left.weight.detach().square().sum(dim=(1, 2, 3))
    kept = prune_channels(network, {"left": 3}, method="l2norm", example=torch.randn(1, 3, 8, 8))[0].kept
    assert kept == tuple(sorted(l2.topk(3).indices.tolist()))


def test_an_importance_of_weights_is_summed_over_filters():
    first, second = concatenation(), concatenation()
    example = torch.randn(1, 3, 8, 8)
    by_name = prune_channels(first, {"left": 0.4}, method="magnitude", example=example)
    assert by_name == prune_channels(second, {"left": 0.4}, method="l1norm", example=example)


def test_a_residual_stage_is_scored_over_all_its_layers_and_leaves_together():
    network = resnet("B")
    layers = [network.conv1, network.layer1[0].conv2]
    scores = sum(layer.weight.detach().abs().sum(dim=(1, 2, 3)) for layer in layers)
    done = prune_channels(network, {"conv1": 10}, method="l1norm", example=torch.randn(1, 3, 16, 16))[0]
    assert done.kept == tuple(sorted(scores.topk(10).indices.tolist()))
    assert done.coupled == ("bn1", "layer1.0.bn2", "layer1.0.conv2")
    assert network.bn1.num_features == network.layer1[0].bn2.num_features == 10
    assert network.layer2[0].downsample[0].in_channels == 10


@pytest.mark.parametrize("case", CASES)
def test_a_pruned_network_is_rebuilt_from_the_file_alone(case, tmp_path):
    make, size, names = CASES[case]
    network = make()
    images = torch.randn(2, 3, size, size)
    prune_channels(network, dict.fromkeys(names, 0.5), method="random", example=images)
    fw.save_model(network, tmp_path / "small.fwt")
    fresh = {
        "vgg": narrow_vgg,
        "resnet-A": lambda: CifarResNet(depth=8, num_classes=5),
        "resnet-B": lambda: CifarResNet(depth=8, num_classes=5, shortcut="B"),
        "concatenation": Concatenation,
        "grouped": Grouped,
    }[case]()
    loaded = fw.load_model(fresh, tmp_path / "small.fwt").eval()
    assert {n: t.shape for n, t in loaded.state_dict().items()} == {
        n: t.shape for n, t in network.state_dict().items()
    }
    assert torch.equal(loaded(images), network(images))
    layers = zip(network.modules(), loaded.modules(), strict=True)
    assert all(repr(a) == repr(b) for a, b in layers if not list(a.children()))
    loaded.train()(images).sum().backward()  # its parameters can be trained


def shapes_that_pruning_does_not_explain():
    state = Concatenation().state_dict()
    fewer = {"stem.weight": torch.ones(4, 3, 3, 3), "stem.bias": torch.ones(4)}
    readers = {"left.weight": torch.ones(5, 4, 1, 1), "right.weight": torch.ones(8, 4, 3, 3)}
    yield {**state, **fewer}, "stem.weight"  # nothing reads fewer
    yield {**state, **readers}, "left.weight"  # nothing makes fewer
    yield {**state, **fewer, **readers, "stem.bias": torch.ones(5)}, "stem.weight"
    yield {**state, **fewer, **readers, "stem.weight": torch.ones(4, 3, 5, 5)}, "stem.weight"
    yield {**state, **fewer, **readers, "norm.weight": torch.ones(14)}, "stem.weight"
    yield {**state, **fewer, **readers, "head.bias": torch.ones(5)}, "stem.weight"


@pytest.mark.parametrize(("state", "name"), list(shapes_that_pruning_does_not_explain()))
def test_other_shapes_are_refused_and_the_model_left_alone(state, name, tmp_path):
    fw.save_file(state, tmp_path / "odd.fwt")
    network = Concatenation()
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(CheckpointError, match=f"{name}: Concatenation expects shape"):
        fw.load_model(network, tmp_path / "odd.fwt")
    assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())


class Shuffled(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.second = nn.Conv2d(8, 4, 1)
        self.norm = nn.GroupNorm(2, 4)
        self.third = nn.Conv2d(4, 4, 1)
        self.fourth = nn.Conv2d(4, 4, 1)

    def forward(self, images):
        features = self.first(images)
        shuffled = features.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)
        third = self.third(self.norm(self.second(shuffled)))
        return self.fourth(third) + third.mean(dim=1, keepdim=True)


@pytest.mark.parametrize(
    ("make", "amounts", "message"),
    [
        (concatenation, {"steam": 0.5}, "steam: is no layer of the network; .* stem, left, right, head"),
        (concatenation, {"norm": 0.5}, "norm: is a BatchNorm2d"),
        (concatenation, {"head": 0.5}, "head: cannot be pruned by channel: no layer reads its output"),
        (concatenation, {"stem": 1.0}, "at least 0 and below 1, got 1.0"),
        (concatenation, {"stem": 0}, "stem: has 6 channels, cannot keep 0"),
        (concatenation, {"stem": 7}, "stem: has 6 channels, cannot keep 7"),
        (concatenation, {"stem": "half"}, "expected a fraction or a number"),
        (grouped, {"stem": 3}, "multiple of 4 channels, cannot keep 3"),
        (lambda: resnet("A"), {"conv1": 0.5}, "conv1: .* go through ConstantPadNdBackward0"),
        (lambda: resnet("B"), {"conv1": 0.5, "layer1.0.conv2": 0.4}, "shares its channels with conv1"),
        (Shuffled, {"first": 0.5}, "first: .* go through TransposeBackward0"),
        (Shuffled, {"second": 0.5}, "second: .* go through norm, GroupNorm, which mixes"),
        (Shuffled, {"third": 0.5}, "third: cannot be pruned by channel"),
    ],
)
def test_what_cannot_be_pruned_is_named_with_the_reason(make, amounts, message):
    network = make()
    with pytest.raises(RecipeError, match=message):
        prune_channels(network, amounts, method="l1norm", example=torch.randn(2, 3, 16, 16)[..., :8, :8])


def test_layers_that_share_their_channels_may_both_be_named():
    network = resnet("B")
    amounts = {"conv1": 0.5, "layer1.0.conv2": 0.5}
    done = prune_channels(network, amounts, method="l1norm", example=torch.randn(1, 3, 16, 16))
    assert [(d.layer, len(d.kept)) for d in done] == [("conv1", 8)]


def test_a_layer_that_fails_is_left_as_it_was():
    network = Shuffled()
    before = copy.deepcopy(network.state_dict())
    images = torch.randn(2, 3, 8, 8)
    expected = network(images)
    with pytest.raises(RecipeError, match="third"):
        prune_channels(network, {"third": 0.5}, method="l1norm", example=images)
    assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())
    assert torch.equal(network(images), expected)
    assert network.training


@pytest.mark.parametrize("method", ["greedy", "lasso"])
def test_methods_that_look_at_data_need_some(method):
    for data in (None, []):
        with pytest.raises(RecipeError, match=f"by {method} needs data: at least one batch"):
            prune_channels(concatenation(), {"stem": 0.5}, method=method, data=data)
    with pytest.raises(RecipeError, match="or an example"):
        prune_channels(concatenation(), {"stem": 0.5}, method="random")
    with pytest.raises(RecipeError, match="unknown importance 'greedily'"):
        prune_channels(concatenation(), {"stem": 0.5}, method="greedily", example=torch.ones(1, 3, 8, 8))


def test_the_same_seed_gives_the_same_network():
    images, amounts = torch.randn(10, 3, 8, 8), {"stem": 0.5, "right": 0.5}
    networks = [concatenation() for _ in range(2)]
    for network in networks:
        prune_channels(network, amounts, data=[(images, torch.zeros(10))], rows=50, seed=4)
    states = [network.state_dict() for network in networks]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_frozen_parameters_and_modes_stay():
    network = LeNet5(dropout=0.5)
    network.conv1.weight.requires_grad_(False)
    network.dropout.train()
    network.conv2.eval()
    prune_channels(network, {"conv1": 10, "conv2": 0.5, "fc1": 100}, data=[torch.randn(30, 1, 28, 28)])
    assert not network.conv1.weight.requires_grad
    assert network.conv2.weight.requires_grad
    assert (network.dropout.training, network.conv2.training) == (True, False)
    assert network.fc1.weight.shape == (100, 25 * 16)
    assert network(torch.randn(2, 1, 28, 28)).shape == (2, 10)


@torch.no_grad()
def test_choices_that_look_at_data_beat_random_ones():
    torch.manual_seed(0)
    images = torch.randn(64, 3, 8, 8)
    errors = {}
    for method in ("greedy", "lasso", "random"):
        network = concatenation()
        before = network(images)
        prune_channels(network, {"stem": 0.5}, method=method, data=[images])
        errors[method] = float((network(images) - before).square().mean())
    assert max(errors["greedy"], errors["lasso"]) < errors["random"]


def test_the_layout_of_the_weights_does_not_matter():
    images = torch.randn(30, 3, 8, 8)
    networks = [concatenation(), concatenation().to(memory_format=torch.channels_last)]
    for network in networks:
        prune_channels(network, {"stem": 0.5}, data=[images])
    torch.testing.assert_close(networks[0](images), networks[1](images), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_cuda_device_the_same_channels_go():
    images = torch.randn(30, 3, 8, 8)
    networks = [concatenation(), concatenation().cuda()]
    kept = [prune_channels(network, {"stem": 0.5}, data=[images])[0].kept for network in networks]
    assert kept[0] == kept[1]
    torch.testing.assert_close(networks[1](images.cuda()).cpu(), networks[0](images), rtol=1e-3, atol=1e-3)


def test_the_example_of_the_documentation_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[3] / "docs" / "channels.md"
    code = re.search(r"run by tests.*?```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    images = torch.randn(40, 1, 28, 28)
    names = {
        "model": LeNet5(),
        "fresh_model": LeNet5(),
        "torch": torch,
        "batches": [(images, torch.zeros(40, dtype=torch.int64))],
        "train": lambda model, optimizer: (model(images).sum().backward(), optimizer.step()),
    }
    exec(code.group(1), names)  # noqa: S102
    assert [len(layer.kept) for layer in names["done"]] == [10, 25]
    assert names["fresh_model"].conv2.weight.shape == (25, 10, 5, 5)
    assert torch.equal(names["fresh_model"](images), names["model"](images))
