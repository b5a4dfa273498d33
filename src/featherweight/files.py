"""Files from and to PyTorch: ``save_file``, ``load_file``, ``open_file``, ``save_model``, ``load_model``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from featherweight.coding import DEFAULT_CODER
from featherweight.coding.numba_when_it_pays import expect
from featherweight.errors import CheckpointError, TensorError
from featherweight.fileformat import FileReader, TensorInfo, find_codebook, write_file
from featherweight.lazy import LazyTensors, TensorSpec, as_lazy
from featherweight.tensors import FLOAT_DTYPES, ITEM_SIZES, Alias, QuantizedTensor, RawTensor, StoredTensor

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


def save_file(
    tensors: Mapping[str, torch.Tensor | QuantizedTensor],
    path: str | Path,
    *,
    coder: str = DEFAULT_CODER,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = True,
) -> int:
    """Write tensors to a ``.fwt`` file, which appears whole or not at all.

    Nothing is lost: a ``torch.Tensor`` comes back bit for bit. One whose elements share a few values,
    as after :func:`featherweight.share`, is stored as a codebook and indices; one with many zeros, as
    after :func:`featherweight.prune`, without them.

    Args:
        tensors: what :func:`featherweight.compress` returns, a state dict, or both mixed. Names that
            stand for the same object or the same memory are stored once and tied again when loaded.
            Of what :func:`featherweight.compress_lazily` returns, one tensor at a time is in memory.
        path: where to write.
        coder: for quantized tensors that name no coder of their own; ``"auto"`` takes for each the one that
            makes it smallest.
        metadata: texts to keep with them.
        overwrite: replace a file that is there.

    Returns:
        The file's size in bytes.

    Raises:
        TensorError: for a tensor that cannot be stored (meta, sparse), naming it.
        OutputError: where the path exists and ``overwrite`` is false, or cannot be written.
    """
    return write_file(path, as_stored(tensors), coder=coder, metadata=metadata, overwrite=overwrite)


def load_file(
    path: str | Path, *, device: str | torch.device = "cpu", max_bytes: int | None = None
) -> dict[str, torch.Tensor]:
    """Read all tensors of a file.

    Args:
        path: a ``.fwt`` file.
        device: where the tensors go.
        max_bytes: refuse a file whose tensors together take more memory than this; 16 GiB unless given.

    Returns:
        Tensors by name; names that were tied hold the same tensor.

    Raises:
        FormatError: for anything that is wrong with the file.
    """
    with FileReader(path, max_bytes=max_bytes) as reader:
        reader.check_total()
        infos = [reader.info(name) for name in reader.names]
        expect(sum(info.bytes for info in infos if info.coder != "plain"))
        loaded: dict[str, torch.Tensor] = {}
        result = {}
        for name in reader.names:
            owner = reader.info(name).alias_of or name
            if owner not in loaded:
                loaded[owner] = _read(reader, owner).to(device)
            result[name] = loaded[owner]
        return result


class OpenFile:
    """A ``.fwt`` file open for reading one tensor at a time; a context manager.

    Attributes:
        metadata: the texts kept with the tensors.
    """

    def __init__(self, path: str | Path, *, max_bytes: int | None = None) -> None:
        self._reader = FileReader(path, max_bytes=max_bytes)
        self.metadata: dict[str, str] = self._reader.metadata

    def keys(self) -> list[str]:
        """The tensors' names, in the file's order."""
        return list(self._reader.names)

    def get_tensor(self, name: str) -> torch.Tensor:
        """Decode one tensor; nothing else of the file is read."""
        return _read(self._reader, name)

    def get_quantized(self, name: str) -> QuantizedTensor:
        """One quantized tensor as codebook and indices.

        Raises:
            TensorError: where the tensor is stored raw.
        """
        stored = self._reader.read(name)
        if not isinstance(stored, QuantizedTensor):
            raise TensorError(f"{name}: stored raw, it has no codebook; use get_tensor")
        return stored

    def info(self, name: str) -> TensorInfo:
        """Shape, dtype, coder and bytes of one tensor, without decoding it."""
        return self._reader.info(name)

    def check_total(self) -> None:
        """Refuse a file whose tensors together take more than ``max_bytes``, for a caller who keeps them all.

        Raises:
            FormatError: if they do.
        """
        self._reader.check_total()

    def tensors(self) -> LazyTensors[torch.Tensor]:
        """All tensors as a mapping that decodes each when it is asked for, while the file is open."""
        return _FileTensors(self._reader)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _FileTensors(LazyTensors[torch.Tensor]):
    """The tensors of an open file, each decoded when it is asked for."""

    def __init__(self, reader: FileReader) -> None:
        infos = {name: reader.info(name) for name in reader.names}
        specs = {name: TensorSpec(info.dtype, info.shape) for name, info in infos.items()}
        super().__init__(specs, {name: info.alias_of or name for name, info in infos.items()})
        self._reader = reader

    def __getitem__(self, name: str) -> torch.Tensor:
        return to_torch(self._reader.read(name))


def open_file(path: str | Path, *, max_bytes: int | None = None) -> OpenFile:
    """Open a file to read single tensors.

    Example::

    with fw.open_file("model.fwt") as file:
        weight = file.get_tensor("fc1.weight")
    """
    return OpenFile(path, max_bytes=max_bytes)


def save_model(
    model: torch.nn.Module,
    path: str | Path,
    *,
    coder: str = DEFAULT_CODER,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = True,
) -> int:
    """Write a module's state dict with :func:`save_file`; shared and pruned weights make it small.

    Returns:
        The file's size in bytes.
    """
    return save_file(model.state_dict(), path, coder=coder, metadata=metadata, overwrite=overwrite)


def load_model(model: torch.nn.Module, path: str | Path, *, max_bytes: int | None = None) -> torch.nn.Module:
    """Load a file into a module made by its class; all is read before the module changes.

    A network pruned by channel (:func:`featherweight.prune_channels`) is loaded into a module of the original
    class: its layers get the numbers of channels that the file has, and new parameters.

    Returns:
        The module itself.

    Raises:
        FormatError: for anything that is wrong with the file.
        CheckpointError: where names or shapes do not fit the module, naming them.
    """
    state = load_file(path, max_bytes=max_bytes)
    load_state(model, state, str(path))
    _tie(model, state)
    return model


def load_state(model: torch.nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Load a state dict into a module of its class, pruned by channel or not; nothing changes on an error.

    Args:
        model: its layers get the numbers of channels that ``state`` has.
        state: tensors by name.
        where: the file, for messages.

    Raises:
        CheckpointError: where names or shapes do not fit the module, naming them.
    """
    if _differs(state, model):
        # Imported here, as most files hold the shapes that the class makes.
        from featherweight.pruning.channels.resize import explained_by_pruning, resize

        changes = explained_by_pruning(model, state)
        check_fits(state, model, where, resized=changes)
        resize(model, changes, state)
    else:
        check_fits(state, model, where)
    model.load_state_dict(state)


