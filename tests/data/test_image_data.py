from __future__ import annotations

import pytest
import torch

from featherweight.data import Batches, Digits, ImageData, Split
from featherweight.data.base import hold_out
from featherweight.errors import RecipeError


class Numbered(ImageData):
    """200 training and 50 test images, each of its own number."""

    name = "numbered"
    num_classes = 250
    input_shape = (1, 2, 2)
    mean = (0.5,)
    std = (0.5,)
    loads = 0

    def load(self) -> tuple[Split, Split]:
        self.loads += 1
        numbers = torch.arange(250)
        images = numbers.to(torch.uint8).view(-1, 1, 1, 1).expand(250, 1, 2, 2)
        return Split(images[:200], numbers[:200]), Split(images[200:], numbers[200:])


def _seen(batches: Batches) -> list[int]:
    """Numbers that batches yield, read from the images and checked against the labels."""
    seen = []
    for images, labels in batches:
        numbers = ((images[:, 0, 0, 0] * 0.5 + 0.5) * 255).round().long()
        assert torch.equal(numbers, labels)
        seen += numbers.tolist()
    return seen


@pytest.mark.parametrize(("amount", "count"), [(0.1, 20), (30, 30), (0.0, 0), (0, 0), (1, 1), (199, 199)])
def test_train_and_validation_images_never_overlap(amount: int | float, count: int) -> None:
    data = Numbered(validation_split=amount)
    train, validation = _seen(data.train_batches()), _seen(data.validation_batches())
    assert len(validation) == count
    assert sorted(train + validation) == list(range(200))
    assert _seen(data.test_batches()) == list(range(200, 250))
    assert data.loads == 1


def test_the_validation_split_depends_on_the_seed_alone() -> None:
    first = _seen(Numbered(seed=1).validation_batches())
    torch.manual_seed(5)
    assert _seen(Numbered(seed=1, batch_size=7, shift=0).validation_batches()) == first
    assert _seen(Numbered(seed=2).validation_batches()) != first
    assert len(set(first) - set(range(20))) > 10  # chosen at random, not from one end


def test_the_validation_split_stays_the_same_from_version_to_version() -> None:
    _, held_out = hold_out(Split(torch.zeros(12, 1, 1, 1), torch.arange(12)), 4, seed=0)
    assert held_out.labels.tolist() == [4, 6, 10, 11]


def test_only_training_batches_are_shuffled_and_shifted() -> None:
    data = Numbered(batch_size=16, eval_batch_size=30, shift=1, seed=9)
    train, validation = data.train_batches(), data.validation_batches()
    assert (train.batch_size, train.shuffle, train.shift, train.seed) == (16, True, 1, 9)
    assert (validation.batch_size, validation.shuffle, validation.shift) == (30, False, 0)
    assert (len(train), len(validation), len(data.test_batches())) == (12, 1, 2)
    assert data.train_batches() is train


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"eval_batch_size": 0},
        {"shift": -1},
        {"seed": -1},
        {"seed": 1 << 32},
        {"validation_split": -0.1},
        {"validation_split": 1.0},
        {"validation_split": -5},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=str(next(iter(options.values())))):
        Numbered(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", [200, 1000, 0.999])
def test_something_must_be_left_to_train_on(amount: int | float) -> None:
    with pytest.raises(RecipeError, match="leaves nothing of 200 images"):
        Numbered(validation_split=amount).train_batches()


def test_digits_are_a_fixed_stratified_split_of_real_images() -> None:
    (images, labels), (test_images, test_labels) = Digits(seed=0).load()
    assert images.shape == (1257, 1, 28, 28)
    assert test_images.shape == (540, 1, 28, 28)
    assert images.min() >= 0
    assert images.max() <= 1
    assert torch.equal(test_labels, Digits(seed=1).load()[1].labels)
    shares = [part.bincount(minlength=10) / len(part) for part in (labels, test_labels)]
    torch.testing.assert_close(shares[0], shares[1], atol=0.002, rtol=0)


def test_digits_are_normalised() -> None:
    digits = Digits(validation_split=0)
    images = torch.cat([images for images, _ in digits.train_batches()])
    assert abs(images.mean().item()) < 1e-3
    assert abs(images.std().item() - 1) < 1e-3
    assert next(iter(digits.test_batches()))[0].shape[1:] == digits.input_shape


def test_digits_keep_their_picture_when_scaled() -> None:
    """Averaged back to 8×8, each image is closest to its original."""
    from sklearn.datasets import load_digits

    originals = torch.from_numpy(load_digits().images).float()[:, None] / 16
    images, labels = Digits().load()[0]
    small = torch.nn.functional.adaptive_avg_pool2d(images[:100], 8)
    closest = torch.cdist(small.flatten(1), originals.flatten(1)).argmin(1)
    assert torch.equal(torch.from_numpy(load_digits().target)[closest], labels[:100])
