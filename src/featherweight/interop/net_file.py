"""The ``.net`` files of Deep Compression's authors: pruned, shared weights before Huffman coding.

Little-endian, without magic or lengths, so that the reader has to know the network's layers. For L layers:

1. L × uint32: stored entries of each layer.
2. For each layer its codebook (2^bits float32, entry 0 is 0.0), its biases (float32), one code a stored entry
   (uint8, or two of 4 bits a byte, low nibble first), and one relative index of 4 bits an entry, likewise. An
   entry's position is the running sum of (index + 1), minus 1; a gap longer than 15 takes filler entries of
   code 0.

Source: S. Han's public repositories SqueezeNet-Deep-Compression and Deep-Compression-AlexNet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featherweight.coding.gaps import measure_gaps, split_entries
from featherweight.errors import CheckpointError, TensorError
from featherweight.fileformat.atomic import AtomicFile
from featherweight.tensors import QuantizedTensor, RawTensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from featherweight.tensors import StoredTensor

#: Bits of a relative index.
GAP_BITS = 4


@dataclass(frozen=True)
class NetLayer:
    """A layer as a ``.net`` file has it.

    Attributes:
        name: of the layer; its tensors are ``name.weight`` and ``name.bias``.
        shape: of the weight, ``(out, in, kh, kw)`` or ``(out, in)``.
        bits: of a code, 8 or 4.
    """

    name: str
    shape: tuple[int, ...]
    bits: int = 8


def _squeezenet() -> tuple[NetLayer, ...]:
    layers = [NetLayer("conv1", (96, 3, 7, 7))]
    squeezes, expands = (16, 16, 32, 32, 48, 48, 64, 64), (64, 64, 128, 128, 192, 192, 256, 256)
    channels = 96
    for number, (squeeze, expand) in enumerate(zip(squeezes, expands, strict=True), start=2):
        layers += [
            NetLayer(f"fire{number}.squeeze", (squeeze, channels, 1, 1)),
            NetLayer(f"fire{number}.expand1x1", (expand, squeeze, 1, 1)),
            NetLayer(f"fire{number}.expand3x3", (expand, squeeze, 3, 3)),
        ]
        channels = 2 * expand
    return (*layers, NetLayer("conv10", (1000, channels, 1, 1)))


#: Networks that the authors published, by the name that ``featherweight convert --layers`` takes.
LAYERS: dict[str, tuple[NetLayer, ...]] = {
    "squeezenet": _squeezenet(),
    "alexnet": (
        NetLayer("conv1", (96, 3, 11, 11)),
        NetLayer("conv2", (256, 48, 5, 5)),
        NetLayer("conv3", (384, 256, 3, 3)),
        NetLayer("conv4", (384, 192, 3, 3)),
        NetLayer("conv5", (256, 192, 3, 3)),
        NetLayer("fc6", (4096, 9216), 4),
        NetLayer("fc7", (4096, 4096), 4),
        NetLayer("fc8", (1000, 4096), 4),
    ),
}


def read_net(path: str | Path, layers: Sequence[NetLayer]) -> dict[str, StoredTensor]:
    """Read a ``.net`` file.

    Args:
        path: the file.
        layers: the network's, in the file's order.

    Returns:
        ``NAME.weight`` as :class:`QuantizedTensor`, its codebook ascending behind the zero and without the
        values that no weight takes, and ``NAME.bias`` as :class:`RawTensor`.

    Raises:
        CheckpointError: where the file cannot be read, or these layers do not fit it.
    """
    path = Path(path)
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    source = _Source(path, data)
    stored = source.take("the table of stored entries", len(layers), np.uint32)
    tensors: dict[str, StoredTensor] = {}
    for layer, entries in zip(layers, stored, strict=True):
        tensors.update(_read_layer(source, layer, int(entries)))
    source.finish()
    return tensors


def _read_layer(source: _Source, layer: NetLayer, entries: int) -> dict[str, StoredTensor]:
    codebook = source.take(f"{layer.name}: codebook", 2**layer.bits, np.float32)
    bias = source.take(f"{layer.name}: biases", layer.shape[0], np.float32)
    codes = source.take_packed(f"{layer.name}: codes", entries, layer.bits)
    gaps = source.take_packed(f"{layer.name}: relative indices", entries, GAP_BITS)
    positions = np.cumsum(gaps.astype(np.int64) + 1) - 1
    numel = math.prod(layer.shape)
    if entries and positions[-1] >= numel:
        source.fail(f"{layer.name}: an entry stands at {positions[-1]} of {numel} weights")
    if codebook[0] != 0 or not np.isfinite(codebook).all():
        source.fail(f"{layer.name}: not a codebook whose first value is 0")
    indices = np.zeros(numel, dtype=np.uint8)
    indices[positions] = codes
    weight = in_value_order(QuantizedTensor(indices.reshape(layer.shape), codebook))
    return {
        f"{layer.name}.weight": weight,
        f"{layer.name}.bias": RawTensor("float32", bias.shape, bias.view(np.uint8)),
    }


def in_value_order(tensor: QuantizedTensor) -> QuantizedTensor:
    """The same values with index 0 for zero and the others ascending, without those that are not used."""
    used = np.unique(tensor.indices)
    values = np.unique(tensor.codebook[used])
    codebook = np.concatenate((np.zeros(1, values.dtype), values[values != 0]))
    place = np.zeros(tensor.codebook.size, dtype=tensor.indices.dtype)
    place[used] = np.where(
        tensor.codebook[used] == 0, 0, 1 + np.searchsorted(codebook[1:], tensor.codebook[used])
    )
    return QuantizedTensor(place[tensor.indices], codebook)


def write_net(
    tensors: Mapping[str, StoredTensor],
    path: str | Path,
    layers: Sequence[NetLayer],
    *,
    overwrite: bool = False,
) -> int:
    """Write a ``.net`` file.

    Args:
        tensors: as :func:`read_net` returns them.
        path: where to write.
        layers: the network's.
        overwrite: replace a file that is there.

    Returns:
        The file's size in bytes.

    Raises:
        TensorError: where a tensor is missing, of another shape, or has too many values for its layer.
        OutputError: where the path exists and ``overwrite`` is false, or cannot be written.
    """
    counts, bodies = [], []
    for layer in layers:
        weight, bias = tensors.get(f"{layer.name}.weight"), tensors.get(f"{layer.name}.bias")
        if not isinstance(weight, QuantizedTensor) or weight.shape != layer.shape:
            raise TensorError(f"{layer.name}.weight: a .net file needs shared weights of shape {layer.shape}")
        if not isinstance(bias, RawTensor) or bias.dtype != "float32" or bias.shape != layer.shape[:1]:
            raise TensorError(f"{layer.name}.bias: a .net file needs {layer.shape[0]} float32 biases")
        ordered = in_value_order(weight)
        if ordered.codebook.size > 2**layer.bits:
            raise TensorError(
                f"{layer.name}.weight: {ordered.codebook.size} values do not fit {layer.bits} bits"
            )
        flat = ordered.indices.reshape(-1)
        gaps, codes = split_entries(flat, GAP_BITS, measure_gaps(flat).stored(GAP_BITS))
        codebook = np.zeros(2**layer.bits, np.float32)
        codebook[: ordered.codebook.size] = ordered.codebook
        counts.append(len(codes))
        bodies += [codebook.tobytes(), bias.data.tobytes(), _pack(codes, layer.bits), _pack(gaps, GAP_BITS)]
    data = np.array(counts, dtype=np.uint32).tobytes() + b"".join(bodies)
    with AtomicFile(path, overwrite=overwrite) as file:
        file.write(data)
    return len(data)


def _pack(values: NDArray[Any], bits: int) -> bytes:
    if bits == 8:
        return values.astype(np.uint8).tobytes()
    padded = np.zeros(len(values) + len(values) % 2, np.uint8)
    padded[: len(values)] = values
    return (padded[::2] | padded[1::2] << 4).tobytes()


class _Source:
    """The bytes of a file, taken from the front."""

    def __init__(self, path: Path, data: NDArray[np.uint8]) -> None:
        self._path = path
        self._data = data
        self._position = 0

    def take(self, what: str, count: int, dtype: type[np.generic]) -> NDArray[Any]:
        size = count * np.dtype(dtype).itemsize
        left = self._data.size - self._position
        if size > left:
            self.fail(f"{what} would take {size} bytes, {left} are left")
        taken = self._data[self._position : self._position + size]
        self._position += size
        return taken.copy().view(dtype)

    def take_packed(self, what: str, count: int, bits: int) -> NDArray[np.uint8]:
        if bits == 8:
            return self.take(what, count, np.uint8)
        packed = self.take(what, -(-count // 2), np.uint8)
        return np.stack((packed & 15, packed >> 4), axis=1).reshape(-1)[:count]

    def finish(self) -> None:
        if self._position != self._data.size:
            self.fail(f"{self._data.size - self._position} bytes are left over")

    def fail(self, reason: str) -> None:
        raise CheckpointError(f"{self._path}: {reason}; are these the layers of this network?")
