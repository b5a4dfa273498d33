"""The recipes of docs/experiments.md say what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from featherweight.analysis.sweep import Sweep
from featherweight.models import LeNet5Wide
from featherweight.strict import build, read_mapping
from featherweight.training.sensitivity import prunable
from featherweight.training.spec import RunSpec

RECIPES = Path(__file__).parents[1] / "recipes" / "experiments"
RUNS = sorted(path for path in RECIPES.glob("*.yaml") if not path.name.endswith(".sweep.yaml"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_run_prunes_93_percent_of_the_same_network(path):
    spec = RunSpec.load(path)
    assert spec.name == path.stem
    network = spec.model.create()
    assert isinstance(network, LeNet5Wide)
    sizes = {name: p.numel() for name, p in network.named_parameters() if p.ndim > 1}
    assert list(sizes.values()) == [150, 14_400, 288_000, 10_080, 840]
    pruned = sum(n * spec.recipe.rule_for(name).prune.sparsity_at(None) for name, n in sizes.items())
    assert pruned / sum(sizes.values()) == pytest.approx(0.929, abs=5e-4)
    # Every stage is reached before the training ends.
    assert all(
        rule.prune.sparsity_at(spec.prune.epochs - 1) == rule.prune.sparsity_at(None)
        for rule in spec.recipe.rules
    )


def test_one_shot_and_stepwise_differ_in_nothing_but_the_steps():
    once, stepwise = (RunSpec.load(RECIPES / f"lenet5-wide-{name}.yaml") for name in ("1x6", "6x1"))
    for part in ("model", "data", "optimizer", "fit", "prune", "seed", "channels_last"):
        assert getattr(once, part) == getattr(stepwise, part)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.sweep.yaml")), ids=lambda path: path.name)
def test_every_sweep_fits_the_network(path):
    sweep = build(Sweep, read_mapping(path), str(path))
    names = prunable(LeNet5Wide())
    assert sweep.points(sweep.choose(names))
