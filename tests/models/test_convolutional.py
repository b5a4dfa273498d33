"""AlexNet, VGG-16 and residual networks: shapes, parameter counts, and the shortcuts by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import featherweight as fw
from featherweight.errors import CheckpointError, RecipeError
from featherweight.models import VGG16, AlexNet, CifarResNet, ResNet18, ResNet20, ResNet32, ResNet56
from featherweight.models.resnet import BasicBlock


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        (ResNet20, 269_722),
        (ResNet32, 464_154),
        (ResNet56, 853_018),
        (ResNet18, 11_689_512),
        (AlexNet, 57_044_810),
        (VGG16, 65_095_498),
        (lambda: VGG16(num_classes=1000, size=224), 138_357_544),
    ],
)
def test_parameters_are_as_many_as_published(make, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in make().parameters()) == parameters


@pytest.mark.parametrize(
    ("network", "size"),
    [
        (CifarResNet(depth=8, num_classes=7), 32),
        (CifarResNet(depth=8, num_classes=7, shortcut="B"), 32),
        (ResNet18(7, small_images=True), 32),
        (ResNet18(7, shortcut="A"), 64),
    ],
    ids=["A", "B", "small", "large"],
)
def test_residual_networks_map_images_to_logits(network, size):
    assert network.eval()(torch.zeros(2, 3, size, size)).shape == (2, 7)


@pytest.mark.parametrize(("size", "batch_norm"), [(32, False), (64, True)])
def test_vgg_maps_images_of_its_size_to_logits(size, batch_norm):
    network = VGG16(num_classes=7, size=size, batch_norm=batch_norm).eval()
    assert network(torch.zeros(1, 3, size, size)).shape == (1, 7)
    assert ("bn5_3.weight" in network.state_dict()) == batch_norm


@pytest.mark.parametrize(("size", "stride"), [(128, 2), (128, 4), (160, 4)])
def test_alexnet_takes_images_of_several_sizes(size, stride):
    with torch.no_grad():
        assert AlexNet(num_classes=7, stride=stride).eval()(torch.zeros(1, 3, size, size)).shape == (1, 7)


def test_the_maps_of_alexnet_at_128_pixels_need_no_averaging():
    network = AlexNet()
    seen = {}
    network.to_map.register_forward_hook(lambda _m, inputs, output: seen.update(i=inputs[0], o=output))
    with torch.no_grad():
        network.eval()(torch.rand(1, 3, 128, 128))
    assert torch.equal(seen["i"], seen["o"])


@torch.no_grad()
def test_option_a_pads_with_zero_channels_on_both_sides():
    torch.manual_seed(0)
    block = BasicBlock(4, 8, stride=2, shortcut="A").eval()
    features = torch.randn(2, 4, 6, 6)
    residual = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(features)))))
    expected = residual.clone()
    for channel in range(4):
        for row in range(3):
            for column in range(3):
                expected[:, 2 + channel, row, column] += features[:, channel, 2 * row, 2 * column]
    torch.testing.assert_close(block(features), expected.relu())
    assert not any("downsample" in name for name in block.state_dict())


@torch.no_grad()
def test_option_b_projects():
    torch.manual_seed(0)
    block = BasicBlock(4, 8, stride=2, shortcut="B").eval()
    features = torch.randn(2, 4, 6, 6)
    residual = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(features)))))
    projected = torch.einsum(
        "oi,bihw->bohw", block.downsample[0].weight[:, :, 0, 0], features[:, :, ::2, ::2]
    )
    torch.testing.assert_close(block(features), (residual + block.downsample[1](projected)).relu())


def test_impossible_networks_are_refused():
    with pytest.raises(RecipeError, match="6n \\+ 2"):
        CifarResNet(depth=21)
    with pytest.raises(RecipeError, match="'C'; known: A, B"):
        ResNet20(shortcut="C")
    with pytest.raises(RecipeError, match="multiple of 32, got 100"):
        VGG16(size=100)


def test_the_publishers_checkpoint_fits():
    root = os.environ.get("FEATHERWEIGHT_DATA")
    path = Path(root or "") / "pretrained" / "resnet20-12fca82f.th"
    if not root or not path.exists():
        pytest.skip("needs pretrained/resnet20-12fca82f.th under FEATHERWEIGHT_DATA")
    from featherweight.interop.checkpoints import read_checkpoint

    state = read_checkpoint(path)
    missing = set(ResNet20().state_dict()) ^ set(state)
    assert {name.rpartition(".")[2] for name in missing} == {"num_batches_tracked"}


def test_a_file_without_batch_counters_loads(tmp_path):
    """Checkpoints from before PyTorch 0.4.1 have no num_batches_tracked."""
    torch.manual_seed(0)
    saved, network = CifarResNet(depth=8), CifarResNet(depth=8)
    state = {n: t for n, t in saved.state_dict().items() if not n.endswith("num_batches_tracked")}
    fw.save_file(state, tmp_path / "old.fwt")
    fw.load_model(network, tmp_path / "old.fwt")
    for name, tensor in saved.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor)
    del state["bn1.weight"]
    fw.save_file(state, tmp_path / "none.fwt")
    with pytest.raises(CheckpointError, match=r"without bn1\.weight"):
        fw.load_model(network, tmp_path / "none.fwt")


@pytest.mark.slow
def test_the_publishers_resnet20_classifies_jpegs(tmp_path):
    """81.0 % on CIFAR-10 (JPEG); 91.7 % on the original pixels."""
    root = os.environ.get("FEATHERWEIGHT_DATA")
    if not root or not (Path(root) / "cifar10-jpeg").exists():
        pytest.skip("needs cifar10-jpeg and pretrained under FEATHERWEIGHT_DATA")
    from featherweight.data.cifar import CIFAR10JPEG
    from featherweight.data.image_folder import IMAGENET_MEAN, IMAGENET_STD
    from featherweight.interop.checkpoints import read_checkpoint
    from featherweight.training.evaluate import evaluate

    fw.save_file(read_checkpoint(Path(root) / "pretrained" / "resnet20-12fca82f.th"), tmp_path / "r.fwt")
    network = fw.load_model(ResNet20(), tmp_path / "r.fwt")
    data = CIFAR10JPEG(mean=IMAGENET_MEAN, std=IMAGENET_STD, data_root=root)
    assert evaluate(network, data.test_batches()).error_percent == pytest.approx(18.97, abs=0.05)
