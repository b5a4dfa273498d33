"""The contenders: our coders on one core and on two, and those of others that can be imported."""

from __future__ import annotations

import importlib
import lzma
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coder_inputs import signed_levels
from featherweight.coding import CODERS, histogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from featherweight.tensors import QuantizedTensor

DEEPCABAC = "DeepCABAC"

#: Settings of nncodec: unary parts of magnitudes up to 11, rates of its models searched for, row by row.
_UNARY, _SEARCH, _ROW_BY_ROW = 11, 1, 0

#: Modules of the peers, as they are imported, and as they are installed.
_MODULES = {"nncodec.extensions.deepCABAC": "--no-deps nncodec", "constriction": "", "zstandard": ""}


@dataclass(frozen=True)
class Contender:
    """A way to code an index array and to read it back.

    Attributes:
        name: what tables call it.
        threads: cores that it may use.
        encode: turns a tensor's indices into something with a length in bytes.
        decode: turns that into the same indices; the tensor tells shape and codebook, never indices.
    """

    name: str
    threads: int
    encode: Callable[[QuantizedTensor], Any]
    decode: Callable[[Any, QuantizedTensor], NDArray[Any]]


def size(coded: Any) -> int:
    """Bytes of what a contender has encoded."""
    return coded.nbytes if isinstance(coded, np.ndarray) else len(coded)


def ours(name: str, threads: int) -> Contender:
    """A coder of this package; its number of threads is read from the environment at every call."""
    coder = CODERS[name]

    def encode(tensor: QuantizedTensor) -> bytes:
        os.environ["NUMBA_NUM_THREADS"] = str(threads)
        return coder.encode(tensor.indices, tensor.codebook.size)

    def decode(coded: bytes, tensor: QuantizedTensor) -> NDArray[Any]:
        os.environ["NUMBA_NUM_THREADS"] = str(threads)
        return coder.decode(np.frombuffer(coded, np.uint8), tensor.indices.shape, tensor.codebook.size)

    return Contender(name, threads, encode, decode)


def deepcabac() -> Contender:
    """The ISO standard's reference: a stream a tensor, its levels in the order of their values."""
    module = importlib.import_module("nncodec.extensions.deepCABAC")
    no_history = (module.HdspMode.AlwaysOff, np.zeros(2, np.int8))

    def encode(tensor: QuantizedTensor) -> Any:
        levels = signed_levels(tensor)
        encoder = module.Encoder()
        encoder.initCtxModels(_UNARY, _SEARCH)
        skip = np.zeros(levels.shape[0], np.int32)
        encoder.encodeLayer(levels, 0, _ROW_BY_ROW, 0, 0, 0, skip, *no_history, 0, 0)
        return encoder.finish()

    def decode(coded: Any, tensor: QuantizedTensor) -> NDArray[Any]:
        levels = np.zeros(tensor.indices.shape, np.int32)
        decoder = module.Decoder()
        decoder.setStream(coded)
        decoder.initCtxModels(_UNARY)
        decoder.decodeLayer(levels, 0, _ROW_BY_ROW, 0, 0, *no_history, 0, 0)
        negative = int(np.count_nonzero(tensor.codebook < 0))
        by_rank = np.argsort(tensor.codebook, kind="stable").astype(tensor.indices.dtype)
        return by_rank[levels + negative]

    return Contender(DEEPCABAC, 1, encode, decode)


def constriction() -> Contender:
    """Its ANS coder with a table of 24 bits; the model itself is not counted in its bytes."""
    stream = importlib.import_module("constriction").stream
    models: dict[int, Any] = {}

    def encode(tensor: QuantizedTensor) -> Any:
        counts = histogram(tensor.indices, max(tensor.codebook.size, 2))
        model = stream.model.Categorical(counts / counts.sum(), perfect=False)
        coder = stream.stack.AnsCoder()
        coder.encode_reverse(tensor.indices.reshape(-1).astype(np.int32), model)
        models[id(tensor)] = model
        return coder.get_compressed()

    def decode(coded: Any, tensor: QuantizedTensor) -> NDArray[Any]:
        decoded = stream.stack.AnsCoder(coded).decode(models[id(tensor)], tensor.indices.size)
        return np.asarray(decoded).reshape(tensor.indices.shape)

    return Contender("constriction", 1, encode, decode)


def _of_bytes(name: str, compress: Callable[[bytes], bytes], expand: Callable[[bytes], bytes]) -> Contender:
    """A general compressor: it is given the indices as they lie in memory."""
    return Contender(
        name,
        1,
        lambda tensor: compress(tensor.indices.tobytes()),
        lambda coded, tensor: np.frombuffer(expand(coded), tensor.indices.dtype).reshape(
            tensor.indices.shape
        ),
    )


def zstandard(level: int) -> Contender:
    """Zstandard, one thread."""
    module = importlib.import_module("zstandard")
    return _of_bytes(
        f"zstd {level}",
        lambda data: module.ZstdCompressor(level=level).compress(data),
        lambda data: module.ZstdDecompressor().decompress(data),
    )


def xz() -> Contender:
    """LZMA at its usual level."""
    return _of_bytes("xz 6", lambda data: lzma.compress(data, preset=6), lzma.decompress)


def contenders() -> tuple[list[Contender], list[str]]:
    """Everyone who can be here, and a line for each peer who is not."""
    cores = (1, 2) if (os.cpu_count() or 1) > 1 else (1,)
    everyone = [ours(name, threads) for name in CODERS for threads in cores]
    absent = []
    makers: dict[str, tuple[Callable[[], Contender], ...]] = {
        "nncodec.extensions.deepCABAC": (deepcabac,),
        "constriction": (constriction,),
        "zstandard": (lambda: zstandard(3), lambda: zstandard(19)),
    }
    for module, of_module in makers.items():
        try:
            everyone += [make() for make in of_module]
        except ImportError:
            absent.append(f"not installed: {module} (pip install {_MODULES[module] or module})")
    return [*everyone, xz()], absent
