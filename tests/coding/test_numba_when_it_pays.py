"""A small file is read without Numba, whose import alone takes longer than all the rest."""

import subprocess
import sys

import numpy as np
from both_ways import only

from featherweight.coding import numba_when_it_pays
from featherweight.fileformat import write_file
from featherweight.tensors import QuantizedTensor


def modules_after_inspecting(path):
    script = (
        "import sys; from featherweight.cli import main; main(['inspect', sys.argv[1]]);"
        "print(*sorted({'numba', 'scipy', 'torch'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1].split()


def write(path, count, coder):
    indices = (np.random.default_rng(0).random(count) < 0.3).astype(np.uint8)
    write_file(path, {"w": QuantizedTensor(indices, np.array([0, 1], np.float32))}, coder=coder)


def test_a_small_file_needs_no_numba_and_a_large_one_does(tmp_path):
    for coder in ("fixed", "huffman", "rans", "context"):
        write(tmp_path / "small.fwt", 10_000, coder)
        assert modules_after_inspecting(tmp_path / "small.fwt") == []
    write(tmp_path / "large.fwt", 1_000_000, "huffman")
    assert "numba" in modules_after_inspecting(tmp_path / "large.fwt")


def test_patience_comes_to_an_end(monkeypatch):
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    monkeypatch.setattr(numba_when_it_pays, "import_numba", lambda: None)
    monkeypatch.setattr(numba_when_it_pays, "_done", 0)
    use = numba_when_it_pays.use_numba
    assert not use(200_000)
    assert use(300_000)
    assert [use(200_000) for _ in range(5)] == [False, False, False, False, True]
    with only(False):
        assert not use(10**9)


def test_a_file_known_to_be_large_is_not_begun_in_plain_python(monkeypatch):
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    monkeypatch.setattr(numba_when_it_pays, "import_numba", lambda: None)
    monkeypatch.setattr(numba_when_it_pays, "_done", 0)
    numba_when_it_pays.expect(1000)
    assert not numba_when_it_pays.use_numba(1000)
    numba_when_it_pays.expect(1 << 20)
    assert numba_when_it_pays.use_numba(1000)


def run(script):
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()


def test_scipy_is_not_imported_to_see_whether_it_has_a_blas():
    script = (
        "import sys; from featherweight.coding.numba_when_it_pays import use_numba; assert use_numba(10**9);"
        "from numba.np import arraymath, linalg;"
        "print('scipy.linalg' in sys.modules, arraymath._HAVE_BLAS, linalg.ensure_blas.__module__)"
    )
    assert run(script) == ["False", "True", "numba.np.linalg"]
    without = (
        "import importlib.util as u; find = u.find_spec;"
        "u.find_spec = lambda name: None if name == 'scipy' else find(name);"
    )
    assert run(without + script) == ["False", "False", "numba.np.linalg"]


def test_numba_computes_with_blas_as_ever():
    script = (
        "from featherweight.coding.numba_when_it_pays import use_numba; assert use_numba(10**9);"
        "import numba, numpy as np;"
        "print(numba.njit(lambda a, b: np.dot(a, b))(np.arange(3.0), np.arange(3.0)))"
    )
    assert run(script) == ["5.0"]
