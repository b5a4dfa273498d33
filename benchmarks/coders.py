"""Speed of the coders of index arrays and of peers, and their bits against the entropy, on one core.

Run ``python benchmarks/coders.py [--json PATH] [--quick] [--file MODEL.fwt ...]``. The inputs are

(d) a layer of 9216 x 4096 weights, 9 % of them nonzero, with 15 shared values (4 bits with zero);
(e) 32 Mi symbols of a Gaussian discretised to 4 steps a standard deviation;

and the largest index arrays of the files given. The peers are zstandard and constriction, wherever ``pip
install zstandard constriction`` has put them on the path, and xz of the standard library: all code the same
arrays in the same process, in turn, and the best time of each counts.
"""

from __future__ import annotations

import argparse
import importlib
import json
import lzma
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["NUMBA_NUM_THREADS"] = "1"  # before Numba is imported

import numpy as np

from featherweight.coding import CODERS, entropy_bits, histogram
from featherweight.fileformat import FileReader
from featherweight.tensors import QuantizedTensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_SEED = 0
_REPEATS = 5

#: A coder that takes longer than this is timed once.
_PATIENCE_SECONDS = 3.0

#: Arrays taken from a file.
_LARGEST = 2


@dataclass(frozen=True)
class Contender:
    """A way to code an index array and to read it back, both with codebook size."""

    name: str
    encode: Callable[[NDArray[Any], int], Any]
    decode: Callable[[Any, tuple[int, ...], int], NDArray[Any]]

    def size(self, coded: Any) -> int:
        """Bytes of what :attr:`encode` returns."""
        return coded.nbytes if isinstance(coded, np.ndarray) else len(coded)


def ours(name: str) -> Contender:
    """A coder of this package."""
    coder = CODERS[name]
    return Contender(
        name,
        coder.encode,
        lambda data, shape, size: coder.decode(np.frombuffer(data, np.uint8), shape, size),
    )


def bytes_of(indices: NDArray[Any]) -> bytes:
    """What a general compressor is given: the indices as they lie in memory."""
    return indices.tobytes()


def array_of(data: bytes, shape: tuple[int, ...], size: int) -> NDArray[Any]:
    """The inverse of :func:`bytes_of`."""
    return np.frombuffer(data, np.uint8 if size <= 256 else np.uint16).reshape(shape)


def xz() -> Contender:
    """LZMA at its fastest level; higher ones take minutes."""
    return Contender(
        "xz 1",
        lambda indices, size: lzma.compress(bytes_of(indices), preset=1),
        lambda data, shape, size: array_of(lzma.decompress(data), shape, size),
    )


def zstandard(level: int) -> Contender:
    """Zstandard, one thread."""
    module = importlib.import_module("zstandard")
    return Contender(
        f"zstd {level}",
        lambda indices, size: module.ZstdCompressor(level=level).compress(bytes_of(indices)),
        lambda data, shape, size: array_of(module.ZstdDecompressor().decompress(data), shape, size),
    )


def constriction() -> Contender:
    """Its ANS coder with a table of 24 bits; the model itself is not counted in its bytes."""
    module = importlib.import_module("constriction").stream
    models: dict[int, Any] = {}

    def encode(indices: NDArray[Any], size: int) -> Any:
        counts = histogram(indices, size)
        models[size] = module.model.Categorical(counts / counts.sum(), perfect=False)
        coder = module.stack.AnsCoder()
        coder.encode_reverse(indices.reshape(-1).astype(np.int32), models[size])
        return coder.get_compressed()

    def decode(words: Any, shape: tuple[int, ...], size: int) -> NDArray[Any]:
        decoded = module.stack.AnsCoder(words).decode(models[size], int(np.prod(shape)))
        return np.asarray(decoded).reshape(shape)

    return Contender("constriction", encode, decode)


def contenders() -> list[Contender]:
    """Our coders, and those peers that can be imported."""
    everyone = [ours(name) for name in CODERS] + [xz()]
    for makers in ([lambda: zstandard(3), lambda: zstandard(19)], [constriction]):
        try:
            everyone += [make() for make in makers]
        except ImportError as error:
            print(f"without {error.name}; to compare with it: pip install {error.name}")
    return everyone


