from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, distributed

from featherweight.data import batches as batches_module
from featherweight.data.batches import Batches, Split, shard, shard_length
from featherweight.errors import DataError, RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable


def _numbered(n: int) -> Split:
    """Images whose pixels, like their labels, say which they are."""
    return Split(torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1).expand(n, 1, 3, 4), torch.arange(n))


def _epoch(batches: Batches, epoch: int) -> list[tuple[Tensor, Tensor]]:
    batches.set_epoch(epoch)
    return list(batches)


def _labels(batches: Batches, epoch: int = 0) -> list[int]:
    return [int(label) for _, labels in _epoch(batches, epoch) for label in labels]


@pytest.mark.parametrize("block_bytes", [1, 2000, 1 << 24])
@pytest.mark.parametrize(("n", "sizes"), [(10, [4, 4, 2]), (8, [4, 4]), (3, [3]), (0, [])])
def test_every_image_comes_once_with_its_label(
    n: int, sizes: list[int], block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches_module, "BLOCK_BYTES", block_bytes)
    batches = Batches(_numbered(n), 4, shuffle=True)
    epoch = _epoch(batches, 0)
    assert [len(labels) for _, labels in epoch] == sizes
    assert len(batches) == len(sizes)
    assert sorted(_labels(batches)) == list(range(n))
    for images, labels in epoch:
        assert images.shape == (len(labels), 1, 3, 4)
        assert torch.equal(images, labels.float().view(-1, 1, 1, 1).expand_as(images))


def test_drop_last_leaves_out_the_batch_that_is_not_full() -> None:
    batches = Batches(_numbered(11), 4, drop_last=True)
    assert len(batches) == 2
    assert _labels(batches) == list(range(8))


def test_without_shuffling_the_order_is_that_of_the_split() -> None:
    batches = Batches(_numbered(10), 4)
    assert _labels(batches, 0) == _labels(batches, 3) == list(range(10))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    first, again = (Batches(_numbered(50), 8, shuffle=True, seed=1) for _ in range(2))
    orders = [_labels(first, epoch) for epoch in range(3)]
    torch.manual_seed(99)
    assert _labels(again, 2) == orders[2]
    assert _labels(first, 0) == orders[0]
    assert len({tuple(order) for order in orders}) == 3
    assert _labels(Batches(_numbered(50), 8, shuffle=True, seed=2), 0) != orders[0]


def test_the_sampler_sets_the_epoch_even_after_iter() -> None:
    batches = Batches(_numbered(50), 50, shuffle=True)
    expected = _labels(batches, 5)
    batches.set_epoch(0)
    iterator = iter(batches)
    batches.sampler.set_epoch(5)  # what Lightning does when it resumes
    assert batches.batch_sampler is None  # what it reads from all that has a sampler
    assert next(iterator)[1].tolist() == expected


def test_iterating_does_not_touch_the_global_generator() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    list(Batches(_numbered(9), 4, shuffle=True, shift=1))
    assert torch.equal(torch.rand(1), expected)


