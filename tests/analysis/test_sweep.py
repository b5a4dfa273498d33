from __future__ import annotations

import pytest

from featherweight.analysis.sweep import DEFAULT_BITS, DEFAULT_SPARSITIES, NETWORK, Row, Sweep, layer_label
from featherweight.errors import RecipeError
from featherweight.strict import build, plain

NAMES = ["conv1.weight", "conv2.weight", "fc1.weight"]


def test_points_are_all_combinations_of_layers_sparsities_and_seeds():
    points = Sweep(sparsities=(0.5, 0.9), seeds=(0, 7), epochs=(3, 0)).points(NAMES)
    assert {(p.layer, p.sparsity, p.seed) for p in points} == {
        (layer, sparsity, seed) for layer in [*NAMES, NETWORK] for sparsity in (0.5, 0.9) for seed in (0, 7)
    }
    assert len({p.key for p in points}) == len(points) == 16
    assert {p.epochs for p in points} == {(0, 3)}


def test_points_of_bits_are_crossed_with_quantizers_and_those_of_sparsities_are_not():
    sweep = Sweep(sparsities=(0.5,), bits=(2, 4), quantizers=("kmeans:linear", "kmeans:density"))
    points = sweep.points(NAMES[:1])
    assert [(p.sparsity, p.bits, p.quantizer) for p in points] == [
        (0.5, None, None),
        (None, 2, "kmeans:linear"),
        (None, 4, "kmeans:linear"),
        (None, 2, "kmeans:density"),
        (None, 4, "kmeans:density"),
    ]


def test_without_a_grid_both_are_swept_over_and_with_one_only_that():
    assert (Sweep().sparsities, Sweep().bits) == (DEFAULT_SPARSITIES, DEFAULT_BITS)
    assert Sweep(bits=(3,)).sparsities == ()
    assert Sweep(sparsities=(0.3,)).bits == ()


def test_a_single_layer_is_not_measured_twice_as_the_whole_network():
    assert {p.layer for p in Sweep().points(NAMES[:1])} == {"conv1.weight"}


def test_the_whole_network_can_be_swept_alone():
    points = Sweep(bits=(3, 2), each=False).points(NAMES)
    assert [(p.layer, p.bits) for p in points] == [(NETWORK, 3), (NETWORK, 2)]
    assert {p.layer for p in Sweep(bits=(2,), each=False).points(NAMES[:1])} == {"conv1.weight"}


def test_with_several_steps_only_the_end_is_measured():
    points = Sweep(sparsities=(0.5,), epochs=(0, 2, 6), steps=(1, 3)).points(NAMES[:1])
    assert [(p.steps, p.epochs) for p in points] == [(1, (0, 2, 6)), (3, (6,))]


def test_layers_are_chosen_by_name_by_glob_and_without_the_suffix_in_the_networks_order():
    assert Sweep(layers=("fc1", "conv*")).choose(NAMES) == NAMES
    assert Sweep(layers=("conv2.weight",)).choose(NAMES) == ["conv2.weight"]
    assert Sweep().choose(NAMES) == NAMES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsities": (1.0,)}, "below 1, got 1.0"),
        ({"sparsities": (-0.1,)}, "got -0.1"),
        ({"sparsities": (0.5, 0.5)}, "sparsities has a value twice"),
        ({"epochs": (-1,)}, "epochs must be"),
        ({"each": False, "network": False}, "leave nothing to measure"),
        ({"seeds": (-1,)}, "seeds must be"),
        ({"seeds": ()}, "seeds must be"),
        ({"scope": "all"}, "known: layer, global"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"limit_batches": 0}, "at least 1"),
        ({"steps": (2,), "epochs": (3,)}, "2 steps cannot share 3 epochs"),
        ({"steps": (2,)}, "2 steps cannot share 0 epochs"),
        ({"steps": (0,)}, "0 steps"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        Sweep(**options)


def test_a_layer_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(RecipeError, match=r"'conv9' is no weight of the network; there are: conv1.weight"):
        Sweep(layers=("conv9",)).choose(NAMES)


def test_a_sweep_reads_back_from_what_yaml_holds():
    sweep = Sweep(layers=("fc*",), sparsities=(0.5, 0.9), epochs=(0, 1), lr=0.01)
    assert build(Sweep, plain(sweep), "test") == sweep


def test_labels():
    assert layer_label("fc1.weight") == "fc1"
    assert layer_label(".weight") == ".weight"
    assert layer_label(NETWORK) == "whole network"


def test_an_accuracy_that_is_none_is_refused():
    with pytest.raises(RecipeError, match="from 0 to 100, got 101"):
        Row("fc1", 0.5, None, "magnitude", "element", 1, None, 0, 0, 101.0, 0.1, 0.5)
