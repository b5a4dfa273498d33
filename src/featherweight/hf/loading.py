"""Make a transformers model from its compressed directory."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from featherweight.errors import CheckpointError
from featherweight.files import OpenFile, load_file, open_file
from featherweight.hf.directories import PACKAGES
from featherweight.interop.extras import require
from featherweight.interop.model_directory import COMPRESSED, CONFIG

if TYPE_CHECKING:
    import os

    from featherweight.fileformat import TensorInfo

#: What loads a model rather than configures it.
_OF_LOADING = (
    "attn_implementation",
    "device_map",
    "dtype",
    "generation_config",
    "ignore_mismatched_sizes",
    "key_mapping",
    "max_memory",
    "offload_buffers",
    "offload_folder",
    "output_loading_info",
    "quantization_config",
    "torch_dtype",
)

#: From this version on, transformers takes tensors that load themselves.
_LAZY_FROM = 5


def from_pretrained(
    model: str | os.PathLike[str],
    *,
    model_class: Any = None,
    trust_remote_code: bool = False,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    max_bytes: int | None = None,
    **kwargs: Any,
) -> Any:
    """Load a compressed model as transformers' ``from_pretrained`` loads the original.

    Weights are what ``featherweight decompress`` gives, bit for bit; tied ones are tied. With transformers 5
    one is decoded at a time. No pickle is read.

    Args:
        model: a directory that ``featherweight compress MODEL_DIR`` has written, or a repository on the Hub
            that holds one.
        model_class: makes the model, such as ``transformers.AutoModel`` or ``transformers.BertModel``; the
            class that ``architectures`` in ``config.json`` names unless given.
        trust_remote_code: run the code that the directory brings where transformers does not know its class.
        revision: of the repository.
        token: for the Hub.
        cache_dir: where downloads are kept.
        local_files_only: download nothing.
        max_bytes: refuse weights that take more memory than this; 16 GiB unless given.
        **kwargs: as for transformers' ``from_pretrained``: ``dtype``, ``device_map``, fields of the
            configuration.

    Returns:
        The model, in evaluation mode; with ``output_loading_info``, what transformers returns.

    Raises:
        MissingPackageError: without the extra ``hf``.
        CheckpointError: where there is no compressed model, or its class is unknown.
        FormatError: for a damaged ``model.fwt``.
    """
    require("hf", PACKAGES, "featherweight.hf.from_pretrained")
    folder = _folder(model, revision, token, cache_dir, local_files_only=local_files_only)
    import transformers

    loading = {name: kwargs.pop(name) for name in _OF_LOADING if name in kwargs}
    config, unused = transformers.AutoConfig.from_pretrained(
        folder, trust_remote_code=trust_remote_code, return_unused_kwargs=True, **kwargs
    )
    chosen = _class_for(model_class, config, folder, trust_remote_code=trust_remote_code)
    with open_file(folder / COMPRESSED, max_bytes=max_bytes) as file:
        file.check_total()
        if int(transformers.__version__.split(".")[0]) >= _LAZY_FROM:
            state: dict[str, Any] = lazy_state(file)
            if loading.get("dtype", "auto") == "auto" and "torch_dtype" not in loading:
                loading["dtype"] = getattr(config, "dtype", None) or _first_float(file)
        else:
            state = dict(load_file(folder / COMPRESSED, max_bytes=max_bytes))
        made = chosen.from_pretrained(None, config=config, state_dict=state, **unused, **loading)
    return _named(made, folder, loading)


def _named(made: Any, folder: Path, loading: dict[str, Any]) -> Any:
    """The model with its own generation settings, and where it comes from."""
    from transformers import GenerationConfig

    model = made[0] if isinstance(made, tuple) else made
    model.name_or_path = model.config.name_or_path = str(folder)
    settings = folder / "generation_config.json"
    if settings.is_file() and model.can_generate() and loading.get("generation_config") is None:
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return made


def _folder(
    model: str | os.PathLike[str],
    revision: str | None,
    token: str | bool | None,
    cache_dir: str | Path | None,
    *,
    local_files_only: bool,
) -> Path:
    """The directory of a model, downloaded if it is none."""
    folder = Path(model)
    if not folder.is_dir():
        if folder.exists() or folder.is_absolute() or len(folder.parts) > 2:
            raise CheckpointError(f"{folder}: there is no such directory; check the path")
        from huggingface_hub import snapshot_download

        folder = Path(
            snapshot_download(
                str(model),
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
            )
        )
    for name in (CONFIG, COMPRESSED):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder}: holds no compressed model ({name} is missing); make one with featherweight "
                f"compress MODEL_DIR -o OUT_DIR"
            )
    return folder


def _class_for(chosen: Any, config: Any, folder: Path, *, trust_remote_code: bool) -> Any:
    """What makes the model: the class that was asked for, or that the configuration names."""
    import transformers

    if chosen is not None and hasattr(chosen, "_model_mapping"):
        return _from_mapping(chosen, config, folder)
    if chosen is not None:
        return chosen
    names = getattr(config, "architectures", None) or []
    if not names:
        return _from_mapping(transformers.AutoModel, config, folder)
    remote = next((r for r in _auto_map(config).values() if r.rpartition(".")[2] == names[0]), None)
    if remote is not None and trust_remote_code:
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        return get_class_from_dynamic_module(remote, str(folder))
    found = getattr(transformers, names[0], None)
    if found is None and remote is not None:
        raise CheckpointError(
            f"{folder}: {names[0]} is a class of the model's own code; read it, and pass "
            f"trust_remote_code=True to run it"
        )
    if found is None:
        raise CheckpointError(
            f"{folder}: {CONFIG} names the class {names[0]}, which transformers {transformers.__version__} "
            f"does not have; pass model_class"
        )
    return found


def _auto_map(config: Any) -> dict[str, str]:
    named = getattr(config, "auto_map", None) or {}
    return {key: value for key, value in named.items() if isinstance(value, str)}


def _from_mapping(auto: Any, config: Any, folder: Path) -> Any:
    """The class that one of transformers' ``Auto`` classes would make."""
    try:
        found = auto._model_mapping[type(config)]
    except KeyError:
        raise CheckpointError(
            f"{folder}: {auto.__name__} has no class for {type(config).__name__}; pass model_class"
        ) from None
    return found[0] if isinstance(found, tuple | list) else found


