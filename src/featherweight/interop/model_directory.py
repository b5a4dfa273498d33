"""Directories of models as transformers lays them out: ``config.json``, weights, tokenizer, other files."""

from __future__ import annotations

import shutil
from pathlib import Path

from featherweight.errors import CheckpointError, OutputError
from featherweight.interop.sharded import INDEX_SUFFIX

#: What makes a directory one of a model.
CONFIG = "config.json"

#: The compressed weights.
COMPRESSED = "model.fwt"

#: Weights that can be read, the first that is there.
_WEIGHTS = ("model.safetensors", f"model{INDEX_SUFFIX}", "pytorch_model.bin")
_SHARDED_PICKLES = "pytorch_model.bin.index.json"

#: Weights in any framework's format, states of training among them: none of it is kept.
_LEFT_OUT = frozenset(
    (
        *(".bin", ".ckpt", ".fwt", ".gguf", ".h5", ".mlmodel", ".msgpack", ".onnx", ".onnx_data", ".ot"),
        *(".pb", ".pt", ".pth", ".safetensors", ".tflite"),
    )
)


def is_model_directory(path: str | Path) -> bool:
    """Whether a path is a directory with a ``config.json``."""
    return (Path(path) / CONFIG).is_file()


def find_weights(directory: Path) -> Path:
    """The checkpoint in a model's directory: a file, or the index of its shards.

    Raises:
        CheckpointError: if there is none that can be read.
    """
    for name in _WEIGHTS:
        if (directory / name).is_file():
            return directory / name
    if (directory / COMPRESSED).is_file():
        raise CheckpointError(f"{directory}: is compressed already ({COMPRESSED}); give the original")
    if (directory / _SHARDED_PICKLES).is_file():
        raise CheckpointError(
            f"{directory}: has its weights in several pickles; load it in transformers and save it again "
            f"with save_pretrained, which writes safetensors"
        )
    raise CheckpointError(
        f"{directory}: has a {CONFIG} but no weights; expected one of {', '.join(_WEIGHTS)}"
    )


def copy_other_files(source: Path, target: Path) -> list[str]:
    """Copy all that is no weights: configurations, tokenizer, code; folders as well, hidden files not.

    Args:
        source: a model's directory. Links are followed within it, and to the ``blobs`` of the Hub's cache.
        target: where to, a directory.

    Returns:
        Names of the files that were left out because they hold weights, relative to ``source``.

    Raises:
        CheckpointError: where a link leads elsewhere: what comes from a stranger must not take along files of
            this machine.
        OutputError: where a file cannot be copied.
    """
    left_out = []
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if any(part.startswith(".") for part in name.parts) or not path.is_file():
            continue
        if path.suffix.lower() in _LEFT_OUT or path.name.endswith((INDEX_SUFFIX, _SHARDED_PICKLES)):
            left_out.append(str(name))
            continue
        _check_link(path, source)
        try:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)
        except OSError as error:
            raise OutputError(f"{target / name}: cannot be written: {error.strerror or error}") from error
    return left_out


def _check_link(path: Path, source: Path) -> None:
    """Refuse a file that lies neither in the model's directory nor in the blobs of the Hub's cache."""
    real, home = path.resolve(), source.resolve()
    if home not in real.parents and home.parent.parent / "blobs" != real.parent:
        raise CheckpointError(f"{path}: is a link to a file elsewhere; replace it by the file itself")
