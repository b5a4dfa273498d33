"""Images in memory, ready to be gathered: normalised once, shifted as they are gathered."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from featherweight.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

#: Bytes up to which images are kept as normalised float32; above, they stay as they came.
FLOAT_BUDGET_BYTES = 1 << 30


class PixelStore:
    """A set of images from which normalised ones are gathered by index.

    A pixel p leaves as (p − mean) / std, after uint8 has been divided by 255. With a ``margin`` the
    images are padded once, with zeros before normalisation, and every gathered image is a window of
    the padded one.

    Args:
        images: ``(N, C, H, W)``, uint8 in 0…255 or float32 in 0…1. Never written to.
        mean: per channel, or one value for all; in units of 0…1.
        std: like ``mean``; above 0.
        margin: zero pixels added on each side.
        float_budget: bytes that normalised float32 images may take. A larger set is kept in its own
            dtype and normalised as it is gathered: the same values, more work for each batch.

    Raises:
        DataError: if the images are not of such a shape and dtype, or ``mean`` and ``std`` do not fit them.
    """

    def __init__(
        self,
        images: Tensor,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        *,
        margin: int = 0,
        float_budget: int = FLOAT_BUDGET_BYTES,
    ) -> None:
        if images.ndim != 4 or images.dtype not in (torch.uint8, torch.float32):
            raise DataError(
                f"images must be (N, C, H, W), uint8 or float32; got {tuple(images.shape)}, {images.dtype}"
            )
        self.channels, self.height, self.width = images.shape[1:]
        self._mean = self._per_channel(mean, "mean", images.device)
        self._std = self._per_channel(std, "std", images.device)
        if not bool((self._std > 0).all()):
            raise DataError(f"std must be above 0, got {tuple(std)}")

        self.margin = margin
        pixels = F.pad(images, (margin,) * 4) if margin else images
        self._normalised = pixels.numel() * torch.float32.itemsize <= float_budget
        self._pixels = (self._normalise(pixels) if self._normalised else pixels).contiguous()

    def _per_channel(self, values: Sequence[float], what: str, device: torch.device) -> Tensor:
        if len(values) not in (1, self.channels):
            raise DataError(f"{what} has {len(values)} values for images of {self.channels} channels")
        return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)  # (1, C or 1, 1, 1)

    def _normalise(self, pixels: Tensor) -> Tensor:
        scaled = pixels.float().div(255) if pixels.dtype == torch.uint8 else pixels
        return scaled.sub(self._mean).div_(self._std)

    def __len__(self) -> int:
        return len(self._pixels)

    @property
    def device(self) -> torch.device:
        """Where the images are, and where gathered ones come out."""
        return self._pixels.device

    @property
    def image_bytes(self) -> int:
        """Bytes of one gathered image."""
        return math.prod((self.channels, self.height, self.width)) * torch.float32.itemsize

    def gather(self, indices: Tensor, corners: Tensor | None = None) -> Tensor:
        """Normalised copies of some images.

        Args:
            indices: which, int64 ``(B,)``.
            corners: row and column, in the padded image, of each window's upper left pixel, int64
                ``(B, 2)`` in 0…2·margin. None takes the images as they are, which needs margin 0.

        Returns:
            float32 ``(B, C, H, W)``, contiguous, sharing no memory with the store.
        """
        found = self._pixels.index_select(0, indices) if corners is None else self._windows(indices, corners)
        return found if self._normalised else self._normalise(found)

    def _windows(self, indices: Tensor, corners: Tensor) -> Tensor:
        """Shifted images, each read as one run of memory.

        A window of H rows in planes W' = W + 2·margin wide is a run of (H − 1)·W' + W consecutive pixels.
        ``unfold`` sees all such runs without a copy, ``index_select`` copies the chosen ones at the
        speed of memcpy, and a strided view drops the W' − W pixels between two rows.
        """
        padded_height, padded_width = self._pixels.shape[2:]
        run = (self.height - 1) * padded_width + self.width
        planes = indices[:, None] * self.channels + torch.arange(self.channels, device=self.device)  # (B, C)
        in_plane = corners[:, 0] * padded_width + corners[:, 1]  # (B,)
        starts = planes * (padded_height * padded_width) + in_plane[:, None]  # (B, C)

        runs = self._pixels.view(-1).unfold(0, run, 1).index_select(0, starts.view(-1))  # (B·C, run)
        return runs.as_strided(
            (len(indices), self.channels, self.height, self.width),
            (self.channels * run, run, padded_width, 1),
        ).contiguous()
