"""Write compressed model directories, and upload them."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featherweight.compression import compress_lazily
from featherweight.default_recipe import default_recipe
from featherweight.errors import CheckpointError, OutputError
from featherweight.fileformat.atomic_directory import AtomicDirectory
from featherweight.files import save_file
from featherweight.interop.checkpoints import open_checkpoint
from featherweight.interop.extras import require
from featherweight.interop.model_directory import (
    COMPRESSED,
    CONFIG,
    copy_other_files,
    find_weights,
    is_model_directory,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from featherweight.recipe import Recipe

#: What the extra ``hf`` brings.
PACKAGES = ("transformers", "huggingface_hub")


@contextmanager
def compressed_directory(
    source: str | Path, target: str | Path, *, overwrite: bool = False
) -> Iterator[tuple[Path, list[str]]]:
    """Make a copy of a model's directory without its weights, which appears whole or not at all.

    Args:
        source: the model's directory.
        target: the new one.
        overwrite: replace a compressed model's directory that is there; no other one ever.

    Yields:
        Where its compressed weights have to be written, and the names of files that were left out.

    Raises:
        OutputError: where the target is taken, is the source, or cannot be written.
    """
    source, target = Path(source), Path(target)
    real = source.resolve()
    if target.resolve() == real or real in target.resolve().parents:
        raise OutputError(f"{target}: is the model's own directory, or in it; choose another")
    if target.is_dir() and any(target.iterdir()) and not overwrite and _is_compressed(target):
        raise OutputError(f"{target}: exists already; choose another name or give --force to overwrite it")
    with AtomicDirectory(target, replaceable=_is_compressed if overwrite else None) as folder:
        left_out = copy_other_files(source, folder)
        yield folder / COMPRESSED, left_out
        if not (folder / COMPRESSED).is_file():
            raise CheckpointError(f"{target}: no weights were written")


def compress_directory(
    source: str | Path, target: str | Path, recipe: Recipe | None = None, *, overwrite: bool = False
) -> int:
    """Compress a model's directory without data: its weights to ``model.fwt``, all else kept.

    One tensor at a time is in memory.

    Args:
        source: a directory with ``config.json`` and weights in safetensors, in one file or shards, or in a
            PyTorch checkpoint.
        target: the new directory, which appears whole or not at all.
        recipe: what to do with which tensor; that of ``featherweight compress`` unless given.
        overwrite: replace a compressed model's directory that is there.

    Returns:
        The size of ``model.fwt`` in bytes.

    Raises:
        CheckpointError: where the source holds no weights that can be read.
        RecipeError: where the recipe does not fit them.
        OutputError: where the target is taken or cannot be written.
    """
    source = Path(source)
    if not is_model_directory(source):
        raise CheckpointError(f"{source}: is no model's directory: {CONFIG} is missing")
    weights = find_weights(source)
    with open_checkpoint(weights) as state, compressed_directory(source, target, overwrite=overwrite) as out:
        chosen = recipe or default_recipe(weights, state.specs)
        return save_file(compress_lazily(state, chosen), out[0], coder=chosen.code.coder)


def save_pretrained(
    model: Any, target: str | Path, recipe: Recipe | None = None, *, overwrite: bool = False
) -> int:
    """Write a transformers model as a compressed directory.

    Args:
        model: with a method ``save_pretrained``, as transformers' models have.
        target: the new directory, which appears whole or not at all.
        recipe: as for :func:`compress_directory`. A model whose weights have been trained to share their
            values keeps them with ``Recipe()``, which changes nothing.
        overwrite: replace a compressed model's directory that is there.

    Returns:
        The size of ``model.fwt`` in bytes.

    Raises:
        OutputError: where the target is taken or cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="featherweight-") as folder:
        model.save_pretrained(folder)
        return compress_directory(folder, target, recipe, overwrite=overwrite)


def push_to_hub(
    directory: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    branch: str | None = None,
    create_pr: bool | None = None,
    commit_message: str = "Upload a compressed model",
) -> str:
    """Upload a compressed model's directory to the Hub, in one commit.

    Args:
        directory: with ``model.fwt``.
        repo_id: such as ``user/model``; made if it is not there.
        private: whether a new repository is.
        token: of the account; that of ``hf auth login`` unless given.
        branch: to upload to; ``main`` unless given.
        create_pr: ask for a merge instead.
        commit_message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        MissingPackageError: without the extra ``hf``.
        CheckpointError: where the directory holds no compressed model.
    """
    require("hf", ("huggingface_hub",), "uploading")
    folder = Path(directory)
    if not _is_compressed(folder):
        raise CheckpointError(
            f"{folder}: holds no compressed model ({COMPRESSED} is missing); make one with featherweight "
            f"compress MODEL_DIR -o {folder}"
        )
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    repository = api.create_repo(repo_id=repo_id, private=private, exist_ok=True).repo_id
    commit = api.upload_folder(
        repo_id=repository,
        repo_type="model",
        folder_path=folder,
        commit_message=commit_message,
        revision=branch,
        create_pr=create_pr,
    )
    return str(commit)


def _is_compressed(folder: Path) -> bool:
    return (folder / COMPRESSED).is_file()