def _dots(n: int, size: int = 7) -> Split:
    """Black images with one white pixel in the middle."""
    images = torch.zeros(n, 1, size, size, dtype=torch.uint8)
    images[:, :, size // 2, size // 2] = 255
    return Split(images, torch.arange(n))


def _positions(batches: Batches, epoch: int) -> dict[int, tuple[int, int]]:
    return {
        int(label): divmod(int(image.argmax()), image.shape[-1])
        for images, labels in _epoch(batches, epoch)
        for image, label in zip(images, labels, strict=True)
    }


def test_shifts_are_uniform_and_stay_within_bounds() -> None:
    batches = Batches(_dots(5000), 128, shuffle=True, shift=2)
    found = list(_positions(batches, 0).values())
    counts = torch.zeros(7, 7)
    for row, column in found:
        counts[row, column] += 1
    assert counts[1:6, 1:6].sum() == 5000
    assert counts[1:6, 1:6].min() > 140  # 200 expected; this is 4.3 standard deviations below
    assert counts[1:6, 1:6].max() < 260


def test_shifts_depend_on_seed_and_epoch_but_not_on_how_batches_are_cut() -> None:
    positions = _positions(Batches(_dots(40), 8, shuffle=True, shift=2, seed=3), 1)
    assert _positions(Batches(_dots(40), 5, shift=2, seed=3), 1) == positions
    assert _positions(Batches(_dots(40), 8, shift=2, seed=3), 2) != positions
    assert _positions(Batches(_dots(40), 8, shift=2, seed=4), 1) != positions


def test_what_moves_in_is_background() -> None:
    batches = Batches(_dots(20), 20, mean=(0.5,), std=(0.5,), shift=3)
    images, _ = next(iter(batches))
    assert ((images == 1.0).sum((1, 2, 3)) == 1).all()
    assert ((images == -1.0).sum((1, 2, 3)) == 48).all()


def test_batches_may_be_written_to() -> None:
    batches = Batches(_numbered(20), 4)
    weight = torch.ones(1, requires_grad=True)
    losses = []
    for images, _ in batches:
        losses.append((weight * images).sum())  # keeps images for backward
        images.clone().zero_()
    kept = [images for images, _ in batches]
    kept[0].zero_()
    assert torch.equal(kept[1], _epoch(batches, 0)[1][0])
    torch.stack(losses).sum().backward()
    assert weight.grad is not None
    assert weight.grad.item() == 12 * sum(range(20))
    assert _labels(batches) == list(range(20))


def test_writing_to_a_batch_does_not_disturb_the_backward_of_another() -> None:
    (first, _), (second, _) = _epoch(Batches(_numbered(8), 4), 0)
    weight = torch.ones(1, requires_grad=True)
    loss = (weight * first).sum()
    second.zero_()
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.item() == 12 * (0 + 1 + 2 + 3)


def test_data_made_in_inference_mode_can_be_trained_on() -> None:
    with torch.inference_mode():
        batches = Batches(Split(torch.rand(4, 1, 2, 2), torch.arange(4)), 4, shift=1)
    images, _ = next(iter(batches))
    weight = torch.ones(1, requires_grad=True)
    (weight * images).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize(("n", "world_size"), [(10, 3), (12, 3), (2, 5), (1, 4), (0, 2)])
def test_shards_share_out_the_order(n: int, world_size: int) -> None:
    order = torch.randperm(n)
    exact = [shard(order, rank, world_size, equal=False) for rank in range(world_size)]
    padded = [shard(order, rank, world_size, equal=True) for rank in range(world_size)]
    assert sorted(torch.cat(exact).tolist()) == list(range(n))
    assert max(map(len, exact)) - min(map(len, exact)) <= 1
    assert len(set(map(len, padded))) == 1
    assert set(torch.cat(padded).tolist()) == set(range(n))
    for rank in range(world_size):
        assert exact[rank].tolist() == order.tolist()[rank::world_size]
        assert padded[rank].tolist()[: len(exact[rank])] == exact[rank].tolist()
        assert len(padded[rank]) == shard_length(n, rank, world_size, equal=True)


def _as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, world_size: int) -> None:
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_rank", lambda: rank)
    monkeypatch.setattr(distributed, "get_world_size", lambda: world_size)


