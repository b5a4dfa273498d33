"""Schedules at sample epochs, with the formulas written out."""

from __future__ import annotations

import pytest

from featherweight import Prune, RecipeError, Schedule


def values(schedule, sparsity, epochs):
    return [schedule.sparsity_at(epoch, sparsity) for epoch in epochs]


def test_one_shot():
    schedule = Schedule(start_epoch=2)
    assert values(schedule, 0.8, [0, 1.99, 2, 2.5, 100]) == [0, 0, 0.8, 0.8, 0.8]
    assert schedule.final(0.8) == 0.8


def test_iterative():
    schedule = Schedule("iterative", start_epoch=1, prune_every=2, target_sparsity=0.6)
    expected = [0, 0.2, 0.2, 1 - 0.8**2, 1 - 0.8**2, 1 - 0.8**3, 1 - 0.8**4, 0.6, 0.6]
    assert values(schedule, 0.2, [0.9, 1, 2.9, 3, 4, 5, 7, 9, 50]) == pytest.approx(expected)
    assert [schedule.prunings(epoch) for epoch in (0, 1, 2, 3, 9)] == [0, 1, 1, 2, 5]
    assert schedule.final(0.2) == 0.6


def test_listed_epochs():
    schedule = Schedule("epochs", epochs=(0, 3, 3.5, 8))
    expected = [0.5, 0.5, 0.75, 0.875, 0.875, 0.9375, 0.9375]
    assert values(schedule, 0.5, [0, 2.9, 3, 3.5, 7.9, 8, 99]) == pytest.approx(expected)
    assert schedule.final(0.5) == pytest.approx(0.9375)
    bounded = Schedule("epochs", epochs=(0, 3, 8), target_sparsity=0.7)
    assert values(bounded, 0.5, [0, 3, 8]) == pytest.approx([0.5, 0.7, 0.7])
    assert bounded.final(0.5) == 0.7


def test_stages():
    schedule = Schedule("stages", start_epoch=1, prune_every=3)
    assert values(schedule, (0.3, 0.5, 0.9), [0, 1, 3.9, 4, 7, 10, 13]) == [0, 0.3, 0.3, 0.5, 0.9, 0.9, 0.9]
    listed = Schedule("stages", epochs=(0, 5, 6))
    assert values(listed, (0.3, 0.5, 0.9), [0, 4, 5, 6, 60]) == [0.3, 0.3, 0.5, 0.9, 0.9]
    assert schedule.final((0.3, 0.5, 0.9)) == listed.final((0.3, 0.5, 0.9)) == 0.9


def test_cubic():
    schedule = Schedule("cubic", epochs=10, start_epoch=2)
    expected = [0, 0, 0.9 * (1 - 0.9**3), 0.9 * (1 - 0.5**3), 0.9 * (1 - 0.25**3), 0.9, 0.9]
    assert values(schedule, 0.9, [0, 2, 3, 7, 9.5, 12, 40]) == pytest.approx(expected)
    assert schedule.final(0.9) == pytest.approx(0.9)


def test_cubic_from_an_initial_sparsity():
    schedule = Schedule("cubic", epochs=10, start_epoch=2, initial_sparsity=0.6)
    expected = [0, 0, 0.6, 0.9 - 0.3 * 0.9**3, 0.9 - 0.3 * 0.5**3, 0.9, 0.9]
    assert values(schedule, 0.9, [0, 1.9, 2, 3, 7, 12, 40]) == pytest.approx(expected)
    assert values(schedule, 0.5, [1, 2, 5, 12]) == pytest.approx([0, 0.5, 0.5, 0.5])


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(start_epoch=1),
        Schedule("iterative", start_epoch=1, prune_every=0.7, target_sparsity=0.83),
        Schedule("epochs", epochs=(1, 2, 2.5, 6)),
        Schedule("cubic", epochs=7.3, start_epoch=1.1),
        Schedule("cubic", epochs=7.3, start_epoch=1.1, initial_sparsity=0.3),
    ],
)
def test_sparsity_never_falls_and_ends_at_the_final_one(schedule):
    steps = [schedule.sparsity_at(i / 10, 0.4) for i in range(200)]
    assert steps == sorted(steps)
    assert steps[0] == 0
    assert steps[-1] == pytest.approx(schedule.final(0.4))


NAN = float("nan")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "sometimes"}, "unknown schedule 'sometimes'; known: one_shot, iterative"),
        ({"kind": "cubic"}, "cubic schedule needs epochs, a number above 0, got None"),
        ({"kind": "cubic", "epochs": 0}, "a number above 0, got 0"),
        ({"kind": "cubic", "epochs": NAN}, "a number above 0, got nan"),
        ({"kind": "cubic", "epochs": (1, 2)}, "a number above 0"),
        ({"kind": "epochs"}, "needs epochs, a list, got None"),
        ({"kind": "epochs", "epochs": 3}, "needs epochs, a list, got 3"),
        ({"kind": "epochs", "epochs": ()}, "the list of epochs is empty"),
        ({"kind": "epochs", "epochs": (3, 1)}, r"epochs must rise, got \[3, 1\]"),
        ({"kind": "stages", "epochs": 3}, "is a list, got 3"),
        ({"kind": "iterative"}, "needs target_sparsity"),
        ({"kind": "iterative", "target_sparsity": 1.1}, "between 0 and 1, got 1.1"),
        ({"kind": "iterative", "target_sparsity": NAN}, "between 0 and 1, got nan"),
        ({"prune_every": 0}, "above 0"),
        ({"prune_every": NAN}, "above 0"),
        ({"every_steps": 0}, "above 0"),
        ({"kind": "cubic", "epochs": 3, "initial_sparsity": 1.0}, "from 0 to below 1, got 1.0"),
        ({"kind": "cubic", "epochs": 3, "initial_sparsity": NAN}, "from 0 to below 1, got nan"),
        ({"initial_sparsity": 0.5}, "goes with a cubic schedule, not with one_shot"),
        ({"start_epoch": -1}, "at least 0"),
        ({"start_epoch": NAN}, "at least 0"),
    ],
)
def test_schedules_that_cannot_be_meant(options, message):
    with pytest.raises(RecipeError, match=message):
        Schedule(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either sparsity or std"),
        ({"sparsity": 0.5, "std": 1.0}, "either sparsity or std"),
        ({"sparsity": 1.2}, "between 0 and 1, got 1.2"),
        ({"sparsity": NAN}, "between 0 and 1, got nan"),
        ({"std": -0.1}, "std must be at least 0"),
        ({"std": NAN}, "std must be at least 0"),
        ({"sparsity": (0.5, 0.3), "schedule": Schedule("stages")}, r"must rise, got \[0.5, 0.3\]"),
        ({"sparsity": (), "schedule": Schedule("stages")}, "must rise"),
        ({"sparsity": (0.5, 0.8)}, "goes with a schedule of kind stages"),
        ({"sparsity": 0.5, "schedule": Schedule("stages")}, "goes with a schedule of kind stages"),
        (
            {"sparsity": (0.5, 0.8), "schedule": Schedule("stages", epochs=(1,))},
            "as many epochs as stages are needed, got 1 for 2",
        ),
        ({"std": 1.0, "schedule": Schedule("cubic", epochs=3)}, "cubic schedule needs sparsity"),
    ],
)
def test_prunings_that_cannot_be_meant(options, message):
    with pytest.raises(RecipeError, match=message):
        Prune(**options)


def test_a_std_has_no_sparsity():
    with pytest.raises(RecipeError, match="threshold"):
        Prune(std=1.0).sparsity_at(0)
