"""From one kind of file to another, by their suffixes; every weight comes out bit for bit."""

from __future__ import annotations

import io
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from featherweight.coding import DEFAULT_CODER
from featherweight.errors import CheckpointError, FeatherweightError, RecipeError
from featherweight.fileformat import FileReader, write_file
from featherweight.fileformat.atomic import AtomicFile
from featherweight.files import load_model, load_state, save_file, to_stored, to_torch
from featherweight.interop.checkpoints import open_checkpoint, read_checkpoint
from featherweight.interop.net_file import LAYERS, NetLayer, read_net, write_net
from featherweight.interop.safetensors import write_safetensors
from featherweight.lazy import WatchedTensors, as_lazy
from featherweight.strict import build, read_mapping

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from featherweight.tensors import StoredTensor

#: What can be written, by suffix. What can be read is this and whatever else holds a checkpoint.
TARGET_SUFFIXES = (".fwt", ".net", ".safetensors", ".pt", ".pth")


def convert(
    source: str | Path,
    target: str | Path,
    *,
    layers: Sequence[NetLayer] | None = None,
    coder: str = DEFAULT_CODER,
    overwrite: bool = False,
    progress: Callable[[int], AbstractContextManager[Callable[[], None]]] | None = None,
) -> int:
    """Convert a file.

    To ``.fwt`` and ``.safetensors`` one tensor at a time is in memory, unless a ``.net`` file is read.

    Args:
        source: ``.net``, or whatever else :func:`featherweight.interop.checkpoints.open_checkpoint` takes.
        target: one of :data:`TARGET_SUFFIXES`.
        layers: of the network, where either is a ``.net`` file; found among :data:`LAYERS` unless given.
        coder: for the quantized tensors of a ``.fwt`` file.
        overwrite: replace ``target`` where it is there.
        progress: given the number of tensors, what to enter while they are converted, and call after each.

    Returns:
        The size of ``target`` in bytes.

    Raises:
        CheckpointError: where the source cannot be read.
        FormatError: for a damaged ``.fwt`` file.
        TensorError: where a file of the target's kind cannot hold the tensors.
        OutputError: where the target exists and ``overwrite`` is false, or cannot be written.
    """
    source, target = Path(source), Path(target)
    progress = progress or (lambda total: nullcontext(lambda: None))
    if ".net" in (source.suffix, target.suffix):
        return _convert_shared(source, target, layers, coder, overwrite=overwrite)
    with open_checkpoint(source) as checkpoint:
        # safetensors alone has no ties.
        total = len(checkpoint if target.suffix == ".safetensors" else checkpoint.distinct)
        with progress(total) as advance:
            tensors = WatchedTensors(checkpoint, lambda _: advance())
            return _write(tensors, target, coder, overwrite=overwrite)


def _convert_shared(
    source: Path, target: Path, layers: Sequence[NetLayer] | None, coder: str, *, overwrite: bool
) -> int:
    """From or to a ``.net`` file, whose codebooks are kept."""
    stored = _read_shared(source, layers)
    if target.suffix == ".net":
        return write_net(stored, target, layers or _layers_of(source, stored), overwrite=overwrite)
    if target.suffix == ".fwt":
        return write_file(target, stored, coder=coder, overwrite=overwrite)
    tensors = {name: to_torch(tensor) for name, tensor in stored.items()}
    return _write(tensors, target, coder, overwrite=overwrite)


def _write(tensors: Mapping[str, torch.Tensor], target: Path, coder: str, *, overwrite: bool) -> int:
    if target.suffix == ".fwt":
        return save_file(tensors, target, coder=coder, overwrite=overwrite)
    if target.suffix == ".safetensors":
        return write_safetensors(tensors, target, overwrite=overwrite)
    return _write_torch(tensors, target, overwrite=overwrite)


def load_network(
    network: torch.nn.Module, source: str | Path, layers: Sequence[NetLayer] | None = None
) -> torch.nn.Module:
    """Load any file that :func:`convert` reads into a module of its class; ties of ``.fwt`` files hold.

    Args:
        network: of the class that the file is of, pruned by channel or not.
        source: the file.
        layers: of a ``.net`` file, as for :func:`convert`.

    Raises:
        CheckpointError: where the file cannot be read or does not fit the module, naming what differs.
        FormatError: for a damaged ``.fwt`` file.
    """
    source = Path(source)
    if source.suffix == ".fwt":
        return load_model(network, source)
    if source.suffix == ".net":
        stored = _read_net(source, layers)
        load_state(network, {name: to_torch(tensor) for name, tensor in stored.items()}, str(source))
    else:
        load_state(network, read_checkpoint(source), str(source))
    return network


def read_layers(name_or_path: str) -> tuple[NetLayer, ...]:
    """The layers of a network in a ``.net`` file.

    Args:
        name_or_path: a name in :data:`LAYERS`, or a YAML or JSON file with a list ``layers`` of ``name``,
            ``shape`` and ``bits`` (of a code, 8 unless given), in the order of the ``.net`` file.

    Raises:
        RecipeError: where the file cannot be read as such.
    """
    if name_or_path in LAYERS:
        return LAYERS[name_or_path]
    if not Path(name_or_path).is_file():
        raise RecipeError(f"{name_or_path}: neither a file of layers nor one of {', '.join(LAYERS)}")
    listed = read_mapping(name_or_path).get("layers")
    if not isinstance(listed, list) or not listed:
        raise RecipeError(f"{name_or_path}: expected a list of layers, each with a name and a shape")
    return tuple(build(NetLayer, layer, f"{name_or_path}: layers[{i}]") for i, layer in enumerate(listed))


def _read_shared(source: Path, layers: Sequence[NetLayer] | None) -> dict[str, StoredTensor]:
    """The tensors of a file with their codebooks."""
    if source.suffix == ".net":
        return _read_net(source, layers)
    if source.suffix == ".fwt":
        with FileReader(source) as reader:
            return {name: reader.read(name) for name in reader.names}
    return {name: to_stored(name, tensor) for name, tensor in read_checkpoint(source).items()}


def _read_net(source: Path, layers: Sequence[NetLayer] | None) -> dict[str, StoredTensor]:
    if layers is not None:
        return read_net(source, layers)
    for known in LAYERS.values():
        try:
            return read_net(source, known)
        except FeatherweightError:
            if not source.is_file():
                raise
    raise CheckpointError(
        f"{source}: is none of the networks {', '.join(LAYERS)}; name its layers with --layers FILE.yaml"
    )


def _layers_of(source: Path, stored: Mapping[str, StoredTensor]) -> tuple[NetLayer, ...]:
    for known in LAYERS.values():
        names = {f"{layer.name}.{kind}" for layer in known for kind in ("weight", "bias")}
        if names == set(stored):
            return known
    raise CheckpointError(
        f"{source}: has not the tensors of {' or '.join(LAYERS)}; name the layers with --layers FILE.yaml"
    )


def _write_torch(tensors: Mapping[str, torch.Tensor], target: Path, *, overwrite: bool) -> int:
    lazy = as_lazy(tensors)
    made = {name: lazy[name] for name in lazy.distinct}
    buffer = io.BytesIO()
    torch.save({name: made[owner] for name, owner in lazy.owners.items()}, buffer)
    with AtomicFile(target, overwrite=overwrite) as file:
        file.write(buffer.getvalue())
    return buffer.tell()