@pytest.mark.parametrize("shuffle", [True, False])
def test_ranks_of_a_process_group_yield_their_shards(shuffle: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = Batches(_dots(10), 2, shuffle=shuffle, shift=1)
    whole, positions = _labels(batches, 4), _positions(batches, 4)
    for rank, expected in enumerate([whole[0::3], whole[1::3], whole[2::3]]):
        _as_rank(monkeypatch, rank, 3)
        labels = _labels(batches, 4)
        assert labels[: len(expected)] == expected
        assert len(labels) == (4 if shuffle else len(expected))
        assert len(batches) == len(list(batches))
        assert all(positions[label] == place for label, place in _positions(batches, 4).items())


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"seed": -1}, {"shift": -1}])
def test_numbers_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match=f"got .*{next(iter(options))} {next(iter(options.values()))}"):
        Batches(_numbered(4), **{"batch_size": 2, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("labels", [torch.arange(3), torch.zeros(4), torch.zeros(4, 1, dtype=torch.int64)])
def test_labels_that_do_not_fit_are_refused(labels: Tensor) -> None:
    with pytest.raises(DataError, match="4 images need as many int64 labels"):
        Batches(Split(torch.zeros(4, 1, 2, 2), labels), 2)


@pytest.mark.parametrize("shift", [0, 2])
def test_an_epoch_costs_about_as_much_as_indexing_by_hand(shift: int) -> None:
    """It takes half the time, and with shifts about the same; the rest is slack for a busy machine."""
    n, batch_size = 6_400, 128
    images, labels = torch.rand(n, 1, 28, 28), torch.zeros(n, dtype=torch.int64)
    batches = Batches(Split(images, labels), batch_size, shuffle=True, shift=shift)

    def by_hand() -> None:
        order = torch.randperm(n)
        for start in range(0, n, batch_size):
            chosen = order[start : start + batch_size]
            _ = images[chosen], labels[chosen]

    def ours() -> None:
        for _ in batches:
            pass

    assert _best_seconds(ours) < (4 if shift else 2) * _best_seconds(by_hand)


def _best_seconds(run: Callable[[], None]) -> float:
    def seconds() -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return min(seconds() for _ in range(5))


def test_half_of_the_images_are_mirrored_anew_in_each_epoch() -> None:
    images = torch.rand(400, 2, 3, 5)
    batches = Batches(Split(images, torch.arange(400)), 64, shuffle=True, flip=True, seed=3)
    mirrored = []
    for epoch in range(2):
        seen = torch.zeros(400, dtype=torch.bool)
        for found, labels in _epoch(batches, epoch):
            for image, label in zip(found, labels, strict=True):
                as_it_was = torch.equal(image, images[label])
                assert as_it_was or torch.equal(image, images[label].flip(2))
                seen[label] = not as_it_was
        mirrored.append(seen)
        assert 150 < int(seen.sum()) < 250
    assert not torch.equal(mirrored[0], mirrored[1])
    again = Batches(Split(images, torch.arange(400)), 64, shuffle=True, flip=True, seed=3)
    assert torch.equal(_epoch(again, 1)[0][0], _epoch(batches, 1)[0][0])


@pytest.mark.parametrize("float_budget", [0, 1 << 20])
def test_plain_epochs_are_neither_shifted_nor_mirrored(float_budget: int) -> None:
    split = Split(torch.rand(60, 2, 5, 7), torch.arange(60))
    still = Batches(split, 16, shuffle=True, seed=3)
    moved = Batches(split, 16, shuffle=True, seed=3, shift=2, flip=True, float_budget=float_budget)
    moved.plain_epochs = {1, 2}
    for epoch in range(4):
        expected, got = (torch.cat([images for images, _ in _epoch(b, epoch)]) for b in (still, moved))
        assert torch.equal(expected, got) == (epoch in (1, 2))
        assert torch.equal(moved.images_of(moved.views(epoch)), got)


@pytest.mark.parametrize(("shift", "flip", "num_views"), [(0, False, 1), (1, False, 9), (2, True, 50)])
def test_a_view_stands_for_the_pixels_that_an_epoch_yields(shift: int, flip: bool, num_views: int) -> None:
    batches = Batches(
        Split(torch.rand(60, 2, 5, 7), torch.arange(60)), 16, mean=(0.3,), std=(0.2,), shuffle=True,
        seed=5, shift=shift, flip=flip,
    )  # fmt: skip
    assert batches.num_views == num_views
    for epoch in (0, 3):
        views = batches.views(epoch)
        yielded = _epoch(batches, epoch)
        assert torch.equal(views // num_views, torch.cat([labels for _, labels in yielded]))
        assert torch.equal(batches.images_of(views), torch.cat([images for images, _ in yielded]))
    if num_views > 1:
        assert not torch.equal(batches.views(0).sort().values, batches.views(3).sort().values)
    one = batches.images_of(torch.arange(num_views))
    assert len({image.numpy().tobytes() for image in one}) == num_views
