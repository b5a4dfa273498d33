from __future__ import annotations

import pytest
import torch
from torch import nn

from featherweight.errors import RecipeError
from featherweight.models import LeNet5, LeNet5Classic, LeNet5ThreeConvs, LeNet300


@pytest.mark.parametrize(
    ("model", "parameters", "names"),
    [
        (LeNet300(), 266_610, ["fc1", "fc2", "fc3"]),
        (LeNet5(), 431_080, ["conv1", "conv2", "fc1", "fc2"]),
    ],
    ids=["LeNet300", "LeNet5"],
)
def test_it_has_the_parameters_of_the_paper(model: nn.Module, parameters: int, names: list[str]) -> None:
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert list(model.state_dict()) == [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]


@pytest.mark.parametrize("make", [LeNet300, LeNet5])
def test_logits_have_one_row_per_image(make: type[LeNet300 | LeNet5]) -> None:
    assert make(num_classes=7)(torch.rand(5, 1, 28, 28)).shape == (5, 7)


def test_other_inputs() -> None:
    assert LeNet300(in_features=3 * 8 * 8)(torch.rand(2, 3, 8, 8)).shape == (2, 10)
    assert LeNet5(in_channels=3)(torch.rand(2, 3, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("make", [LeNet300, LeNet5])
def test_a_wrong_input_shape_is_refused(make: type[LeNet300 | LeNet5]) -> None:
    with pytest.raises(RuntimeError, match="shape"):
        make()(torch.rand(2, 1, 32, 32))


def test_lenet300_is_two_relu_layers_and_a_linear_one() -> None:
    model = LeNet300()
    images = torch.rand(4, 1, 28, 28)
    hidden = (images.reshape(4, 784) @ model.fc1.weight.T + model.fc1.bias).clamp(min=0)
    hidden = (hidden @ model.fc2.weight.T + model.fc2.bias).clamp(min=0)
    expected = hidden @ model.fc3.weight.T + model.fc3.bias
    torch.testing.assert_close(model(images), expected)


def test_lenet5_has_no_relu_after_its_convolutions() -> None:
    model = LeNet5()
    reference = nn.Sequential(
        model.conv1,
        nn.MaxPool2d(2),
        model.conv2,
        nn.MaxPool2d(2),
        nn.Flatten(),
        model.fc1,
        nn.ReLU(),
        model.fc2,
    )
    images = torch.rand(4, 1, 28, 28)
    torch.testing.assert_close(model(images), reference(images))


@pytest.mark.parametrize("make", [LeNet300, LeNet5])
def test_dropout_acts_in_training_only(make: type[LeNet300 | LeNet5]) -> None:
    torch.manual_seed(0)
    model = make(dropout=0.5)
    images = torch.rand(4, 1, 28, 28)
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (LeNet5Classic(), 61_706),
        (LeNet5ThreeConvs(), 167_566),
        (LeNet5(100, in_channels=3, size=32), 702_170),
    ],
)
def test_variants_have_their_parameters(model: nn.Module, parameters: int) -> None:
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_variants_map_images_to_logits() -> None:
    images = torch.rand(2, 1, 28, 28)
    assert LeNet5Classic(7)(images).shape == LeNet5ThreeConvs(7)(images).shape == (2, 7)
    assert LeNet5(100, in_channels=3, size=32)(torch.rand(2, 3, 32, 32)).shape == (2, 100)
    with pytest.raises(RecipeError, match="multiple of 4, got 30"):
        LeNet5(size=30)
