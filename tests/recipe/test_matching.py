"""Which tensors a rule is for: lists, types of layers, biases."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import featherweight as fw
from featherweight import Prune, Recipe, RecipeError, Rule
from featherweight.recipe import layer_types_of


class MyConv(nn.Conv2d):
    """A class of one's own."""


def make():
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {
            "conv1": nn.Conv2d(1, 4, 3),
            "conv2": MyConv(4, 4, 3),
            "bn": nn.BatchNorm2d(4),
            "fc1": nn.Linear(6, 5),
            "fc2": nn.Linear(5, 3),
        }
    )
    nn.init.uniform_(model["bn"].weight)
    nn.init.uniform_(model["bn"].bias)
    return model


def pruned_by(match, **prune):
    """The tensors that half of which a rule prunes."""
    model = make()
    constraints = fw.prune(model, Recipe((Rule(match, Prune(sparsity=0.5, **prune)),)))
    return set(constraints)


WEIGHTS = {"conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"}


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("type:Conv2d", {"conv1.weight", "conv2.weight"}),
        ("type:MyConv", {"conv2.weight"}),
        ("type:Linear.weight", {"fc1.weight", "fc2.weight"}),
        ("type:Linear.bias", {"fc1.bias", "fc2.bias"}),
        ("type:BatchNorm2d.weight", {"bn.weight"}),
        (("conv1.weight", "fc1.weight"), {"conv1.weight", "fc1.weight"}),
        (("type:MyConv", "re:fc[2].weight"), {"conv2.weight", "fc2.weight"}),
        # biases and norms are left alone unless named
        ("*", WEIGHTS),
        ("fc*", {"fc1.weight", "fc2.weight"}),
        ("*.weight", WEIGHTS),
        ("fc1.bias", {"fc1.bias"}),
        ("*.bias", {"conv1.bias", "conv2.bias", "bn.bias", "fc1.bias", "fc2.bias"}),
        ("bn.*", {"bn.weight", "bn.bias"}),
        (("fc1.weight", "fc1.bias"), {"fc1.weight", "fc1.bias"}),
        (("fc1*", "fc2.bias"), {"fc1.weight", "fc2.bias"}),
        (r"re:fc1\.(weight|bias)", {"fc1.weight", "fc1.bias"}),
        (("*.weight", "bn.weight"), {*WEIGHTS, "bn.weight"}),
    ],
)
def test_what_a_rule_prunes(match, expected):
    assert pruned_by(match) == expected


def test_biases_when_asked():
    assert pruned_by("fc*", biases=True) == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}


def test_compress_leaves_the_same_biases_alone():
    model = make()
    for match in ("fc*", "*.bias", "*"):
        recipe = Recipe((Rule(match, Prune(sparsity=0.5)),))
        expected = pruned_by(match)
        result = fw.compress(model, recipe)
        assert {n for n, p in model.named_parameters() if not torch.equal(p, result[n])} == expected


def test_types_of_layers():
    types = layer_types_of(make())
    assert types["conv2.weight"] == ("MyConv", "Conv2d", "_ConvNd")
    assert types["bn.running_mean"][0] == "BatchNorm2d"
    assert layer_types_of(nn.Linear(2, 2)) == {"weight": ("Linear",), "bias": ("Linear",)}


def test_a_state_dict_knows_no_types(tmp_path):
    recipe = Recipe((Rule("type:Conv2d", Prune(sparsity=0.5)),))
    with pytest.raises(
        RecipeError, match="'type:Conv2d' needs the types of layers, which a state dict does not"
    ):
        fw.compress(make().state_dict(), recipe)
    result = fw.compress(make(), recipe)
    assert int((result["conv1.weight"] == 0).sum()) == 18


@pytest.mark.parametrize(
    ("match", "message"),
    [
        ("type:Conv3d", r"'type:Conv3d' matches no tensor; there are: .* in layers of type Conv2d, MyConv,"),
        (("fc1.weight", "fc9.weight"), r"'fc9.weight' matches no tensor; there are: conv1.weight"),
    ],
)
def test_a_pattern_that_matches_nothing(match, message):
    with pytest.raises(RecipeError, match=message):
        pruned_by(match)


@pytest.mark.parametrize("match", ["type:", "type:Conv2d.weight.data", "type:Conv*", ()])
def test_patterns_that_cannot_be_meant(match):
    with pytest.raises(RecipeError, match="match"):
        Rule(match)


def test_lists_in_yaml(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("rules: [{match: [a.weight, 'type:Linear'], prune: {sparsity: 0.5}}]")
    recipe = Recipe.load(path)
    assert recipe.rules[0].patterns == ("a.weight", "type:Linear")
    recipe.save(tmp_path / "again.json")
    assert Recipe.load(tmp_path / "again.json") == recipe
