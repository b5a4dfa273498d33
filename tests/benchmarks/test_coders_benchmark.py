"""The comparison of coders, from end to end on small arrays, and the arrays that it makes."""

import json
import lzma
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from featherweight.coding import CODERS
from featherweight.fileformat import write_file
from featherweight.tensors import QuantizedTensor

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def inputs(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import coder_inputs

    return coder_inputs


def test_levels_become_indices_and_come_back(inputs):
    levels = np.array([[3, -2, 0, 0], [-5, 3, -2, 7]], np.int32)
    tensor = inputs.quantize(levels)
    assert tensor.codebook.tolist() == [0, -5, -2, 3, 7]
    assert np.array_equal(tensor.dequantize(), levels)
    assert inputs.signed_levels(tensor).tolist() == [[1, -1, 0, 0], [-2, 1, -1, 2]]


def test_levels_without_a_zero_and_many_of_them(inputs):
    levels = np.arange(1, 400, dtype=np.int32)
    tensor = inputs.quantize(levels)
    assert tensor.indices.dtype == np.uint16
    assert np.array_equal(tensor.dequantize(), levels)


def test_the_sparse_layer_is_as_it_says(inputs):
    (tensor,) = inputs.sparse_layer((64, 4096)).tensors
    assert np.count_nonzero(tensor.indices) / tensor.indices.size == pytest.approx(0.09, abs=0.003)
    assert tensor.codebook.size == 15


def test_everyone_is_measured_and_who_is_absent_is_named(tmp_path):
    indices = (np.random.default_rng(0).random((40, 50)) < 0.2).astype(np.uint8)
    (tmp_path / "run").mkdir()
    tensors = {"w": QuantizedTensor(indices, np.array([0, 0.5], np.float32))}
    write_file(tmp_path / "run" / "small.fwt", tensors, coder="rans")
    command = [sys.executable, BENCHMARKS / "coders.py", "--quick", "--only", "abcd", "--json", "out.json"]
    command += ["--run", "run", "--data-root", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert max(map(len, done.stdout.splitlines())) <= 100
    figures = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    rows = {(row["input"][0], row["coder"], row["cores"]): row for row in figures["rows"]}
    for name, coder in CODERS.items():
        assert rows["a", name, 1]["bytes"] == len(coder.encode(indices, 2))
    assert rows["a", "xz 6", 1]["bytes"] == len(lzma.compress(indices.tobytes(), preset=6))
    assert rows["d", "rans", 1]["against_entropy"] < 1.01
    assert all(row["encode_symbols_per_s"] > 0 and row["decode_symbols_per_s"] > 0 for row in rows.values())
    left_out = " ".join(figures["left_out"])
    assert "(b) left out" in left_out
    assert "(c) left out" in left_out
    for peer, module in (("DeepCABAC", "nncodec"), ("constriction", "constriction"), ("zstd 3", "zstandard")):
        assert (("d", peer, 1) in rows) != (module in left_out)
        assert ("DeepCABAC" in {row["coder"] for row in rows.values()}) == bool(
            rows["d", "rans", 1]["against_deepcabac"]
        )
