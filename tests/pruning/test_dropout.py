"""Dropout before pruned layers, with numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from featherweight.errors import RecipeError
from featherweight.models import LeNet300
from featherweight.pruning.dropout import adjust_dropout, dropout_feeds


class Branches(nn.Module):
    """One dropout before two layers, by way of a norm and an addition; one before none."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.before = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(8)
        self.left, self.right = nn.Linear(8, 2), nn.Linear(8, 4)
        self.last = nn.Dropout(0.25)

    def forward(self, x):
        hidden = self.before(self.first(x).relu())
        return self.last(torch.cat([self.left(self.norm(hidden) + hidden), self.right(hidden)], 1))


class Undecided(Branches):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else self.first(x)


def keep(layer, count):
    with torch.no_grad():
        layer.weight.view(-1)[count:] = 0
        layer.weight.view(-1)[:count] = 1


def test_one_dropout_before_one_layer():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 5))
    keep(model[3], 10)  # of 40 connections: √(1/4)
    assert dropout_feeds(model) == {"2": ["3"]}
    assert adjust_dropout(model) == {"2": 0.25}
    assert model[2].p == 0.25
    # From D_o again and not from what it has become.
    assert adjust_dropout(model, original={"2": 0.5}) == {"2": 0.25}
    keep(model[3], 20)
    assert adjust_dropout(model, original={"2": 0.5})["2"] == pytest.approx(0.5 * math.sqrt(0.5))


def test_several_layers_count_together():
    model = Branches()
    assert dropout_feeds(model) == {"before": ["left", "right"]}
    keep(model.left, 4)
    keep(model.right, 8)  # 12 of 16 + 32
    assert adjust_dropout(model) == {"before": 0.25}
    assert model.last.p == 0.25
    lenet = LeNet300(dropout=0.5)  # calls its one dropout twice
    assert dropout_feeds(lenet) == {"dropout": ["fc2", "fc3"]}
    keep(lenet.fc2, 3000)
    keep(lenet.fc3, 100)
    assert adjust_dropout(lenet)["dropout"] == pytest.approx(0.5 * math.sqrt(3100 / 31000))


def test_the_layers_may_be_given():
    model = Undecided()
    with pytest.raises(RecipeError, match=r"torch.fx cannot trace Undecided: .*say which layers"):
        adjust_dropout(model)
    keep(model.right, 8)
    assert adjust_dropout(model, feeds={"before": ["right"]}) == {"before": 0.25}
    for feeds, message in (
        ({"left": ["right"]}, "'left' is no dropout of the model; it has: before, last"),
        ({"before": ["norm"]}, "before is before 'norm', which is no layer with weights"),
        ({"before": 3}, r"adjust_dropout\[before\]: expected a layer's name or a list of them, got 3"),
    ):
        with pytest.raises(RecipeError, match=message):
            dropout_feeds(model, feeds)
    assert dropout_feeds(nn.Linear(2, 2)) == {}
