"""Read the weights of any checkpoint: ``.safetensors`` in one file or shards, ``.fwt``, or of ``torch.save``.

No pickle is ever run: PyTorch's restricted loader (``weights_only=True``) builds tensors and plain
containers and refuses anything else.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import safetensors
import torch

from featherweight.errors import CheckpointError
from featherweight.files import load_file, open_file
from featherweight.interop.safetensors import DTYPES, looks_like_safetensors
from featherweight.interop.sharded import find_index, read_index
from featherweight.lazy import HeldTensors, LazyTensors, TensorSpec

#: Where training scripts and Lightning keep the state dict among other things.
STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model", "net")

#: What DataParallel, DistributedDataParallel and ``torch.compile`` put before every name.
WRAPPER_PREFIXES = ("module.", "_orig_mod.")

#: A mapped file is mapped anew after so many bytes of tensors.
_MAPPED_BYTES = 64 << 20

_TORCH_DTYPES = {theirs: ours for ours, theirs in DTYPES.items()}

_REMEDY = "save the weights alone with torch.save(model.state_dict(), ...) and compress that file"
_REFUSED_GLOBAL = re.compile(r"GLOBAL (\S+) was not an allowed global")


class Checkpoint(LazyTensors[torch.Tensor]):
    """The tensors of a checkpoint, each loaded when it is asked for; a context manager.

    Args:
        specs: of the tensors by name.
        owners: as for :class:`featherweight.lazy.LazyTensors`.
        get: loads a tensor.
        close: closes what is open.
    """

    def __init__(
        self,
        specs: Mapping[str, TensorSpec],
        owners: Mapping[str, str],
        get: Callable[[str], torch.Tensor],
        close: Callable[[], None],
    ) -> None:
        super().__init__(specs, owners)
        self._get = get
        self.close = close

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self.specs:
            raise KeyError(name)
        return self._get(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint of any size, to load one tensor at a time.

    What is found, and under which names, is as :func:`read_checkpoint` has it. PyTorch checkpoints in the
    format from before version 1.6, and those in compressed archives, are loaded as a whole.

    Args:
        path: as for :func:`read_checkpoint`.

    Returns:
        A mapping that loads its tensors when asked, and a context manager that closes it.

    Raises:
        CheckpointError: naming the file, if it cannot be read or holds no tensors.
        FormatError: for a damaged ``.fwt`` file.
    """
    path = Path(path)
    index = find_index(path)
    if index is not None:
        return _open_safetensors(read_index(index), index)
    _check_is_file(path)
    if path.suffix == ".fwt":
        return _open_fwt(path)
    if looks_like_safetensors(path):
        return _open_safetensors(dict.fromkeys(_names_in(path), path), path)
    return _open_torch(path)


def read_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """Read the state dict of a model.

    A checkpoint may hold it under one of :data:`STATE_DICT_KEYS`, beside other things, which are passed
    over, and prefixes of :data:`WRAPPER_PREFIXES` that all names share are taken off.

    Args:
        path: a ``.safetensors`` or ``.fwt`` file, any PyTorch checkpoint (``.pt``, ``.ckpt``, ...), the index
            of a checkpoint in shards (``*.safetensors.index.json``) or the directory that holds it.

    Returns:
        Tensors by name, on the CPU. Those that shared memory still do; safetensors has no ties.

    Raises:
        CheckpointError: naming the file, if it cannot be read or holds no tensors; an index names a shard
            that is missing, or a tensor that its shard lacks.
        FormatError: for a damaged ``.fwt`` file.
    """
    path = Path(path)
    if path.suffix == ".fwt" and path.is_file():
        return load_file(path)
    if find_index(path) is None:
        _check_is_file(path)
        if not looks_like_safetensors(path):
            return _load_state(path, mmap=False)
    with open_checkpoint(path) as checkpoint:
        return dict(checkpoint)


def checkpoint_bytes(path: str | Path) -> int:
    """Bytes of a checkpoint on disk; of one in shards, of all of them together.

    Raises:
        CheckpointError: if it is not there, or is an index without all of its shards.
    """
    path = Path(path)
    index = find_index(path)
    if index is not None:
        return sum(shard.stat().st_size for shard in set(read_index(index).values()))
    _check_is_file(path)
    return path.stat().st_size


# -- safetensors, in one file or several -----------------------------------------------------------


def _open_safetensors(places: Mapping[str, Path], where: Path) -> Checkpoint:
    """Open tensors by the files in which they lie; ``where`` is the file or the index, for errors."""
    if not places:
        raise CheckpointError(f"{where}: holds no tensors (it is empty); {_REMEDY}")
    specs = {}
    for path in dict.fromkeys(places.values()):
        file = _safe_open(path)
        present = set(file.keys())
        for name in (name for name, place in places.items() if place == path):
            if name not in present:
                raise CheckpointError(f"{path}: has no tensor {name!r}, which {where.name} says lies there")
            specs[name] = _spec_in(file, path, name)
    prefix = _wrapper_prefix(places)
    mapped = _MappedFile(lambda path: _getter(_safe_open(path), path))
    return Checkpoint(
        {name.removeprefix(prefix): specs[name] for name in places},
        {name.removeprefix(prefix): name.removeprefix(prefix) for name in places},
        lambda name: mapped.get(places[prefix + name], prefix + name),
        mapped.close,
    )


def _names_in(path: Path) -> list[str]:
    return list(_safe_open(path).keys())


def _safe_open(path: Path) -> Any:
    try:
        return safetensors.safe_open(path, framework="pt")
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: is not a valid safetensors file ({error}); get it again") from error


