"""How much a rule prunes: fractions, counts, lists, thresholds, at the end and on the way."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import featherweight as fw
from featherweight import Prune, Recipe, RecipeError, Rule, Schedule, TensorError


def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.Conv2d(6, 8, 3), nn.Flatten(), nn.Linear(32, 10))


NAMES = ("0.weight", "1.weight", "3.weight")


def zeros(prune, epoch=None, match="*.weight"):
    """How many groups of each weight are pruned: elements, or whole kernels and so on."""
    model = make()
    fw.prune(model, Recipe((Rule(match, prune),)), epoch=epoch)
    gone = {n: p.detach() == 0 for n, p in model.named_parameters() if n in NAMES}
    if prune.granularity == "kernel":
        gone = {n: g.flatten(2).all(2) if g.ndim > 2 else g for n, g in gone.items()}
    elif prune.granularity == "filter":
        gone = {n: g.flatten(1).all(1) for n, g in gone.items()}
    elif prune.granularity == "channel":
        gone = {n: g.transpose(0, 1).flatten(1).all(1) for n, g in gone.items()}
    return [int(g.sum()) for g in gone.values()]


@pytest.mark.parametrize(
    ("prune", "expected"),
    [
        (Prune(sparsity=0.5), [54, 216, 160]),
        (Prune(sparsity=0), [0, 0, 0]),
        (Prune(count=17), [17, 17, 17]),
        (Prune(count=0), [0, 0, 0]),
        (Prune("l1norm", "kernel", 0.25), [3, 12, 80]),
        (Prune("l2norm", "filter", 0.5), [3, 4, 5]),
        (Prune("l1norm", "filter", count=2), [2, 2, 2]),
        (Prune("magnitude", "channel", 0.5), [1, 3, 16]),
        (Prune("l1norm", "filter", amounts=(0.5, 3, 0.1)), [3, 3, 1]),
        (Prune(amounts={"0.weight": 5, "*": 0.5}), [5, 216, 160]),
        (Prune(sparsity=(0.25, 0.5), schedule=Schedule("stages")), [54, 216, 160]),
        (Prune(count=(5, 9), schedule=Schedule("stages")), [9, 9, 9]),
    ],
)
def test_of_each_tensor(prune, expected):
    assert zeros(prune) == expected


@pytest.mark.parametrize("granularity", ["element", "kernel", "filter", "channel"])
def test_over_all_tensors(granularity):
    groups = {"element": 860, "kernel": 380, "filter": 24, "channel": 40}[granularity]
    for prune in (
        Prune("magnitude", granularity, 0.25, scope="global"),
        Prune("magnitude", granularity, count=groups // 4, scope="global"),
    ):
        assert sum(zeros(prune)) == groups // 4


def test_thresholds_on_scores():
    model = make()
    norms = model[1].weight.detach().abs().sum((1, 2, 3))
    threshold = float(norms.sort().values[2])
    assert zeros(Prune("l1norm", "filter", threshold=threshold), match="1.weight")[1] == 3
    assert zeros(Prune("l1norm", "filter", threshold=0.0)) == [0, 0, 0]
    assert zeros(Prune("std", std=0.8)) == zeros(Prune(std=0.8))


@pytest.mark.parametrize(
    ("schedule", "counts"),
    [
        (Schedule("iterative", prune_every=2, target_sparsity=0.3), [10, 10, 20, 20, 30, 30, 32, 32]),
        (Schedule("epochs", epochs=(1, 3)), [0, 10, 10, 20, 20, 20, 20, 20]),
        (Schedule(start_epoch=2), [0, 0, 10, 10, 10, 10, 10, 10]),
        (Schedule("cubic", epochs=4), [0, 6, 9, 10, 10, 10, 10, 10]),
    ],
)
def test_counts_on_the_way(schedule, counts):
    prune = Prune(count=10, schedule=schedule)
    assert [zeros(prune, epoch, "0.weight")[0] for epoch in range(8)] == counts
    assert zeros(prune, None, "0.weight")[0] == counts[-1]


@pytest.mark.parametrize(
    ("prune", "message"),
    [
        (Prune(amounts=(0.5, 0.5)), "2 amounts for 3 tensors: 0.weight, 1.weight, 3.weight"),
        (Prune(amounts={"0.weight": 0.5}), "amounts has none for 1.weight; it has: 0.weight"),
        (
            Prune(amounts={"*": 0.5, "fc": 3}),
            r"amounts\[fc\]: the rule prunes no such tensor; it has: 0.weight",
        ),
    ],
)
def test_amounts_that_do_not_fit(prune, message):
    with pytest.raises(RecipeError, match=message):
        zeros(prune)
    with pytest.raises(RecipeError, match=message):
        fw.compress(make(), Recipe((Rule("*.weight", prune),)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 3, "sparsity": 0.5}, "and only one"),
        ({"count": -3}, "count must be at least 0, got -3"),
        ({"count": (5, 3), "schedule": Schedule("stages")}, r"counts must rise, got \[5, 3\]"),
        ({"amounts": ()}, "amounts is empty"),
        ({"amounts": (1.5,)}, r"amounts\[0\] is a fraction between 0 and 1 or a whole number, got 1.5"),
        ({"amounts": {"a": "x"}}, r"amounts\[a\] is a fraction"),
        ({"amounts": {"a": True}}, r"amounts\[a\] is a fraction"),
        ({"amounts": (0.5,), "scope": "global"}, "they need scope: layer"),
        ({"importance": "l1norm", "std": 1.0}, "std compares magnitudes, not l1norm"),
        ({"importance": "std", "sparsity": 0.5}, "give std, such as std: 0.8"),
        ({"threshold": 0.1, "schedule": Schedule("cubic", epochs=3)}, "cubic schedule needs sparsity"),
        ({"threshold": float("nan")}, "threshold must be a number"),
        ({"sparsity": 0.5, "options": {"samples": 3}}, "importance magnitude has no options, got samples"),
        ({"importance": "taylor1", "sparsity": 0.5, "options": {"sample": 3}}, "did you mean 'samples'"),
    ],
)
def test_prunings_that_cannot_be_meant(options, message):
    with pytest.raises(RecipeError, match=message):
        Prune(**options)


def test_amounts_in_yaml(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "rules:\n"
        "- {match: a, prune: {amounts: [3, 0.5, 1e-1]}}\n"
        "- {match: b, prune: {amounts: {b: 2, c: 0.5}, granularity: filter, importance: l2norm}}\n"
        "- {match: c, prune: {importance: taylor2, sparsity: 1, options: {samples: 9, probes: 2}}}\n"
        "- {match: d, prune: {count: 12, biases: true, allow_empty: true}}\n"
        "- {match: e, prune: {importance: sss, granularity: filter, threshold: 0}}\n"
    )
    recipe = Recipe.load(path)
    assert recipe.rules[0].prune.amounts == (3, 0.5, 0.1)
    assert [type(a) for a in recipe.rules[0].prune.amounts] == [int, float, float]
    assert recipe.rules[1].prune.amounts == {"b": 2, "c": 0.5}
    assert recipe.rules[2].prune.scorer().samples == 9
    recipe.save(tmp_path / "again.yaml")
    assert Recipe.load(tmp_path / "again.yaml") == recipe
    path.write_text("rules: [{match: a, prune: {importance: taylor2, sparsity: 0.5, options: {samles: 3}}}]")
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path)
    where = f"{path}.rules[0].prune: options of taylor2: unknown key 'samles'; did you mean 'samples'?"
    assert str(caught.value) == where


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_tensor_is_not_pruned_to_nothing_unless_asked(scope):
    rule = Rule("0.weight", Prune("l1norm", "filter", 0.95, scope=scope))
    for apply in (fw.prune, fw.compress):
        model = make()
        before = model[0].weight.clone()
        with pytest.raises(TensorError, match=r"0.weight: would be pruned to nothing; .*allow_empty: true"):
            apply(model, Recipe((rule,)))
        assert torch.equal(model[0].weight, before)
    asked = Rule("0.weight", Prune("l1norm", "filter", 0.95, scope=scope, allow_empty=True))
    assert int((fw.compress(make(), Recipe((asked,)))["0.weight"] == 0).all()) == 1