def check_fits(
    state: Mapping[str, torch.Tensor], model: torch.nn.Module, where: str, resized: Iterable[str] = ()
) -> None:
    """Raise a CheckpointError unless a state dict has just the names and shapes of a module.

    Args:
        state: tensors by name.
        model: the module.
        where: the file, for the message.
        resized: names of layers that will take whatever shapes the state dict has.
    """
    prefixes = tuple(f"{name}." for name in resized)
    expected = model.state_dict()
    for name in _left_out_counters(state, expected):
        del expected[name]
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    kind = type(model).__name__
    if missing or unexpected:
        parts = []
        if missing:
            parts.append(f"without {_some(missing)}")
        if unexpected:
            parts.append(f"with {_some(unexpected)}, which the model does not have")
        raise CheckpointError(f"{where}: does not fit {kind}: {' and '.join(parts)}")
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape and not name.startswith(prefixes):
            raise CheckpointError(
                f"{where}: {name}: {kind} expects shape {tuple(tensor.shape)}, got {tuple(state[name].shape)}"
            )


def _differs(state: Mapping[str, torch.Tensor], model: torch.nn.Module) -> bool:
    """Whether a tensor that both have has two shapes."""
    return any(name in state and state[name].shape != t.shape for name, t in model.state_dict().items())


