"""Pruning within a bound on the accuracy, with accuracies that are made up or measured."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import featherweight as fw
from featherweight.accuracy_bounded import BoundedPruning
from featherweight.errors import CheckpointError, RecipeError
from featherweight.rule_targets import rules_to_prune


class Two(nn.Module):
    """Weights of 10 and of 20."""

    def __init__(self):
        super().__init__()
        self.small, self.large = nn.Linear(10, 1, bias=False), nn.Linear(20, 1, bias=False)
        self.norm = nn.BatchNorm1d(1)

    def forward(self, x):
        return self.norm(self.small(x[:, :10]) + self.large(x))


def recipe(sparsity=1.0, **schedule):
    options = {"kind": "accuracy_bounded", "limit_points": 1.0, "step": 0.5, **schedule}
    return fw.Recipe.from_dict({"rules": [
        {"match": "*.weight", "prune": {"sparsity": sparsity, "schedule": options}}]})  # fmt: skip


class Loop:
    """A training loop whose accuracies are given, one after another."""

    def __init__(self, accuracies, seed=0):
        torch.manual_seed(seed)
        self.model = Two()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.05)
        self.accuracies = iter(accuracies)
        self.states, self.epochs = [], []

    def state(self):
        known = self.optimizer.state_dict()["state"]
        optimizer = {(i, k): v.clone() for i, of in known.items() for k, v in of.items()}
        return {**{k: v.clone() for k, v in self.model.state_dict().items()}, **optimizer}

    def accuracy(self):
        self.states.append(self.state())
        return next(self.accuracies)

    def retrain(self, epochs):
        self.epochs.append(epochs)
        self.states.append(self.state())
        for _ in range(3 * epochs):
            self.optimizer.zero_grad()
            x = torch.randn(16, 20)
            (self.model(x) - x[:, :1]).square().mean().backward()
            self.optimizer.step()

    def prune(self, rules):
        return fw.prune(
            self.model, rules, optimizer=self.optimizer, retrain=self.retrain, accuracy=self.accuracy
        )


def zeros(model):
    return [int((w == 0).sum()) for w in (model.small.weight, model.large.weight)]


def test_layers_in_turn_until_none_gives_any_more():
    # Limit 1 point of 98: kept, kept, taken back (small), kept (exactly at the limit), taken back (large).
    loop = Loop([98.0, 97.9, 99.0, 96.9, 97.0, 96.99])
    constraints = loop.prune(recipe())
    assert loop.epochs == [1] * 5
    # Half of what is left, 10 → 5 and 20 → 10 → 5; the refused steps have gone.
    assert zeros(loop.model) == [5, 15]
    assert [int((~constraints.mask(n)).sum()) for n in ("small.weight", "large.weight")] == [5, 15]
    assert list(loop.accuracies) == []


def test_a_step_taken_back_leaves_every_bit_as_it_was():
    loop = Loop([98.0, 98.0, 10.0, 10.0])  # small is kept; large and small are then taken back
    loop.prune(recipe())
    # states: begin; before and after retraining of each of three steps.
    good = loop.states[2]
    end = loop.state()
    assert set(good) == set(end)
    assert all(torch.equal(good[key], end[key]) for key in good)
    assert any(not torch.equal(good[key], loop.states[4][key]) for key in good)
    assert zeros(loop.model) == [5, 0]


def test_rounds_amounts_and_order():
    loop = Loop([98.0] * 4)
    loop.prune(recipe(most_rounds=1, order="size", retrain_epochs=2))
    assert zeros(loop.model) == [5, 10]
    assert loop.epochs == [2, 2]
    first = loop.states[1]
    assert int((first["large.weight"] == 0).sum()) == 10  # the largest first
    assert int((first["small.weight"] == 0).sum()) == 0
    loop = Loop([98.0] * 20)
    loop.prune(recipe(sparsity=0.6))
    assert zeros(loop.model) == [6, 12]
    loop = Loop([98.0] * 40)
    loop.prune(recipe())
    assert zeros(loop.model) == [9, 19]  # never to nothing


def bounded(loop, rules):
    constraints = fw.Constraints(loop.model).attach(loop.optimizer)
    return BoundedPruning(loop.model, rules_to_prune(loop.model, rules), constraints, [loop.optimizer])


def test_the_state_goes_on_in_another_process(tmp_path):
    accuracies = [98.0, 97.5, 96.0, 97.6, 90.0]
    one = Loop([])
    pruning = bounded(one, recipe())
    pruning.begin(accuracies[0])
    pruning.propose()
    pruning.judge(accuracies[1])
    pruning.propose()
    torch.save((one.model.state_dict(), pruning.state_dict()), tmp_path / "state.pt")
    weights, state = torch.load(tmp_path / "state.pt", weights_only=True)
    other = Loop([], seed=1)
    other.model.load_state_dict(weights)
    again = bounded(other, recipe())
    for name in ("small.weight", "large.weight"):
        again._constraints.set_mask(name, pruning._constraints.mask(name))
    again.load_state_dict(state)
    for each in (pruning, again):
        for accuracy in accuracies[2:]:
            each.judge(accuracy)
            each.propose()
    assert again.journal() == pruning.journal()
    assert pruning.journal()["finished"]
    assert [step["kept"] for step in pruning.journal()["steps"]] == [True, False, True, False]
    assert torch.equal(one.model.small.weight, other.model.small.weight)
    rules = fw.Recipe.from_dict({"rules": [{"match": "small.weight", "prune": {
        "sparsity": 1, "schedule": {"kind": "accuracy_bounded", "limit_points": 1}}}]})  # fmt: skip
    with pytest.raises(CheckpointError, match="of other layers"):
        bounded(Loop([]), rules).load_state_dict(state)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"limit_points": None}, "needs limit_points"),
        ({"limit_points": -1}, "at least 0; got -1"),
        ({"step": 0}, "step is a fraction of what is left, above 0 and at most 1, got 0"),
        ({"retrain_epochs": 0}, "retrain_epochs must be at least 1, got 0"),
        ({"most_rounds": 0}, "most_rounds must be at least 1, got 0"),
        ({"order": "random"}, "unknown order 'random'; known: model, size"),
        ({"epochs": 3}, "takes no epochs"),
        ({"kind": "one_shot"}, "limit_points belongs to a schedule of kind accuracy_bounded, not one_shot"),
    ],
)
def test_schedules_that_cannot_be_meant(schedule, message):
    with pytest.raises(RecipeError, match=message):
        recipe(**schedule)


def test_what_is_missing_or_does_not_go_together():
    model = Two()
    with pytest.raises(RecipeError, match="needs retrain, accuracy and optimizer"):
        fw.prune(model, recipe())
    with pytest.raises(RecipeError, match="an accuracy_bounded schedule needs training"):
        fw.compress(model, recipe())
    schedule = fw.Schedule("accuracy_bounded", limit_points=1.0)
    with pytest.raises(RecipeError, match="needs sparsity, count or amounts"):
        fw.Prune(std=1.0, schedule=schedule)
    with pytest.raises(RecipeError, match="scope: layer"):
        fw.Prune(sparsity=0.5, scope="global", schedule=schedule)
    rules = (
        fw.Rule("small.weight", fw.Prune(sparsity=0.5)),
        fw.Rule("large.weight", fw.Prune(sparsity=0.5, schedule=schedule)),
    )
    with pytest.raises(
        RecipeError, match=r"'large.weight' has an accuracy_bounded schedule and that for 'small"
    ):
        fw.prune(model, fw.Recipe(rules))
