"""Layers that compute only with the units and inputs that have weights left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from training_helpers import LIGHTNING_WARNINGS, Small, SmallConvolution, network, train

from featherweight.constraints import Incremental, Mask, Relabelled, Sharing, Ternary
from featherweight.training.callbacks import PruneByRecipe
from featherweight.training.live import LiveLayer, LiveOnly, kept

if TYPE_CHECKING:
    from pathlib import Path

    import lightning

pytestmark = [pytest.mark.filterwarnings(text) for text in LIGHTNING_WARNINGS]


def layers() -> list[tuple[torch.nn.Module, tuple[int, ...]]]:
    torch.manual_seed(0)
    return [
        (torch.nn.Linear(30, 20), (8, 30)),
        (torch.nn.Linear(30, 20, bias=False), (8, 30)),
        (torch.nn.Conv2d(5, 6, 3, stride=2, padding=1), (4, 5, 9, 7)),
        (torch.nn.Conv2d(5, 6, 3, bias=False, padding="same"), (4, 5, 9, 7)),
        (torch.nn.Conv2d(5, 6, 3, padding=1, padding_mode="reflect"), (4, 5, 9, 7)),
    ]


@pytest.mark.parametrize("number", range(len(layers())))
@pytest.mark.parametrize("dead", ["rows", "columns", "both", "neither"])
def test_outputs_and_gradients_are_those_of_the_whole_layer(number: int, dead: str) -> None:
    layer, shape = layers()[number]
    keep = torch.rand(layer.weight.shape) < 0.7
    if dead in ("rows", "both"):
        keep[1::2] = False
    if dead in ("columns", "both"):
        keep[:, ::3] = False
    with torch.no_grad():
        layer.weight *= keep
    inputs = torch.rand(shape, requires_grad=True)
    other = inputs.detach().clone().requires_grad_()
    expected = layer(inputs)
    direction = torch.rand_like(expected)
    (expected * direction).sum().backward()
    gradients = [parameter.grad.clone() for parameter in layer.parameters()]
    layer.zero_grad()

    live = LiveLayer(layer, keep)
    found = live(other)
    (found * direction).sum().backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(other.grad, inputs.grad)
    torch.testing.assert_close(layer.weight.grad * keep, gradients[0] * keep)
    if layer.bias is not None:
        torch.testing.assert_close(layer.bias.grad, gradients[1])
    cells = keep.flatten(2).any(2) if keep.ndim > 2 else keep
    assert live.share == pytest.approx(float(cells.any(1).float().mean() * cells.any(0).float().mean()))


def test_a_sequence_goes_through_the_whole_layer() -> None:
    layer = torch.nn.Linear(6, 4)
    keep = torch.zeros(4, 6, dtype=torch.bool)
    keep[0, 0] = True
    inputs = torch.rand(3, 5, 6)
    assert torch.equal(LiveLayer(layer, keep)(inputs), layer(inputs))


def test_a_layer_without_any_weight_is_not_live() -> None:
    assert LiveLayer(torch.nn.Linear(6, 4), torch.zeros(4, 6, dtype=torch.bool)).share == 1.0


def test_only_weights_that_cannot_come_back_are_left_out() -> None:
    keep = torch.tensor([[True, False]])
    assert kept(Mask(keep)) is keep
    indices = torch.tensor([[1, 0]], dtype=torch.uint8)
    assert torch.equal(kept(Sharing(indices, 2, True, torch.tensor([1, 0]))), keep)
    assert kept(Sharing(indices, 2, False, torch.tensor([1, 0]))) is None
    shadow = torch.zeros(1, 2)
    assert kept(Relabelled(shadow, keep, indices=indices.long(), codebook=torch.zeros(2))) is keep
    assert kept(Relabelled(shadow, keep, indices=indices.long(), fixed_zero=False)) is None
    assert kept(Incremental(shadow, keep)) is keep
    assert kept(Incremental(shadow, fixed_zero=False)) is None
    assert kept(Ternary(shadow, keep)) is None
    assert kept(None) is None


@pytest.mark.parametrize("kind", [Small, SmallConvolution])
def test_training_comes_to_the_same_weights(kind: type[torch.nn.Module], tmp_path: Path) -> None:
    recipe = {
        "rules": [
            {
                "match": "*.weight",
                "prune": {
                    "sparsity": 0.97,
                    "scope": "global",
                    "schedule": {"kind": "cubic", "epochs": 2, "every_steps": 2},
                },
            }
        ]
    }
    lively = [0]

    class Counting(LiveOnly):
        def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
            lively[0] += bool(self._changed)

    results = []
    for more in ([], [Counting()]):
        small = network(kind)
        train(small, [PruneByRecipe(recipe), *more], tmp_path)
        assert not any("forward" in vars(module) for module in small.modules())
        results.append(small.state_dict())
    assert lively[0] >= 6
    for name, weight in results[0].items():
        torch.testing.assert_close(results[1][name], weight, rtol=1e-3, atol=1e-5)
        assert torch.equal(results[1][name] != 0, weight != 0)
