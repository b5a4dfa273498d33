"""IDX files as the tests write them."""

from __future__ import annotations

import gzip
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def encode(array: NDArray[Any]) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, CODES[array.dtype.name], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_mnist(directory: Path, train: int = 20, test: int = 10, *, compress: bool = True) -> None:
    """Four files in MNIST's layout: image i is all i, its label i mod 10."""
    directory.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("t10k", test)):
        numbers = np.arange(count, dtype=np.uint8)
        arrays = {
            "images-idx3": np.broadcast_to(numbers[:, None, None], (count, 28, 28)),
            "labels-idx1": numbers % 10,
        }
        for kind, array in arrays.items():
            data = encode(array)
            name = f"{part}-{kind}-ubyte" + (".gz" if compress else "")
            (directory / name).write_bytes(gzip.compress(data) if compress else data)