def _spec_in(file: Any, path: Path, name: str) -> TensorSpec:
    view = file.get_slice(name)
    if view.get_dtype() not in _TORCH_DTYPES:
        raise CheckpointError(f"{path}: {name}: is of type {view.get_dtype()}, which is not known here")
    return TensorSpec(_TORCH_DTYPES[view.get_dtype()], tuple(view.get_shape()))


def _getter(file: Any, path: Path) -> Callable[[str], torch.Tensor]:
    def get(name: str) -> torch.Tensor:
        try:
            tensor: torch.Tensor = file.get_tensor(name)
        except safetensors.SafetensorError as error:
            raise CheckpointError(
                f"{path}: {name}: cannot be read ({error}); has the file changed?"
            ) from error
        return tensor

    return get


class _MappedFile:
    """One file at a time mapped into memory, and mapped anew every so often.

    Pages that have been read count as this process's memory for as long as their mapping lives, and a mapping
    lives for as long as it or any of its tensors is held.

    Args:
        open_file: maps a file and returns what loads a tensor of it by its name.
    """

    def __init__(self, open_file: Callable[[Path], Callable[[str], torch.Tensor]]) -> None:
        self._open_file = open_file
        self._current: tuple[Path, Callable[[str], torch.Tensor]] | None = None
        self._loaded = 0

    def get(self, path: Path, name: str) -> torch.Tensor:
        """Load a tensor."""
        if self._current is None or self._current[0] != path or self._loaded >= _MAPPED_BYTES:
            self.close()
            self._current = path, self._open_file(path)
        tensor = self._current[1](name)
        self._loaded += tensor.nbytes
        return tensor

    def close(self) -> None:
        """Let go of the mapping; tensors that have been loaded stay."""
        self._current, self._loaded = None, 0


# -- our own files ---------------------------------------------------------------------------------


def _open_fwt(path: Path) -> Checkpoint:
    file = open_file(path)
    tensors = file.tensors()
    return Checkpoint(
        tensors.specs, tensors.owners, tensors.__getitem__, lambda: file.__exit__(None, None, None)
    )


# -- what torch.save wrote -------------------------------------------------------------------------


def _open_torch(path: Path) -> Checkpoint:
    if not _can_be_mapped(path):
        held = HeldTensors(_load_state(path, mmap=False))
        return Checkpoint(held.specs, held.owners, held.__getitem__, lambda: None)
    known = HeldTensors(_load_state(path, mmap=True))
    mapped = _MappedFile(lambda path: _load_state(path, mmap=True).__getitem__)
    return Checkpoint(known.specs, known.owners, lambda name: mapped.get(path, name), mapped.close)


def _can_be_mapped(path: Path) -> bool:
    """Whether tensors lie in the file as they are: neither in the old format nor in a compressed archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return False


def _load_state(path: Path, *, mmap: bool) -> dict[str, torch.Tensor]:
    """The state dict in a PyTorch checkpoint."""
    loaded = _load_torch(path, mmap=mmap)
    tensors = _find_tensors(loaded)
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors ({_describe(loaded)}); {_REMEDY}")
    for name, tensor in tensors.items():
        _check_dense(path, name, tensor)
    prefix = _wrapper_prefix(tensors)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _check_is_file(path: Path) -> None:
    try:
        path.open("rb").close()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error


def _load_torch(path: Path, *, mmap: bool) -> Any:
    try:
        with warnings.catch_warnings():
            # PyTorch warns of pickle protocols before it refuses or reads a file; the outcome is what counts.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        # The restricted unpickler meets damage with whatever its bytes lead to: KeyError, EOFError, ...
        refused = _REFUSED_GLOBAL.search(str(error))
        if refused:
            raise CheckpointError(
                f"{path}: holds a {refused[1]} object, and loading that could run code; {_REMEDY}"
            ) from error
        if "TorchScript" in str(error):
            raise CheckpointError(f"{path}: is a TorchScript program, not a checkpoint; {_REMEDY}") from error
        raise CheckpointError(
            f"{path}: is not a checkpoint that can be read, or is damaged ({type(error).__name__}); "
            "expected .safetensors, .fwt or a file of torch.save"
        ) from error


def _find_tensors(loaded: Any) -> dict[str, torch.Tensor]:
    """The state dict inside of a checkpoint; empty if there is none."""
    if not isinstance(loaded, Mapping):
        return {}
    for key in STATE_DICT_KEYS:
        tensors = _find_tensors(loaded.get(key))
        if tensors:
            return tensors
    return {str(name): value.detach() for name, value in loaded.items() if isinstance(value, torch.Tensor)}


def _describe(loaded: Any, most: int = 6) -> str:
    if not isinstance(loaded, Mapping):
        return f"it is a {type(loaded).__name__}"
    if not loaded:
        return "it is empty"
    keys = [str(key) for key in loaded]
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return f"its keys are {', '.join(keys[:most])}{more}"


def _check_dense(path: Path, name: str, tensor: torch.Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        kind = "quantized" if tensor.is_quantized else "meta" if tensor.is_meta else str(tensor.layout)
        raise CheckpointError(f"{path}: {name}: expected a dense tensor, got a {kind} one; save it dense")


def _wrapper_prefix(names: Iterable[str]) -> str:
    """The prefixes of wrappers that all names share, in whatever order they were put on."""
    names = list(names)
    for prefix in WRAPPER_PREFIXES:
        if all(name.startswith(prefix) and name != prefix for name in names):
            return prefix + _wrapper_prefix(name.removeprefix(prefix) for name in names)
    return ""
