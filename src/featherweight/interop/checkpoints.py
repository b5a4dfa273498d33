"""Read the weights of any checkpoint: ``.safetensors``, ``.fwt``, or what ``torch.save`` wrote.

No pickle is ever run: PyTorch's restricted loader (``weights_only=True``) builds tensors and plain
containers and refuses anything else.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from featherweight.errors import CheckpointError
from featherweight.files import load_file
from featherweight.interop.safetensors import looks_like_safetensors

#: Where training scripts and Lightning keep the state dict among other things.
STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model", "net")

#: What DataParallel, DistributedDataParallel and ``torch.compile`` put before every name.
WRAPPER_PREFIXES = ("module.", "_orig_mod.")

_REMEDY = "save the weights alone with torch.save(model.state_dict(), ...) and compress that file"
_REFUSED_GLOBAL = re.compile(r"GLOBAL (\S+) was not an allowed global")


def read_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """Read the state dict of a model.

    A checkpoint may hold it under one of :data:`STATE_DICT_KEYS`, beside other things, which are passed
    over, and prefixes of :data:`WRAPPER_PREFIXES` that all names share are taken off.

    Args:
        path: a ``.safetensors`` or ``.fwt`` file, or any PyTorch checkpoint (``.pt``, ``.ckpt``, ...).

    Returns:
        Tensors by name, on the CPU. Those that shared memory still do; safetensors has no ties.

    Raises:
        CheckpointError: naming the file, if it cannot be read or holds no tensors.
        FormatError: for a damaged ``.fwt`` file.
    """
    path = Path(path)
    _check_is_file(path)
    if path.suffix == ".fwt":
        return load_file(path)
    loaded = _load_safetensors(path) if looks_like_safetensors(path) else _load_torch(path)
    tensors = _find_tensors(loaded)
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors ({_describe(loaded)}); {_REMEDY}")
    for name, tensor in tensors.items():
        _check_dense(path, name, tensor)
    return _without_wrappers(tensors)


def _check_is_file(path: Path) -> None:
    if path.is_dir():
        raise CheckpointError(f"{path}: is a directory; name the checkpoint file in it")
    try:
        path.open("rb").close()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}: is not a valid safetensors file ({error}); get it again") from error


def _load_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # PyTorch warns of pickle protocols before it refuses or reads a file; the outcome is what counts.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
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


def _without_wrappers(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Take off prefixes of wrappers, in whatever order they were put on."""
    for prefix in WRAPPER_PREFIXES:
        if all(name.startswith(prefix) and name != prefix for name in tensors):
            return _without_wrappers({name.removeprefix(prefix): value for name, value in tensors.items()})
    return tensors
