"""Write and recognise ``.safetensors`` files, one tensor at a time, and know their types.

The format (https://github.com/huggingface/safetensors): the length of a header, the header in JSON, and the
tensors' bytes, little-endian, in the order that the header tells.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from featherweight.errors import TensorError
from featherweight.fileformat.atomic import AtomicFile
from featherweight.lazy import as_lazy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from featherweight.lazy import LazyTensors

#: A file begins with the length of its header, a little-endian integer of so many bytes; then comes JSON.
_LENGTH_BYTES = 8

#: Headers are padded with spaces so that the tensors begin at a multiple of this.
_ALIGNMENT = 8

#: Longer headers are refused by the format's readers.
_MOST_HEADER_BYTES = 100_000_000

#: The format's names of types by PyTorch's, in the order in which it lays tensors out.
DTYPES = {
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "complex64": "C64",
    "float32": "F32",
    "uint32": "U32",
    "int32": "I32",
    "bfloat16": "BF16",
    "float16": "F16",
    "uint16": "U16",
    "int16": "I16",
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
_RANK = {dtype: rank for rank, dtype in enumerate(DTYPES)}


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

    Of a lazy mapping one tensor at a time is in memory. The bytes are those that safetensors itself writes;
    only the order of the metadata, which it leaves open, is fixed. The format has no ties: tensors that share
    memory are stored once each.

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
    lazy = as_lazy(tensors)
    for name, spec in lazy.specs.items():
        if name == "__metadata__" or spec.dtype not in DTYPES or not spec.dense:
            what = spec.dtype if spec.dense else "sparse or meta"
            raise TensorError(f"{path}: safetensors cannot hold a {what} tensor under the name {name!r}")
    # Wide types first, so that every tensor is aligned; then by name.
    names = sorted(lazy, key=lambda name: (_RANK[lazy.specs[name].dtype], name))
    header = _header(lazy, names, {**(metadata or {}), "format": "pt"})
    if len(header) > _MOST_HEADER_BYTES:
        raise TensorError(f"{path}: safetensors cannot hold so many names: they take {len(header)} bytes")
    with AtomicFile(path, overwrite=overwrite) as file:
        file.write(len(header).to_bytes(_LENGTH_BYTES, "little") + header)
        for name in names:
            file.write(_bytes_of(lazy, name))
    return _LENGTH_BYTES + len(header) + sum(spec.nbytes for spec in lazy.specs.values())


def _header(lazy: LazyTensors[torch.Tensor], names: list[str], metadata: dict[str, str]) -> bytes:
    """The header of a file in which the named tensors follow each other."""
    entries: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in names:
        spec = lazy.specs[name]
        start, end = end, end + spec.nbytes
        entries[name] = {
            "dtype": DTYPES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [start, end],
        }
    header = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    return header + b" " * (-len(header) % _ALIGNMENT)


def _bytes_of(lazy: LazyTensors[torch.Tensor], name: str) -> memoryview:
    """A tensor's elements, as the header has announced them."""
    dense = lazy[name].detach().cpu().resolve_conj().resolve_neg().contiguous()
    data: memoryview = dense.reshape(-1).view(torch.uint8).numpy().data
    if data.nbytes != lazy.specs[name].nbytes:
        raise TensorError(f"{name}: has {data.nbytes} bytes, {lazy.specs[name].nbytes} were announced")
    return data
