"""A file that is to be refused, and why."""

from dataclasses import dataclass

import numpy as np
from forge import tensor_file, varints
from fuzzing import BUDGET

from featherweight.fileformat.directory import dtype_code


@dataclass(frozen=True)
class BadFile:
    """A file and a regular expression that its refusal matches."""

    data: bytes
    reason: str
    max_bytes: int = BUDGET


def quantized(index_array: bytes, *, coder: int, size: int = 5, shape: tuple[int, ...] = (8,)) -> bytes:
    """A file of a quantized float32 tensor whose index array is these bytes."""
    codebook = varints(size) + bytes([dtype_code("float16")]) + np.arange(size).astype("<f2").tobytes()
    return tensor_file("float32", shape, coder, codebook + index_array)