def _left_out_counters(state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> list[str]:
    """Counters of batches, which batch norm did not have before PyTorch 0.4.1; modules keep theirs."""
    leaf = ".num_batches_tracked"
    counters = [name for name in expected if name.endswith(leaf) and name not in state]
    return [name for name in counters if name.removesuffix(leaf) + ".running_mean" in state]


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _tie(model: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Make parameters that the file holds as one tensor one parameter of the module, too."""
    owners: dict[int, torch.nn.Parameter] = {}
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        owner = owners.setdefault(id(state[name]), parameter)
        if owner is not parameter:
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, owner)


# -- one tensor ------------------------------------------------------------------------------------


def _read(reader: FileReader, name: str) -> torch.Tensor:
    values = reader.read_values(name)
    if isinstance(values, RawTensor):
        return to_torch(values)
    return torch.from_numpy(values).to(getattr(torch, reader.info(name).dtype))


def to_torch(stored: StoredTensor) -> torch.Tensor:
    """A stored tensor as PyTorch's, on the CPU."""
    if isinstance(stored, QuantizedTensor):
        values = torch.from_numpy(np.ascontiguousarray(stored.dequantize()))
        return values.to(getattr(torch, stored.dtype))
    if isinstance(stored, RawTensor):
        # A copy: PyTorch wants memory that may be written to.
        data = torch.from_numpy(stored.data.copy())
        if not stored.numel:
            return torch.empty(stored.shape, dtype=getattr(torch, stored.dtype))
        return data.view(getattr(torch, stored.dtype)).reshape(stored.shape)
    raise TypeError(f"an alias holds no tensor: {stored}")


def to_stored(name: str, tensor: torch.Tensor) -> StoredTensor:
    """A PyTorch tensor as it is stored: with a codebook where it has one that pays, else raw.

    Raises:
        TensorError: for a tensor without memory of its own (meta, sparse, quantized) or of an unknown
            dtype, naming it.
    """
    if tensor.device.type == "meta":
        raise TensorError(f"{name}: a meta tensor has no values to store; materialize the model first")
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise TensorError(f"{name}: expected a dense tensor, got {tensor.layout}; call .to_dense() first")
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in ITEM_SIZES:
        raise TensorError(f"{name}: dtype {dtype} cannot be stored; known: {', '.join(ITEM_SIZES)}")
    dense = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    if dtype in FLOAT_DTYPES:
        wide = dense.float() if dtype == "bfloat16" else dense
        shared = find_codebook(wide.numpy(), dtype=dtype)
        if shared is not None:
            return shared
    return RawTensor(dtype, tuple(dense.shape), dense.reshape(-1).view(torch.uint8).numpy())


def as_stored(tensors: Mapping[str, torch.Tensor | QuantizedTensor]) -> Mapping[str, StoredTensor]:
    """Tensors as :func:`save_file` stores them, each converted when it is asked for."""
    return _Stored(tensors)


class _Stored(Mapping[str, StoredTensor]):
    """A mapping of PyTorch tensors as stored ones, each converted when the writer asks for it."""

    def __init__(self, tensors: Mapping[str, torch.Tensor | QuantizedTensor]) -> None:
        self._tensors = lazy = as_lazy(tensors)
        first: dict[str, str] = {}
        # Sorted, so that the owner of a tied tensor does not depend on the order of the mapping.
        self._owners = {name: first.setdefault(lazy.owners[name], name) for name in sorted(lazy)}

    def __getitem__(self, name: str) -> StoredTensor:
        if self._owners[name] != name:
            return Alias(self._owners[name])
        tensor = self._tensors[name]
        return tensor if isinstance(tensor, QuantizedTensor) else to_stored(name, tensor)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
