from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from featherweight.data.pixels import PixelStore
from featherweight.errors import DataError


def _images(n: int = 6, channels: int = 3, height: int = 5, width: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (n, channels, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("budget", [0, 1 << 30])
def test_pixels_are_scaled_and_normalised_per_channel(budget: int) -> None:
    images = _images()
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    gathered = PixelStore(images, mean, std, float_budget=budget).gather(torch.tensor([4, 0]))
    assert gathered.dtype == torch.float32
    for channel in range(3):
        expected = (images[[4, 0], channel].double() / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(gathered[:, channel].double(), expected, rtol=1e-6, atol=1e-6)


def test_float_images_are_taken_to_be_between_0_and_1() -> None:
    images = torch.rand(3, 1, 2, 2)
    gathered = PixelStore(images, (0.5,), (0.25,)).gather(torch.tensor([1]))
    torch.testing.assert_close(gathered, (images[[1]] - 0.5) / 0.25)


@pytest.mark.parametrize("margin", [0, 2])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_budget_changes_no_bit(dtype: torch.dtype, margin: int) -> None:
    images = _images() if dtype == torch.uint8 else torch.rand(6, 3, 5, 4)
    indices = torch.tensor([5, 0, 3, 3])
    corners = torch.tensor([[0, 4], [4, 0], [2, 2], [1, 3]]) if margin else None
    at_once, on_demand = (
        PixelStore(images, (0.3,), (0.4,), margin=margin, float_budget=budget).gather(indices, corners)
        for budget in (1 << 30, 0)
    )
    assert torch.equal(at_once, on_demand)


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(1, 4),
    channels=st.integers(1, 3),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    margin=st.integers(1, 3),
    data=st.data(),
)
def test_a_window_is_the_padded_image_cut_at_its_corner(
    n: int, channels: int, height: int, width: int, margin: int, data: st.DataObject
) -> None:
    images = _images(n, channels, height, width)
    picks = data.draw(
        st.lists(st.tuples(st.integers(0, n - 1), *[st.integers(0, 2 * margin)] * 2), min_size=1, max_size=8)
    )
    gathered = PixelStore(images, margin=margin).gather(
        torch.tensor([pick[0] for pick in picks]), torch.tensor([pick[1:] for pick in picks])
    )
    padded = F.pad(images, (margin,) * 4).float() / 255
    assert gathered.is_contiguous()
    for image, (index, top, left) in zip(gathered, picks, strict=True):
        assert torch.equal(image, padded[index, :, top : top + height, left : left + width])


def test_gathered_images_share_no_memory_with_the_store_or_its_source() -> None:
    images = torch.rand(3, 1, 2, 2)
    before = images.clone()
    store = PixelStore(images, float_budget=0)
    store.gather(torch.arange(3)).zero_()
    assert torch.equal(images, before)
    assert torch.equal(store.gather(torch.arange(3)), before)


@pytest.mark.parametrize(
    ("images", "mean", "std", "message"),
    [
        (torch.zeros(3, 4, 4), (0.0,), (1.0,), r"\(N, C, H, W\)"),
        (torch.zeros(3, 1, 4, 4, dtype=torch.int64), (0.0,), (1.0,), "int64"),
        (torch.zeros(3, 3, 4, 4), (0.0, 0.0), (1.0,), "mean has 2 values for images of 3 channels"),
        (torch.zeros(3, 1, 4, 4), (0.0,), (0.0,), "std must be above 0"),
    ],
)
def test_images_that_do_not_fit_are_refused(
    images: Tensor, mean: tuple[float, ...], std: tuple[float, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        PixelStore(images, mean, std)
