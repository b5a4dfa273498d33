"""A file and the directory of a run, made without training, and odd files, for tests of reports."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
import torch

from featherweight.analysis.curves import COLUMNS, METRICS
from featherweight.analysis.sensitivity import Results
from featherweight.analysis.sweep import NETWORK, Row
from featherweight.fileformat import write_file
from featherweight.interop.safetensors import write_safetensors
from featherweight.tensors import Alias, QuantizedTensor, RawTensor

if TYPE_CHECKING:
    from pathlib import Path

SHAPES = {"conv1.weight": (6, 1, 5, 5), "conv10.weight": (8, 6, 3, 3), "conv2.weight": (16, 6, 5, 5)}
SCRIPT = '<script>window.hacked = 1</script>"><img src=x onerror="window.hacked = 2">'


def raw(array: np.ndarray, dtype: str | None = None) -> RawTensor:
    data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
    return RawTensor(dtype or array.dtype.name, array.shape, data)


def shared(shape: tuple[int, ...], values: int, sparsity: float, seed: int) -> QuantizedTensor:
    """Indices of which a fraction is 0; the codebook is 0 and values below and above."""
    random = np.random.default_rng(seed)
    indices = random.integers(1, values, shape).astype(np.uint8)
    indices[random.random(shape) < sparsity] = 0
    codebook = np.concatenate([[0], np.linspace(-0.3, 0.4, values - 1)])
    return QuantizedTensor(indices, codebook.astype(np.float32))


def network() -> dict[str, RawTensor | QuantizedTensor]:
    tensors: dict[str, RawTensor | QuantizedTensor] = {
        name: shared(shape, 8, 0.7, seed) for seed, (name, shape) in enumerate(SHAPES.items())
    }
    tensors["fc.weight"] = shared((300, 400), 16, 0.95, 9)
    tensors["fc.bias"] = raw(np.linspace(-1, 1, 300, dtype=np.float32))
    return tensors


def make_run(directory: Path) -> Path:
    """What a finished run leaves, its figures made up; with a sensitivity analysis in it."""
    directory.mkdir()
    tensors = network()
    size = write_file(directory / "made.fwt", tensors, coder="huffman")
    generator = torch.Generator().manual_seed(0)
    dense = {name: torch.randn(t.shape, generator=generator) * 0.1 for name, t in tensors.items()}
    write_safetensors(dense, directory / "fit.safetensors")
    (directory / "run.yaml").write_text("name: made\nmodel:\n  class_path: some.Network\n# <b>&amp;\n")
    total = 4 * sum(tensor.numel() for tensor in dense.values())
    result = {
        "name": "made", "model": "Network", "dataset": "digits", "error_dense_percent": 2.5,
        "error_percent": 3.25, "bytes": size, "dense_bytes": total, "ratio": total / size, "ratio_h": 9.0,
        "ratio_n": 8.0, "seconds": 60.0, "seed": 0, "command": "featherweight run recipes/made.yaml",
        "file": "made.fwt",
    }  # fmt: skip
    (directory / "result.json").write_text(json.dumps(result))
    with (directory / METRICS).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(1, 21):
            phase = ("fit", "prune")[number > 10]
            loss, pruned = 2 / number, max(0, 9.5 * (number - 10))
            writer.writerow([phase, (number - 1) % 10 + 1, loss, 1.1 * loss, 100 - 30 / number, pruned])
    (directory / "sensitivity").mkdir()
    sweep().write(directory / "sensitivity")
    return directory


def sweep() -> Results:
    """Accuracy over sparsity and over bits of three layers and the network."""
    layers = [*SHAPES, NETWORK]
    rows = []
    for i, layer in enumerate(layers):
        for zeros in (0.3, 0.5, 0.9):
            pruned = (layer, zeros, None, "magnitude", "element", 1, None, 0, 0)
            rows.append(Row(*pruned, 97 - 30 * zeros * i, 0.1, zeros))
        for bits in (2, 3, 4):
            quantized = (layer, None, bits, None, None, 1, "kmeans", 0, 0)
            rows.append(Row(*quantized, 97 - 5 * i / bits, 0.1, 0.0))
    return Results("made", "Network", "digits", "validation", 97.5, 0.1, {}, tuple(rows))


def odd_tensors() -> dict[str, RawTensor | QuantizedTensor | Alias]:
    """All kinds of tensors that are no layers of a network in good order."""
    broken = np.array([[np.nan, np.inf, -np.inf], [0, 1, -2]], np.float32)
    return {
        SCRIPT: shared((20, 30), 5, 0.5, 1),
        "scalar": raw(np.array(3.5, np.float32)),
        "counter": raw(np.array(7, np.int64)),
        "nothing": raw(np.zeros((0, 3), np.float32)),
        "zeros": QuantizedTensor(np.zeros((9, 9), np.uint8), np.zeros(1, np.float32)),
        "broken": raw(broken),
        "huge": raw(np.array([[1e308, -1e308], [0, 5e-324]])),
        "complex": raw(np.array([[1 + 2j, 0], [0, 3]], np.complex64)),
        "flags": raw(np.array([[True, False], [False, True]])),
        "half": raw((np.arange(6, dtype=np.uint16) * 1000).reshape(2, 3), "bfloat16"),
        "one value": QuantizedTensor(np.zeros((4, 4), np.uint8), np.array([0.5], np.float32)),
        "many": QuantizedTensor(
            np.arange(4096, dtype=np.uint16).reshape(64, 64), np.linspace(-1, 1, 4096).astype(np.float32)
        ),
        "n" * 60_000: raw(np.ones((2, 2), np.float32)),
        "tied": Alias("one value"),
        "line\nbreak \u202e \x1b[31m": raw(np.ones(3, np.float32)),
    }
