"""``featherweight compress --config``: biases and batch norm corrected on training images."""

from __future__ import annotations

import copy

import pytest
import torch
from correctable_network import Net

import featherweight as fw
from featherweight.data import Digits

CONFIG = """
name: net
model: {class_path: correctable_network.Net}
data: {class_path: featherweight.data.Digits, init_args: {batch_size: 32, validation_split: 100, seed: 3}}
optimizer: {class_path: torch.optim.SGD}
fit: {epochs: 1, lr: 0.1}
"""


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Net()
    net(images(320))  # which gives batch norm its statistics
    return net.eval()


@pytest.fixture
def folder(net, tmp_path):
    torch.save(net.state_dict(), tmp_path / "net.pt")
    (tmp_path / "net.yaml").write_text(CONFIG)
    return tmp_path


def images(count):
    batches = Digits(batch_size=32, validation_split=100, seed=3).train_batches()
    batches.set_epoch(0)
    return torch.cat([batch for batch, _ in batches])[:count]


def compressed(command, net, folder, *options):
    """The network in the file, and the file's bytes."""
    target = folder / "net.fwt"
    code, out, err = command("compress", folder / "net.pt", "-o", target, "--force", "-q", *options)
    assert (code, err) == (0, ""), out
    return fw.load_model(copy.deepcopy(net), target).eval(), target.stat().st_size


@torch.no_grad()
def test_units_have_the_means_that_they_had_over_so_many_images(command, net, folder):
    config = ("--config", folder / "net.yaml", "--bits", "2", "--inputs", "50")
    plain, _ = compressed(command, net, folder, "--bits", "2")
    corrected, _ = compressed(command, net, folder, *config)
    inputs = images(50)
    wanted = net(inputs).mean(0)
    assert (plain(inputs).mean(0) - wanted).abs().max() > 1e-3
    torch.testing.assert_close(corrected(inputs).mean(0), wanted, rtol=0, atol=1e-5)
    for name in ("conv1.weight", "bn.weight", "conv2.weight", "fc.weight"):
        assert torch.equal(corrected.state_dict()[name], plain.state_dict()[name])
    before, after = net.conv1(inputs).double(), corrected.conv1(inputs).double()
    mean = net.bn.running_mean + after.mean((0, 2, 3)) - before.mean((0, 2, 3))
    torch.testing.assert_close(corrected.bn.running_mean.double(), mean, rtol=1e-5, atol=1e-6)
    # Over other images it is another correction.
    more, _ = compressed(command, net, folder, *config[:-1], "200")
    assert not torch.equal(more.fc.bias, corrected.fc.bias)


def test_a_recipe_holds_with_inputs_too(command, net, folder):
    fw.Recipe((fw.Rule("conv2.weight", quantize=fw.Quantize(bits=2)),)).save(folder / "recipe.yaml")
    config = ("--config", folder / "net.yaml", "--recipe", folder / "recipe.yaml")
    corrected, _ = compressed(command, net, folder, *config)
    assert torch.equal(corrected.conv1.weight, net.conv1.weight)
    assert torch.equal(corrected.fc.weight, net.fc.weight)
    assert len(corrected.conv2.weight.unique()) == 3  # and no weight was zero
    inputs = images(1024)
    with torch.no_grad():
        torch.testing.assert_close(corrected(inputs).mean(0), net(inputs).mean(0), rtol=0, atol=1e-5)


def test_bits_are_judged_by_the_loss_on_the_inputs(command, net, folder, monkeypatch):
    judged = []
    choose = fw.choose_bits

    def watched(model, recipe, **more):
        judged.append(more)
        return choose(model, recipe, **more)

    monkeypatch.setattr(fw, "choose_bits", watched)
    options = ("--bits", "auto", "--target-size", "4KB")
    _, size = compressed(command, net, folder, "--config", folder / "net.yaml", "--inputs", "40", *options)
    assert size <= 4000
    assert sum(len(labels) for _, labels in judged[0]["data"]) == 40
    assert judged[0]["loss"] is torch.nn.functional.cross_entropy


def test_what_does_not_fit_is_one_line(command, net, folder):
    def failed(*options):
        code, _, err = command("compress", folder / "net.pt", "-o", folder / "other.fwt", *options)
        assert not (folder / "other.fwt").exists()
        return code, err

    code, err = failed("--inputs", "10")
    assert code == 2
    assert "--config" in err
    code, err = failed("--config", folder / "net.yaml", "--inputs", "0")
    assert code == 2
    assert "at least 1" in err
    (folder / "other.yaml").write_text(
        CONFIG.replace("correctable_network.Net", "featherweight.models.LeNet5")
    )
    code, err = failed("--config", folder / "other.yaml")
    assert code == 1
    assert "net.pt" in err
    code, err = failed("--config", folder / "missing.yaml")
    assert code == 1
    assert "missing.yaml" in err
