"""Write the golden files: ``make golden``.

Files of the version that this Featherweight writes are made anew, for every coder; those of other versions
stay. What they hold is noted in ``good.json`` from the tensors that went in, never by decoding; why the bad
ones are refused is in ``bad.json``. Commit all of it.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "fileformat"))

from bad_cases import bad_files  # noqa: E402
from forge import tensor_file  # noqa: E402
from samples import as_bytes, raw  # noqa: E402

from featherweight.coding import CODERS, RAW_CODERS  # noqa: E402
from featherweight.fileformat import write_file  # noqa: E402
from featherweight.fileformat.directory import VERSION  # noqa: E402
from featherweight.tensors import ITEM_SIZES, Alias, QuantizedTensor, RawTensor  # noqa: E402

#: Bad files of more bytes than this are made when they are needed.
MOST_BAD_BYTES = 1024

#: Elements of more bytes than this are noted by their SHA-256.
MOST_HEX_BYTES = 64


def make(folder: Path) -> None:
    """Write all files of the current version and the two lists."""
    for kind in ("good", "bad"):
        (folder / kind).mkdir(exist_ok=True)
        for path in (folder / kind).glob(f"v{VERSION}-*.fwt"):
            path.unlink()
    good = _of_other_versions(folder / "good.json") | _make_good(folder / "good")
    bad = _of_other_versions(folder / "bad.json") | _make_bad(folder / "bad")
    for name, content in (("good.json", good), ("bad.json", bad)):
        (folder / name).write_text(json.dumps(content, indent=1, ensure_ascii=True, sort_keys=True) + "\n")


def _of_other_versions(path: Path) -> dict:
    noted = json.loads(path.read_text()) if path.exists() else {}
    return {name: content for name, content in noted.items() if not name.startswith(f"v{VERSION}-")}


def _make_good(folder: Path) -> dict:
    noted = {}
    files = {"container": (container_tensors(), "huffman")}
    files["codebooks"] = (codebook_tensors(), "fixed")
    for coder in CODERS:
        files[coder] = (quantized_tensors(), coder)
        files[f"{coder}-long"] = (long_tensors(), coder)
    for name, (tensors, coder) in files.items():
        metadata = {"made by": "make_golden.py", "é": "ü\n"} if name == "container" else {}
        file_name = f"v{VERSION}-{name}.fwt"
        write_file(folder / file_name, tensors, coder=coder, metadata=metadata)
        noted[file_name] = {"metadata": metadata, "tensors": _note(tensors)}
    for coder, raw_coder in RAW_CODERS.items():
        for name, tensor in raw_tensors().items():
            payload = raw_coder.encode(tensor.data, ITEM_SIZES[tensor.dtype])
            if payload is not None:
                file_name = f"v{VERSION}-raw-{coder}-{name}.fwt"
                (folder / file_name).write_bytes(
                    tensor_file(tensor.dtype, tensor.shape, raw_coder.id, payload)
                )
                noted[file_name] = {"metadata": {}, "tensors": _note({"a": tensor})}
    return noted


def _make_bad(folder: Path) -> dict:
    noted = {}
    for name, bad in bad_files().items():
        if len(bad.data) <= MOST_BAD_BYTES:
            file_name = f"v{VERSION}-{name}.fwt"
            (folder / file_name).write_bytes(bad.data)
            noted[file_name] = {"reason": bad.reason, "max_bytes": bad.max_bytes}
    return noted


def _note(tensors: dict) -> dict:
    noted = {}
    for name, tensor in tensors.items():
        stored = tensors[tensor.target] if isinstance(tensor, Alias) else tensor
        noted[name] = note(*as_bytes(stored))
    return noted


def note(dtype: str, shape: tuple[int, ...], elements: bytes) -> dict:
    """What the list says of a tensor."""
    if len(elements) > MOST_HEX_BYTES:
        return {"dtype": dtype, "shape": list(shape), "sha256": hashlib.sha256(elements).hexdigest()}
    return {"dtype": dtype, "shape": list(shape), "hex": elements.hex()}


def quantized_tensors() -> dict:
    """Every layout, float type and extreme, of a few thousand elements in all."""
    generator = np.random.default_rng(1)
    zeros = np.zeros((10, 100), np.uint8)
    far = zeros.copy()
    far[0, 3] = far[9, 99] = 2
    codebook = np.array([0, -0.5, 0.25, -0.0, 3], np.float32)
    geometric = np.minimum(generator.geometric(0.4, (40, 25)) - 1, 4).astype(np.uint8)
    sparse = np.where(generator.random((40, 25)) < 0.1, geometric, 0).astype(np.uint8)
    wide = np.minimum(generator.geometric(0.01, 900) - 1, 299).astype(np.uint16)
    return {
        "dense": QuantizedTensor(geometric, codebook),
        "sparse": QuantizedTensor(sparse, codebook * np.float32(0.1)),
        "convolution": QuantizedTensor(geometric[:27].reshape(25, 3, 3, 3), codebook),
        "far apart": QuantizedTensor(far, codebook),
        "zeros": QuantizedTensor(zeros, codebook[:1]),
        "constant": QuantizedTensor(zeros + np.uint8(1), codebook),
        "all different": QuantizedTensor(np.arange(256, dtype=np.uint8), np.linspace(-1, 1, 256)),
        "wide": QuantizedTensor(wide, np.linspace(-1, 1, 300).astype(np.float16)),
        "wide and sparse": QuantizedTensor(
            np.where(wide > 150, wide, 0).astype(np.uint16), np.linspace(0, 1, 300)
        ),
        "bfloat16": QuantizedTensor(geometric, codebook, "bfloat16"),
        "scalar": QuantizedTensor(np.array(1, np.uint8), codebook),
        "empty": QuantizedTensor(np.zeros((3, 0, 2), np.uint8), codebook[:0]),
    }


def codebook_tensors() -> dict:
    """Codebooks for every way to store one, with and without a zero first."""
    generator = np.random.default_rng(4)
    normal = np.sort(generator.normal(size=40))
    multiples = np.array([-300, -9, -4, -3, -2, -1, 1, 2, 3, 5, 8, 777])
    ascending = {
        "float64": normal,
        "float32": normal.astype(np.float32),
        "float32 of float16": normal.astype(np.float16).astype(np.float32),
        "float16": np.unique(normal.astype(np.float16)),
        "bfloat16": np.unique(normal.astype(np.float32).view(np.uint32) >> 16 << 16).view(np.float32),
        "power of two": (multiples / 64).astype(np.float32),
        "float32 step": multiples.astype(np.float32) * np.float32(0.0123),
        "float64 step": multiples * 0.0123,
        "even": np.linspace(-0.3123, 0.2877, 16).astype(np.float32),
        "even from a float32": np.linspace(np.float32(-0.3), np.float32(0.2), 99).astype(np.float32),
        "positive": np.sort(generator.random(40)).astype(np.float32),
        "negative": np.sort(-generator.random(40)).astype(np.float32),
        "one": np.array([3.1415927], np.float32),
        "least and greatest": np.array([-3.4028235e38, 1e-45, 3.4028235e38], np.float32),
    }
    tensors = {}
    for name, values in ascending.items():
        behind_zero = np.concatenate([np.zeros(1, values.dtype), values])
        for kind, codebook in ((name, values), (f"{name} behind zero", behind_zero)):
            indices = (np.arange(60) % codebook.size).astype(np.uint8)
            tensors[kind] = QuantizedTensor(indices, codebook, "bfloat16" if "bfloat16" in name else "")
    return tensors


def long_tensors() -> dict:
    """Enough elements for several bit streams, one more than the smallest number."""
    indices = np.random.default_rng(2).integers(0, 2, 65_537).astype(np.uint8)
    return {"w": QuantizedTensor(indices, np.array([1, 2], np.float16))}


def raw_tensors() -> dict[str, RawTensor]:
    """Element sizes of 1 to 16 bytes; dense and mostly zero."""
    generator = np.random.default_rng(3)
    normal = generator.normal(size=(12, 25))
    pruned = np.where(generator.random((12, 25)) < 0.1, normal, 0)
    return {
        "float32": raw(normal.astype(np.float32)),
        "float32-layer": raw(_layer(np.random.default_rng(4))),
        "float32-smooth": raw(_smooth_layer(np.random.default_rng(7))),
        "float32-pruned": raw(pruned.astype(np.float32)),
        "float16-pruned": raw(pruned.astype(np.float16)),
        "complex128-pruned": raw(pruned[:2] * 1j),
        "int8": raw(generator.integers(-3, 3, 40).astype(np.int8)),
        "bool": raw(pruned != 0),
        "special": raw(np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4e38], np.float32)),
        "zeros": raw(np.zeros(1000)),
        "scalar": raw(np.array(7, np.int64)),
        "empty": raw(np.zeros((0, 3), np.int16)),
    }


def _layer(generator: np.random.Generator) -> np.ndarray:
    """Rows of very different scales, enough weights for exponents to be coded as a matrix."""
    return (generator.normal(size=(32, 40)) * np.exp2(np.arange(32) - 16)[:, None]).astype(np.float32)


def _smooth_layer(generator: np.random.Generator) -> np.ndarray:
    """Rows whose scales rise slowly: a matrix without bits of mantissas."""
    return (generator.normal(size=(48, 64)) * np.exp2(np.arange(48) / 16)[:, None]).astype(np.float32)


def container_tensors() -> dict:
    """Every dtype, aliases, and names that are hard on other formats."""
    tensors = {}
    for i, (dtype, size) in enumerate(ITEM_SIZES.items()):
        noise = np.random.default_rng(i).integers(0, 2 if dtype == "bool" else 256, 6 * size, np.uint8)
        tensors[f"dtype.{dtype}"] = RawTensor(dtype, (2, 3), noise)
    shared = QuantizedTensor(np.arange(6, dtype=np.uint8).reshape(2, 3), np.arange(6, dtype=np.float32))
    names = ["../x", "a\0b", "e\u0301", "é", " ", "\U0001f4be", "a\nb", "__metadata__", "x" * 300]
    return (
        tensors | {"shared": shared, "tied": Alias("shared")} | dict.fromkeys(names, raw(np.ones(1, np.int8)))
    )


if __name__ == "__main__":
    make(HERE)
