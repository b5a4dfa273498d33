import torch

from featherweight.interop.net_file import LAYERS
from featherweight.models import SqueezeNet


def test_shapes_are_those_of_the_released_file():
    state = SqueezeNet().state_dict()
    for layer in LAYERS["squeezenet"]:
        assert tuple(state[f"{layer.name}.weight"].shape) == layer.shape
    assert len(state) == 2 * len(LAYERS["squeezenet"])
    assert sum(t.numel() for t in state.values()) == 1_248_424


def test_maps_images_to_logits():
    network = SqueezeNet(num_classes=7).eval()
    assert network(torch.zeros(2, 3, 227, 227)).shape == (2, 7)
