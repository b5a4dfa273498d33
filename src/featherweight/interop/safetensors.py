"""Write and recognise ``.safetensors`` files (https://github.com/huggingface/safetensors)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import safetensors
import safetensors.torch

from featherweight.errors import TensorError
from featherweight.fileformat.atomic import AtomicFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

#: A file begins with the length of its header, a little-endian integer of so many bytes; then comes JSON.
_LENGTH_BYTES = 8


def looks_like_safetensors(path: Path) -> bool:
    """Whether a file is named or begins like one in safetensors' format."""
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        return file.read(_LENGTH_BYTES + 1)[_LENGTH_BYTES:] == b"{"


def write_safetensors(
    tensors: Mapping[str, torch.Tensor],
    path: str | Path,
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> int:
    """Write tensors to a ``.safetensors`` file, which appears whole or not at all.

    The format has no ties: tensors that share memory are stored once each.

    Args:
        tensors: by name.
        path: where to write.
        metadata: texts to keep with them, beside ``{"format": "pt"}``.
        overwrite: replace a file that is there.

    Returns:
        The file's size in bytes.

    Raises:
        OutputError: where the path exists and ``overwrite`` is false, or cannot be written.
        TensorError: for a tensor that the format cannot hold.
    """
    with AtomicFile(path, overwrite=overwrite) as file:
        try:
            data = safetensors.torch.save(_unshared(tensors), {**(metadata or {}), "format": "pt"})
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise TensorError(f"{path}: safetensors cannot hold these tensors: {error}") from error
        file.write(data)
    return len(data)


def _unshared(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous tensors, each with memory of its own."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        dense = tensor.detach().contiguous()
        storage = dense.untyped_storage().data_ptr()
        result[name] = dense.clone() if storage in seen else dense
        seen.add(storage)
    return result
