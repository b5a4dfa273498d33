from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from featherweight.data.batches import Batches, Split
from featherweight.errors import RecipeError
from featherweight.training import distillation
from featherweight.training.distillation import Teacher, all_answers, distillation_loss
from featherweight.training.spec import ClassSpec, Distill, Phase, RunSpec


@pytest.mark.parametrize(("weight", "temperature"), [(0.0, 1.0), (0.5, 1.0), (0.7, 4.0), (1.0, 2.0)])
def test_the_loss_is_that_of_the_formula(weight, temperature):
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(6, 10)), 3 * rng.normal(size=(6, 10))
    labels = rng.integers(10, size=6)
    hard = -log_softmax(student, axis=1)[np.arange(6), labels].mean()
    p, q = log_softmax(teacher / temperature, axis=1), log_softmax(student / temperature, axis=1)
    soft = (np.exp(p) * (p - q)).sum(axis=1).mean()
    found = distillation_loss(
        torch.from_numpy(student), torch.from_numpy(teacher), torch.from_numpy(labels), weight, temperature
    )
    assert float(found) == pytest.approx((1 - weight) * hard + weight * temperature**2 * soft)


def test_a_teacher_neither_learns_nor_drops_out():
    network = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(4, 3))
    teacher = Teacher(network, Distill(weight=1.0))
    images, logits = torch.rand(8, 4), torch.zeros(8, 3, requires_grad=True)
    first = teacher.loss(images, logits, torch.zeros(8, dtype=torch.long))
    first.backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0
    assert network[1].weight.grad is None
    again = teacher.loss(images, logits, torch.zeros(8, dtype=torch.long))
    assert torch.equal(again, first)


@pytest.mark.parametrize(
    ("fields", "message"), [({"weight": 1.5}, "between 0 and 1"), ({"temperature": 0.0}, "above 0")]
)
def test_figures_out_of_range_are_refused(fields, message):
    with pytest.raises(RecipeError, match=message):
        Distill(**fields)


def test_a_teacher_must_be_an_earlier_phase():
    one = ClassSpec("torch.nn.Identity")
    phase = Phase(1, 0.1, distill=Distill("prune"))
    with pytest.raises(RecipeError, match=r"prune.distill: no phase 'prune' comes before it; earlier: fit"):
        RunSpec("x", one, one, one, fit=Phase(1, 0.1), prune=phase)
    with pytest.raises(RecipeError, match=r"fit.distill: .* there is none"):
        RunSpec("x", one, one, one, fit=phase)
    RunSpec("x", one, one, one, fit=Phase(1, 0.1), prune=Phase(1, 0.1), share=phase)


def test_answers_given_beforehand_are_those_of_each_image_as_it_comes():
    batches = Batches(
        Split(torch.rand(30, 1, 6, 6), torch.arange(30)), 8, shuffle=True, seed=1, shift=1, flip=True
    )
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(36, 3))
    answers = all_answers(network, batches)
    assert answers.shape == (30 * 18, 3)
    remembering, asking = Teacher(network, Distill(weight=0.5)), Teacher(network, Distill(weight=0.5))
    remembering.answers = answers
    views = batches.views(4)
    batches.set_epoch(4)
    for index, (images, labels) in enumerate(batches):
        logits = torch.rand(len(images), 3)
        found = remembering.loss(
            torch.zeros_like(images), logits, labels % 3, views[8 * index : 8 * index + len(images)]
        )
        assert float(found) == pytest.approx(float(asking.loss(images, logits, labels % 3)), rel=1e-5)


def test_more_answers_than_memory_should_hold_are_refused(monkeypatch):
    monkeypatch.setattr(distillation, "ANSWERS_BYTES", 1000)
    batches = Batches(Split(torch.rand(30, 1, 2, 2), torch.arange(30)), 8, shift=1)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    with pytest.raises(RecipeError, match=r"30 images in 9 views each take 3,240 bytes, .* leave remember"):
        all_answers(network, batches)
