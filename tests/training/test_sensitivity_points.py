"""Points of a sensitivity analysis against computations by hand, in any order, by any number of workers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save as save_safetensors
from safetensors.torch import save_file as write_safetensors
from torch.nn.functional import cross_entropy
from training_helpers import Small, digits, network

from featherweight.analysis.sweep import NETWORK, Point, Row, Sweep
from featherweight.errors import CheckpointError, OutputError, RecipeError
from featherweight.quantization import quantize_kmeans
from featherweight.recipe import Prune, Quantize, Recipe, Rule
from featherweight.training.evaluate import evaluate
from featherweight.training.parallel import run_each
from featherweight.training.sensitivity import Task, dense_accuracy, measure
from featherweight.training.spec import ClassSpec, Phase, RunSpec
from featherweight.training.sweeping import SensitivityAnalysis

if TYPE_CHECKING:
    from pathlib import Path

SPEC = RunSpec(
    "small",
    model=ClassSpec("training_helpers.Small"),
    data=ClassSpec("featherweight.data.Digits", {"batch_size": 128}),
    optimizer=ClassSpec("torch.optim.SGD", {"momentum": 0.9}),
    fit=Phase(epochs=2, lr=0.05),
)


@pytest.fixture(scope="module")
def trained() -> Small:
    model = network(Small)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(8):
        batches = digits().train_batches()
        batches.set_epoch(epoch)
        for images, labels in batches:
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            optimizer.step()
    return model


@pytest.fixture
def task(trained: Small) -> Task:
    return Task(SPEC, Sweep(limit_batches=4), save_safetensors(trained.state_dict()))


@pytest.fixture
def weights(trained: Small, tmp_path: Path) -> Path:
    path = tmp_path / "trained.safetensors"
    write_safetensors(trained.state_dict(), path)
    return path


def accuracy(model: torch.nn.Module) -> float:
    return 100 - evaluate(model, digits().validation_batches()).error_percent


def copy_of(model: Small) -> Small:
    copy = Small()
    copy.load_state_dict(model.state_dict())
    return copy


def smallest_to_zero(weight: torch.Tensor, sparsity: float) -> None:
    order = weight.detach().abs().reshape(-1).argsort()
    weight.data.reshape(-1)[order[: round(sparsity * weight.numel())]] = 0


def test_the_dense_network_is_measured_as_it_is(task, trained):
    found, loss = dense_accuracy(task)
    by_hand = evaluate(trained, digits().validation_batches())
    assert found == pytest.approx(100 - by_hand.error_percent)
    assert loss == pytest.approx(by_hand.loss)
    test, _ = dense_accuracy(replace(task, test=True))
    assert test == pytest.approx(100 - evaluate(trained, digits().test_batches()).error_percent)


def test_without_retraining_a_layer_is_pruned_alone_by_magnitude(task, trained):
    [row] = measure((task, Point("fc1.weight", 0, (0,), sparsity=0.97)))
    by_hand = copy_of(trained)
    smallest_to_zero(by_hand.fc1.weight, 0.97)
    assert row.accuracy_percent == pytest.approx(accuracy(by_hand))
    assert row.zeros == pytest.approx(0.97, abs=1e-4)
    assert (row.importance, row.granularity, row.epochs, row.steps) == ("magnitude", "element", 0, 1)


def test_the_whole_network_shares_its_sparsity_globally_or_layer_by_layer(task, trained):
    point = Point(NETWORK, 0, (0,), sparsity=0.97)
    together, alike = copy_of(trained), copy_of(trained)
    everything = torch.cat([together.fc1.weight.reshape(-1), together.fc2.weight.reshape(-1)]).detach()
    threshold = everything.abs().sort().values[round(0.97 * everything.numel())]
    for layer in (together.fc1, together.fc2):
        layer.weight.data[layer.weight.abs() < threshold] = 0
    for layer in (alike.fc1, alike.fc2):
        smallest_to_zero(layer.weight, 0.97)
    each = replace(task, sweep=replace(task.sweep, scope="layer"))
    assert measure((task, point))[0].accuracy_percent == pytest.approx(accuracy(together))
    assert measure((each, point))[0].accuracy_percent == pytest.approx(accuracy(alike))
    assert accuracy(together) != accuracy(alike)  # else this test could not tell them apart


def test_without_retraining_a_layer_is_quantized_alone(task, trained):
    [row] = measure((task, Point("fc1.weight", 0, (0,), bits=2, quantizer="kmeans:density")))
    by_hand = copy_of(trained)
    shared = quantize_kmeans(by_hand.fc1.weight.detach().numpy(), 2, "density", True, 0)
    by_hand.fc1.weight.data = torch.from_numpy(shared.codebook[shared.indices])
    assert row.accuracy_percent == pytest.approx(accuracy(by_hand))
    assert row.quantizer == "kmeans:density"
    assert (row.sparsity, row.importance) == (None, None)


def test_retraining_keeps_what_is_pruned_and_is_that_of_a_plain_loop(task, trained):
    [row] = measure((task, Point("fc1.weight", 3, (1,), sparsity=0.97)))
    by_hand = copy_of(trained)
    smallest_to_zero(by_hand.fc1.weight, 0.97)
    mask = by_hand.fc1.weight != 0
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.005, momentum=0.9)
    batches = digits().train_batches()
    batches.set_epoch(3 * 2**32 + 3)
    for _, (images, labels) in zip(range(4), batches, strict=False):
        optimizer.zero_grad()
        cross_entropy(by_hand(images), labels).backward()
        by_hand.fc1.weight.grad *= mask
        optimizer.step()
    assert row.accuracy_percent == pytest.approx(accuracy(by_hand))
    assert row.loss == pytest.approx(evaluate(by_hand, digits().validation_batches()).loss, rel=1e-4)
    assert row.zeros == pytest.approx(0.97, abs=1e-4)


def test_what_is_measured_on_the_way_is_what_shorter_retraining_ends_with(task):
    point = Point("fc1.weight", 0, (0, 1, 2), sparsity=0.97)
    apart = [measure((task, replace(point, epochs=(n,))))[0] for n in point.epochs]
    assert measure((task, point)) == apart
    assert apart[0].loss > apart[1].loss > apart[2].loss


def test_steps_prune_equal_portions_at_equal_distances(task, monkeypatch):
    asked, epochs = [], []
    prune = __import__("featherweight.training.sensitivity", fromlist=["prune"]).prune
    retrain = __import__("featherweight.training.sensitivity", fromlist=["_retrain"])._retrain

    def watch_prune(model, recipe, **options):
        asked.append((len(epochs), recipe.rules[0].prune.sparsity))
        return prune(model, recipe, **options)

    def watch_retrain(task, model, optimizer, seed, epoch):
        epochs.append(epoch)
        return retrain(task, model, optimizer, seed, epoch)

    monkeypatch.setattr("featherweight.training.sensitivity.prune", watch_prune)
    monkeypatch.setattr("featherweight.training.sensitivity._retrain", watch_retrain)
    [row] = measure((task, Point("fc1.weight", 0, (6,), sparsity=0.9, steps=3)))
    assert asked == [(0, pytest.approx(0.3)), (2, pytest.approx(0.6)), (4, pytest.approx(0.9))]
    assert epochs == list(range(6))
    assert row.zeros == pytest.approx(0.9, abs=1e-4)


def test_the_recipe_says_how_unless_the_point_does(task):
    rules = (
        Rule("fc1.weight", Prune(sparsity=0.3, importance="training_helpers_importance.reversed_magnitude")),
        Rule("fc2.weight", quantize=Quantize(bits=7, init="density")),
    )
    task = replace(task, spec=replace(task.spec, recipe=Recipe(rules)))
    name = "training_helpers_importance.reversed_magnitude"
    [worst] = measure((task, Point("fc1.weight", 0, (0,), sparsity=0.5)))
    [best] = measure((task, Point("fc1.weight", 0, (0,), sparsity=0.5, importance="magnitude")))
    assert (worst.importance, best.importance) == (name, "magnitude")
    assert worst.accuracy_percent < best.accuracy_percent
    [both] = measure((task, Point(NETWORK, 0, (0,), sparsity=0.5)))
    assert both.importance == f"{name}+magnitude"
    assert both.zeros == pytest.approx(0.5, abs=1e-3)
    [quantized] = measure((task, Point("fc2.weight", 0, (0,), bits=3)))
    assert quantized.quantizer == "kmeans:density"


def test_a_point_that_diverges_is_told_by_its_accuracy_and_has_no_loss(task):
    task = replace(task, sweep=replace(task.sweep, lr=1e30))
    [row] = measure((task, Point("fc1.weight", 0, (4,), sparsity=0.9, steps=2)))
    assert row.loss is None
    assert row.accuracy_percent < 30


def analysis(directory: Path, weights: Path, sweep: Sweep, **options) -> SensitivityAnalysis:
    job = SensitivityAnalysis(SPEC, sweep, directory, weights=weights, **options)
    job.prepare()
    return job


SWEEP = Sweep(sparsities=(0.5, 0.95), bits=(3,), epochs=(0, 1), seeds=(0, 1), limit_batches=4)


@pytest.mark.timeout(900)  # workers start for minutes where the cores are busy
def test_any_number_of_workers_finds_the_same(tmp_path, weights):
    alone = analysis(tmp_path / "alone", weights, SWEEP)
    assert {p.key for p in alone.measure(jobs=1)} == {p.key for p in alone.points}
    together = analysis(tmp_path / "together", weights, SWEEP)
    assert len(list(together.measure(jobs=2))) == 18
    assert together.results() == alone.results()
    assert len(alone.results().rows) == 36


def test_what_is_measured_is_not_measured_again_and_a_larger_grid_goes_on(tmp_path, weights):
    small = Sweep(sparsities=(0.5,), epochs=(0,), limit_batches=4)
    first = analysis(tmp_path / "out", weights, small)
    assert len(list(first.measure(jobs=1))) == 3
    assert analysis(tmp_path / "out", weights, small).left() == []
    larger = analysis(tmp_path / "out", weights, replace(small, sparsities=(0.5, 0.9)))
    assert [p.sparsity for p in larger.measure(jobs=1)] == [0.9] * 3
    assert [row.sparsity for row in larger.results().rows] == [0.5, 0.9] * 3
    again = analysis(tmp_path / "out", weights, replace(small, sparsities=(0.5, 0.9)))
    assert again.results() == larger.results()


def test_a_sweep_that_is_stopped_holds_whole_columns_of_its_grid(tmp_path, weights):
    job = analysis(tmp_path / "out", weights, Sweep(sparsities=(0.9, 0.5), bits=(4, 2), seeds=(1, 0)))
    order = [(p.seed, p.sparsity, p.bits) for p in job.left()]
    columns = [(s, *x) for s in (1, 0) for x in ((0.9, None), (0.5, None), (None, 4), (None, 2))]
    assert order == [column for column in columns for _ in range(3)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sweep": replace(SWEEP, lr=0.5)}, r"another lr \(null, now 0.5\)"),
        ({"sweep": replace(SWEEP, limit_batches=5)}, "another limit_batches"),
        ({"test": True}, 'another split .*"validation", now "test"'),
        ({"spec": replace(SPEC, fit=Phase(epochs=3, lr=0.05))}, "another run's fit"),
    ],
)
def test_other_settings_do_not_mix_with_what_is_there(tmp_path, weights, change, message):
    analysis(tmp_path / "out", weights, SWEEP)
    options = {"spec": SPEC, "sweep": SWEEP, **change}
    with pytest.raises(OutputError, match=message):
        SensitivityAnalysis(directory=tmp_path / "out", weights=weights, **options)
    SensitivityAnalysis(directory=tmp_path / "out", weights=weights, replace=True, **options)


RULES = [
    Prune(count=3),
    Prune("taylor1", sparsity=0.5, options={"samples": 16}),
    Prune("l1gate", threshold=0.0, granularity="filter"),
]


@pytest.mark.parametrize("prune", RULES)
@pytest.mark.parametrize("importance", [None, "l1norm"])
def test_a_sweep_takes_the_place_of_whatever_amount_a_recipe_has(weights, prune, importance):
    spec = replace(SPEC, recipe=Recipe((Rule("fc1.weight", prune),)))
    task = Task(spec, Sweep(limit_batches=1), weights.read_bytes())
    (row,) = measure((task, Point("fc1.weight", 0, (0,), sparsity=1.0, importance=importance)))
    assert (row.importance, row.granularity) == (importance or prune.importance, prune.granularity)
    assert row.zeros == 1  # to nothing: a curve goes to its end


@pytest.mark.parametrize("quantizer", ["kmeans:density", "uniform", "fixed_point"])
def test_a_sweep_of_a_quantizer_leaves_options_of_another_behind(weights, quantizer):
    rule = Rule("fc1.weight", quantize=Quantize("fixed_point", integer_bits=2, fraction_bits=6))
    task = Task(replace(SPEC, recipe=Recipe((rule,))), Sweep(limit_batches=1), weights.read_bytes())
    (row,) = measure((task, Point("fc1.weight", 0, (0,), bits=4, quantizer=quantizer)))
    assert row.bits == 4


def test_a_sweep_does_not_remove_channels(weights):
    recipe = Recipe((Rule("fc1.weight", Prune("greedy", granularity="channel", sparsity=0.5)),))
    task = Task(replace(SPEC, recipe=recipe), Sweep(limit_batches=1), weights.read_bytes())
    with pytest.raises(RecipeError, match="removes channels, which a sweep does not"):
        measure((task, Point("fc1.weight", 0, (0,), sparsity=0.5)))


def test_other_weights_do_not_mix_with_what_is_there(tmp_path, weights):
    analysis(tmp_path / "out", weights, SWEEP)
    write_safetensors(network(Small, seed=5).state_dict(), weights)
    with pytest.raises(OutputError, match="results of other weights"):
        analysis(tmp_path / "out", weights, SWEEP)


def test_a_directory_that_holds_something_else_is_left_alone_even_by_force(tmp_path, weights):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not empty; choose another"):
        SensitivityAnalysis(SPEC, SWEEP, tmp_path / "mine", weights=weights, replace=True)
    with pytest.raises(OutputError, match="no directory"):
        SensitivityAnalysis(SPEC, SWEEP, weights, weights=weights, replace=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("spec", "sweep", "message"),
    [
        (SPEC, replace(SWEEP, importances=("nonsense",)), "unknown importance 'nonsense'"),
        (SPEC, replace(SWEEP, quantizers=("nonsense",)), "unknown method 'nonsense'"),
        (SPEC, replace(SWEEP, quantizers=("kmeans:nonsense",)), "unknown init"),
        (SPEC, replace(SWEEP, granularity="nonsense"), "unknown granularity"),
        (SPEC, replace(SWEEP, bits=(99,)), "bits must be"),
        (SPEC, replace(SWEEP, layers=("conv1",)), "no weight of the network; there are: fc1.weight"),
        (replace(SPEC, model=ClassSpec("builtins.dict")), SWEEP, "makes no torch.nn.Module"),
        (replace(SPEC, model=ClassSpec("featherweight.models.SqueezeNet")), SWEEP, "does not take images"),
    ],
)
def test_what_does_not_fit_together_is_found_out_before_anything_is_written(tmp_path, spec, sweep, message):
    with pytest.raises(RecipeError, match=message):
        SensitivityAnalysis(spec, sweep, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    write_safetensors({"fc9.weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors"):
        SensitivityAnalysis(SPEC, SWEEP, tmp_path / "out", weights=tmp_path / "other.safetensors")
    assert not (tmp_path / "out").exists()


def test_a_network_is_trained_first_and_kept(tmp_path, monkeypatch):
    sweep = Sweep(sparsities=(0.5,))
    job = SensitivityAnalysis(SPEC, sweep, tmp_path / "out")
    job.prepare()
    list(job.measure(jobs=1))
    found = job.results()
    assert found.dense_accuracy_percent > 50
    # Its weights are those that anyone may take for another sweep, from the directory like from a run's.
    other = analysis(tmp_path / "other", tmp_path / "out", sweep)
    list(other.measure(jobs=1))
    assert other.results() == found
    # It is not trained again.
    monkeypatch.setattr("featherweight.training.sweeping.train_phase", None)
    again = SensitivityAnalysis(SPEC, sweep, tmp_path / "out")
    again.prepare()
    assert again.left() == []


def test_the_journal_holds_a_line_a_point(tmp_path, weights):
    job = analysis(tmp_path / "out", weights, Sweep(sparsities=(0.5,)))
    list(job.measure(jobs=1))
    lines = [json.loads(line) for line in (tmp_path / "out" / "points.jsonl").read_text().splitlines()]
    assert [sorted(line) for line in lines] == [["settings"], ["dense"], *[["point", "rows"]] * 3]
    assert [Row(**line["rows"][0]) for line in lines[2:]] == list(job.results().rows)


def double(number: int) -> int:
    return 2 * number


def test_jobs_and_backends_that_are_none_are_refused():
    with pytest.raises(RecipeError, match="known: loky, ray"):
        list(run_each(double, [1], backend="threads"))
    with pytest.raises(RecipeError, match="jobs must be"):
        list(run_each(double, [1], jobs=0))


def test_the_callers_threads_are_as_they_were():
    torch.set_num_threads(2)
    assert dict(run_each(threads_of, [1, 2], jobs=1)) == {1: 1, 2: 1}
    assert torch.get_num_threads() == 2


def threads_of(_: int) -> int:
    return torch.get_num_threads()
