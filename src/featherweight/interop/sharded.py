"""Checkpoints in several files: the index that says which tensor lies in which shard.

An index, as Hugging Face's libraries write it, is a JSON file ``NAME.safetensors.index.json`` beside its
shards: ``{"metadata": {...}, "weight_map": {"fc.weight": "NAME-00001-of-00002.safetensors", ...}}``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from featherweight.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

INDEX_SUFFIX = ".safetensors.index.json"


def find_index(path: Path) -> Path | None:
    """The index that ``path`` is or, if it is a directory, holds; ``None`` if it is another file.

    Raises:
        CheckpointError: if a directory holds none, or several.
    """
    if not path.is_dir():
        return path if path.name.endswith(INDEX_SUFFIX) else None
    found = sorted(path.glob(f"*{INDEX_SUFFIX}"))
    if not found:
        raise CheckpointError(f"{path}: is a directory; name the checkpoint file in it")
    if len(found) > 1:
        names = ", ".join(index.name for index in found)
        raise CheckpointError(f"{path}: is a directory of several checkpoints; name one of {names}")
    return found[0]


def read_index(path: Path) -> dict[str, Path]:
    """Where every tensor of a checkpoint in shards lies.

    Returns:
        The shard of each tensor by its name, in the index's order; every one of them is there.

    Raises:
        CheckpointError: naming the index, if it cannot be read or is none, names a shard that is missing, or
            one that is not a file beside it.
    """
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not valid JSON ({error}); get it again") from None
    shards = loaded.get("weight_map") if isinstance(loaded, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise CheckpointError(f"{path}: has no weight_map of tensors to shards; is it an index?")
    if not shards:
        raise CheckpointError(f"{path}: its weight_map is empty")
    places = {shard: _beside(path, shard) for shard in dict.fromkeys(shards.values())}
    return {name: places[shard] for name, shard in shards.items()}


def _beside(index: Path, shard: str) -> Path:
    """The path of a shard; an index from elsewhere must not name files anywhere on this machine."""
    if shard in ("", ".", "..") or any(mark in shard for mark in "/\\:\0"):
        raise CheckpointError(f"{index}: names the shard {shard!r}, which is not a file beside it; refused")
    path = index.with_name(shard)
    if not path.is_file():
        raise CheckpointError(f"{index}: names the shard {shard}, which is not there; get it as well")
    return path
