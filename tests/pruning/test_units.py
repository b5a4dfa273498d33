"""Dead units and the order of units, against what the network computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from featherweight.errors import RecipeError
from featherweight.models import LeNet5, LeNet300
from featherweight.pruning import arrange_units, check_units, without_dead_units
from featherweight.recipe import Prune, Recipe, Rule, Units
from featherweight.training_steps import prune
from featherweight.unit_rules import arrange

LENET5 = [("conv1", "conv2"), ("conv2", "fc1"), ("fc1", "fc2")]
LENET300 = [("fc1", "fc2"), ("fc2", "fc3")]


def sparse(model: nn.Module, keep: float, seed: int = 0) -> nn.Module:
    """Keep some of the weights, none of whole units here and there."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(torch.rand(parameter.shape, generator=generator) < keep)
                parameter[:: 3 if len(parameter) > 10 else 99] = 0
    return model


def masks_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach() != 0 for name, p in model.named_parameters() if p.ndim > 1}


@pytest.mark.parametrize(("model", "pairs"), [(LeNet5, LENET5), (LeNet300, LENET300)])
def test_arranging_units_changes_nothing_that_the_network_computes(model, pairs):
    torch.manual_seed(0)
    network = sparse(model(), 0.05).double()
    images = torch.rand(16, 1, 28, 28, dtype=torch.float64)
    before = network(images)
    network.load_state_dict(arrange_units(network.state_dict(), pairs))
    torch.testing.assert_close(network(images), before)


def test_full_units_come_first_and_dead_ones_lose_their_biases():
    torch.manual_seed(1)
    state = sparse(LeNet300(), 0.01).state_dict()
    arranged = arrange_units(state, LENET300)
    for layer, reader in LENET300:
        counts = (arranged[f"{layer}.weight"] != 0).sum(1)
        assert bool((counts[1:] <= counts[:-1]).all())
        unread = (arranged[f"{reader}.weight"] != 0).sum(0) == 0
        assert bool(unread.any())
        assert torch.equal(arranged[f"{layer}.bias"] == 0, unread)
    assert (state["fc1.bias"] != 0).all()  # what was given is as it was


def test_dead_units_take_their_weights_with_them():
    masks = {
        "a.weight": torch.tensor([[1, 1], [0, 0], [1, 0]]).bool(),
        "b.weight": torch.tensor([[1, 1, 0], [0, 1, 0]]).bool(),
        "c.weight": torch.tensor([[1, 1]]).bool(),
        "other.weight": torch.ones(2, 2).bool(),
    }
    after = without_dead_units(masks, [("a", "b"), ("b", "c")])
    # Nothing feeds a's unit 1, so b's unit 1, which reads that alone, dies too; nothing reads a's unit 2.
    assert after["a.weight"].tolist() == [[True, True], [False, False], [False, False]]
    assert after["b.weight"].tolist() == [[True, False, False], [False, False, False]]
    assert after["c.weight"].tolist() == [[True, False]]
    assert torch.equal(after["other.weight"], masks["other.weight"])
    assert masks["b.weight"].sum() == 3  # what was given is as it was


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_of_random_masks_only_units_that_are_fed_and_read_are_left(layout):
    torch.manual_seed(2)
    masks = {
        name: m.contiguous(memory_format=layout) if m.ndim == 4 else m
        for name, m in masks_of(sparse(LeNet5(), 0.01)).items()
    }
    after = without_dead_units(masks, LENET5)
    for layer, reader in LENET5:
        units = len(after[f"{layer}.weight"])
        fed = after[f"{layer}.weight"].flatten(1).any(1)
        read = after[f"{reader}.weight"].transpose(0, 1).reshape(units, -1).any(1)
        assert torch.equal(fed, read)
        assert 0 < int(fed.sum()) < units
    assert all(bool((masks[name] | ~after[name]).all()) for name in masks)  # nothing came back


def test_a_layer_without_a_mask_is_left_out():
    masks = {"a.weight": torch.zeros(2, 2).bool()}
    assert without_dead_units(masks, [("a", "b")])["a.weight"].sum() == 0


def test_pruning_by_a_recipe_buries_dead_units():
    torch.manual_seed(3)
    network = LeNet300()
    with torch.no_grad():
        network.fc1.weight[7] = 0
    recipe = Recipe(
        (Rule("fc*.weight", Prune(sparsity=0.5, scope="global")),),
        units=(Units("fc1", "fc2"), Units("fc2", "fc3")),
    )
    prune(network, recipe)
    assert not network.fc2.weight[:, 7].any()


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("fc1", "fc9"), "no layer 'fc9'"),
        (("nothing", "fc2"), "no layer 'nothing'"),
        (("fc1", "fc3"), "fc3 has 100 inputs"),
    ],
)
def test_units_that_do_not_fit_are_refused(pair, message):
    network = LeNet300()
    with pytest.raises(RecipeError, match=message):
        check_units({name: tuple(t.shape) for name, t in network.state_dict().items()}, [pair])
    with pytest.raises(RecipeError, match=message):
        arrange(network, Recipe(units=(Units(*pair),)))
