"""Biases and batch-norm statistics corrected on a few inputs: ``fw.compress(..., data=...)``."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import featherweight as fw
from featherweight.errors import RecipeError
from featherweight.output_correction import corrected


class Net(nn.Module):
    """Convolutions with a bias and without, batch norm, and a fully connected end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 6, 3)
        self.fc = nn.Linear(6, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.bn(self.conv1(images)))
        return self.fc(torch.relu(self.conv2(hidden)).mean((2, 3)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Net()
    net(torch.randn(64, 3, 8, 8))  # which gives batch norm its statistics
    return net.eval()


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(16, 3, 8, 8, generator=generator) for _ in range(3)]


def recipe():
    return fw.Recipe((fw.Rule(("conv?.weight", "fc.weight"), quantize=fw.Quantize(bits=2)),))


def load(net, tensors, tmp_path):
    fw.save_file(tensors, tmp_path / "net.fwt")
    return fw.load_model(copy.deepcopy(net), tmp_path / "net.fwt").eval()


def outputs(net, layer, batches):
    seen = []
    handle = net.get_submodule(layer).register_forward_hook(lambda *given: seen.append(given[2].detach()))
    for batch in batches:
        net(batch)
    handle.remove()
    return torch.cat(seen)


def test_units_have_the_means_that_they_had(net, batches, tmp_path):
    plain = load(net, fw.compress(net, recipe()), tmp_path)
    fixed = load(net, fw.compress(net, recipe(), data=batches), tmp_path)
    for layer, over in (("conv2", (0, 2, 3)), ("fc", 0)):
        wanted = outputs(net, layer, batches).mean(over)
        assert (outputs(plain, layer, batches).mean(over) - wanted).abs().max() > 1e-3
        torch.testing.assert_close(outputs(fixed, layer, batches).mean(over), wanted, rtol=0, atol=1e-5)
    for name in ("conv1.weight", "conv2.weight", "fc.weight", "bn.weight", "bn.bias"):
        assert torch.equal(plain.state_dict()[name], fixed.state_dict()[name])


def test_batch_norm_follows_its_inputs(net, batches, tmp_path):
    fixed = load(net, fw.compress(net, recipe(), data=batches), tmp_path)
    before, after = (outputs(n, "conv1", batches).double() for n in (net, fixed))
    mean = net.bn.running_mean + after.mean((0, 2, 3)) - before.mean((0, 2, 3))
    variance = net.bn.running_var * after.var((0, 2, 3)) / before.var((0, 2, 3))
    torch.testing.assert_close(fixed.bn.running_mean.double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(fixed.bn.running_var.double(), variance, rtol=1e-5, atol=1e-6)


def test_a_network_that_is_not_quantized_stays_and_is_not_touched(net, batches):
    state = copy.deepcopy(net.state_dict())
    changed = corrected(net.train(), state, [(batch, None) for batch in batches])
    assert sorted(changed) == ["bn.running_mean", "bn.running_var", "conv2.bias", "fc.bias"]
    for name, tensor in changed.items():
        torch.testing.assert_close(tensor, state[name], rtol=1e-6, atol=1e-7)
    assert net.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())


def test_rules_for_biases_hold_for_corrected_ones(net, batches):
    rules = (
        fw.Rule("fc.bias", quantize=fw.Quantize(bits=1)),
        fw.Rule("conv2.bias", store=fw.Store(bits=16)),
        *recipe().rules,
    )
    plain = fw.compress(net, fw.Recipe(rules))
    made = fw.compress(net, fw.Recipe(rules), data=batches)
    assert isinstance(made["fc.bias"], fw.QuantizedTensor)
    assert torch.equal(made["conv2.bias"], made["conv2.bias"].half().float())
    assert not torch.equal(made["conv2.bias"], plain["conv2.bias"])


def test_data_that_cannot_be(net, batches):
    with pytest.raises(RecipeError, match="pass the module"):
        fw.compress(net.state_dict(), recipe(), data=batches)
    with pytest.raises(RecipeError, match="no inputs"):
        fw.compress(net, recipe(), data=[])
