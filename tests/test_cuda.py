"""Networks on a CUDA device: what is pruned, shared, trained and stored is what the CPU makes of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import featherweight as fw
from featherweight.models import LeNet5, ResNet20
from featherweight.pruning.surgery import SurgeryOptions
from quick_importances import OPTIONS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

#: ``sss`` has no scores of single weights.
IMPORTANCES = {name: options for name, options in OPTIONS.items() if name != "sss"}
QUANTIZERS = {
    "kmeans": {"bits": 3},
    "optimal": {"bits": 3, "init": "optimal"},
    "uniform": {"method": "uniform", "bits": 4},
    "fixed_point": {"method": "fixed_point", "bits": 6},
    "ttq": {"method": "ttq"},
    "ecsq": {"method": "ecsq", "bits": 3, "lagrangian": 0.01, "weights": "fisher"},
}


def network(device):
    torch.manual_seed(0)
    return LeNet5().to(device)


def batches(device, channels=1, size=28):
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(2, 16, channels, size, size, generator=generator)
    labels = torch.randint(0, 10, (2, 16), generator=generator)
    return [(x.to(device), y.to(device)) for x, y in zip(images, labels, strict=True)]


def train(model, data, optimizer, steps=3):
    for step in range(steps):
        images, labels = data[step % len(data)]
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("name", list(IMPORTANCES))
def test_masks_are_those_of_the_cpu(name, scope):
    prune = fw.Prune(name, sparsity=0.5, scope=scope, options=IMPORTANCES[name])
    masks = {}
    for device in ("cpu", "cuda"):
        model = network(device)
        constraints = fw.prune(
            model, fw.Recipe((fw.Rule("fc*.weight", prune),)), data=batches(device), loss=F.cross_entropy
        )
        masks[device] = {key: constraints.mask(key) for key in constraints}
        assert all(mask.device.type == device for mask in masks[device].values())
    for key, mask in masks["cpu"].items():
        assert (masks["cuda"][key].cpu() == mask).float().mean() > 0.95, key


@pytest.mark.parametrize("name", list(QUANTIZERS))
def test_a_trained_network_is_stored_as_it_is(name, tmp_path):
    model, data = network("cuda"), batches("cuda")
    recipe = fw.Recipe((fw.Rule("fc*.weight", fw.Prune(sparsity=0.8), fw.Quantize(**QUANTIZERS[name])),))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    fw.prune(model, recipe, optimizer=optimizer)
    train(model, data, optimizer)
    fw.share(model, recipe, optimizer=optimizer, data=data, loss=F.cross_entropy)
    train(model, data, optimizer)
    assert float((model.fc1.weight == 0).float().mean()) >= 0.8
    assert model.fc1.weight.unique().numel() <= 2 ** QUANTIZERS[name].get("bits", 2)
    fw.save_model(model, tmp_path / "a.fwt")
    loaded = fw.load_file(tmp_path / "a.fwt", device="cuda")
    for key, value in model.state_dict().items():
        assert loaded[key].device.type == "cuda"
        assert torch.equal(loaded[key], value), key


def test_surgery_brings_weights_back():
    model, data = network("cuda"), batches("cuda")
    surgery = SurgeryOptions(c_rate=0.5, gamma=1e-4, power=1, iter_stop=50)
    recipe = fw.Recipe((fw.Rule("fc1.weight", fw.Prune(surgery=surgery)),))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    constraints = fw.prune(model, recipe, optimizer=optimizer)
    train(model, data, optimizer, steps=20)
    assert torch.equal(model.fc1.weight != 0, constraints.mask("fc1.weight"))


@pytest.mark.parametrize("method", ["greedy", "lasso", "random", "l1norm"])
def test_channels_go_from_a_residual_network(method):
    shapes = {}
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        model = ResNet20().to(device).eval()
        data = batches(device, channels=3, size=32)
        layer = "layer1.0.conv1"
        fw.prune_channels(model, {layer: 0.5}, data=data, method=method)
        shapes[device] = [tuple(p.shape) for p in model.parameters()]
        assert model(data[0][0]).device.type == device
    assert shapes["cuda"] == shapes["cpu"]


def test_outputs_are_corrected_on_the_device():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(2704, 10))
    recipe = fw.Recipe((fw.Rule("*.weight", quantize=fw.Quantize(bits=2)),))
    tensors = fw.compress(model.cuda().eval(), recipe, data=batches("cuda"))
    assert set(tensors) == set(model.state_dict())
    assert not torch.equal(tensors["4.bias"].cpu(), model[4].bias.cpu())