def sparse_layer(shape: tuple[int, int]) -> tuple[NDArray[np.uint8], int]:
    """A pruned layer: 9 % of the indices are nonzero, in a bell around zero."""
    generator = np.random.default_rng(_SEED)
    kept = generator.random(shape, np.float32) < 0.09
    steps = np.rint(generator.normal(scale=3.0, size=int(kept.sum()))).clip(-7, 7).astype(np.int8)
    indices = np.zeros(shape, np.uint8)
    indices[kept] = np.where(steps < 0, -steps, steps + 8)
    return indices, 16


def discretised_gaussian(count: int) -> tuple[NDArray[np.uint8], int]:
    """Quantized activations or weights without pruning."""
    generator = np.random.default_rng(_SEED)
    steps = np.rint(generator.standard_normal(count, np.float32) * 4)
    return (steps.clip(-32, 31) + 32).astype(np.uint8), 64


def arrays_of_file(path: Path) -> dict[str, tuple[NDArray[Any], int]]:
    """The largest index arrays of a file."""
    with FileReader(path) as reader:
        infos = [reader.info(name) for name in reader.names]
        largest = sorted((i for i in infos if i.quantized and not i.alias_of), key=lambda i: -i.numel)
        tensors = {info.name: reader.read(info.name) for info in largest[:_LARGEST]}
    return {
        f"{path.stem}: {name}": (tensor.indices, tensor.codebook.size)
        for name, tensor in tensors.items()
        if isinstance(tensor, QuantizedTensor)
    }


def measure(contender: Contender, indices: NDArray[Any], codebook_size: int) -> dict[str, Any]:
    """Time one coder on one array; the first call, which compiles, counts only where it is the last."""
    shape = indices.shape
    encode_seconds, coded = _best(lambda: contender.encode(indices, codebook_size))
    decode_seconds, decoded = _best(lambda: contender.decode(coded, shape, codebook_size))
    assert np.array_equal(decoded, indices)
    size = contender.size(coded)
    entropy = entropy_bits(histogram(indices, codebook_size))
    return {
        "coder": contender.name,
        "symbols": indices.size,
        "bytes": size,
        "bits_per_symbol": 8 * size / indices.size,
        "against_entropy": 8 * size / entropy,
        "encode_symbols_per_s": indices.size / encode_seconds,
        "decode_symbols_per_s": indices.size / decode_seconds,
    }


def _best(call: Callable[[], Any]) -> tuple[float, Any]:
    """The least of some times, and the result."""
    seconds = []
    for _ in range(1 + _REPEATS):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
        if (seconds[-1] > _PATIENCE_SECONDS and len(seconds) > 1) or seconds[-1] > 5 * _PATIENCE_SECONDS:
            break
    return min(seconds), result


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print one aligned line a measurement."""
    print(f"{'input':<30}{'coder':<13}{'bits':>8}{'/entropy':>9}{'encode M/s':>12}{'decode M/s':>12}")
    for row in rows:
        print(
            f"{row['input'][-29:]:<30}{row['coder']:<13}{row['bits_per_symbol']:>8.4f}"
            f"{row['against_entropy']:>9.4f}{row['encode_symbols_per_s'] / 1e6:>12.1f}"
            f"{row['decode_symbols_per_s'] / 1e6:>12.1f}"
        )


def main() -> None:
    """Measure every coder on every input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the measurements here")
    parser.add_argument("--quick", action="store_true", help="a sixteenth of the symbols")
    parser.add_argument("--file", type=Path, nargs="*", default=[], help="files whose arrays to code, too")
    arguments = parser.parse_args()
    scale = 16 if arguments.quick else 1
    inputs: dict[str, tuple[NDArray[Any], int]] = {
        "sparse layer (d)": sparse_layer((9216 // scale, 4096)),
        "Gaussian (e)": discretised_gaussian((1 << 25) // scale),
    }
    for path in arguments.file:
        inputs |= arrays_of_file(path)
    everyone = contenders()
    rows = [
        {"input": label} | measure(contender, indices, size)
        for label, (indices, size) in inputs.items()
        for contender in everyone
    ]
    print_table(rows)
    if arguments.json:
        machine = {"machine": platform.machine(), "python": platform.python_version(), "threads": 1}
        arguments.json.write_text(json.dumps(machine | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