# -- tensors that decode themselves ----------------------------------------------------------------


class LazyTensor:
    """A tensor of an open file, decoded when it is indexed, as the slices of safetensors are.

    Args:
        file: which has to stay open.
        name: of the tensor.
        lock: of the file; transformers loads in several threads.
    """

    def __init__(self, file: OpenFile, name: str, lock: threading.Lock) -> None:
        self._file = file
        self._name = name
        self._lock = lock

    def __getitem__(self, index: Any) -> torch.Tensor:
        with self._lock:
            tensor = self._file.get_tensor(self._name)
        return tensor[index]

    @property
    def info(self) -> TensorInfo:
        """What the file's directory says of it."""
        return self._file.info(self._name)

    @property
    def shape(self) -> torch.Size:
        """Its shape."""
        return torch.Size(self.info.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Its type."""
        dtype: torch.dtype = getattr(torch, self.info.dtype)
        return dtype

    def is_floating_point(self) -> bool:
        """Whether it holds floating-point numbers."""
        return self.dtype.is_floating_point

    def get_shape(self) -> list[int]:
        """Its shape, as slices of safetensors tell it."""
        return list(self.info.shape)


def lazy_state(file: OpenFile) -> dict[str, LazyTensor]:
    """All tensors of an open file, each decoded when it is indexed."""
    lock = threading.Lock()
    return {name: LazyTensor(file, name, lock) for name in file.keys()}  # noqa: SIM118  (no mapping)


def _first_float(file: OpenFile) -> torch.dtype | None:
    """The type of the first tensor of floating-point numbers, which is the model's."""
    tensors = lazy_state(file).values()
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), None)
