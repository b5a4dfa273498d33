"""Kernels load as machine code, and where that is impossible, Numba runs them."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from numba import njit

from featherweight.coding import machine_code


@njit
def weighted(a, b):
    return np.int64(3 * a // b)


@njit
def foreign(a, b):  # 3 ln 4! = 9.53
    return np.int64(a * math.lgamma(np.float64(b)))


@njit
def real(a, b):
    return a / b


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Kernels of this module, in a folder of their own, and none of them loaded."""
    here = SimpleNamespace(weighted=weighted, foreign=foreign, real=real)
    monkeypatch.setattr(machine_code, "_import", lambda module: here)
    monkeypatch.setattr(machine_code, "_loaded", {})
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    return tmp_path


def load(name):
    machine_code._loaded.clear()
    return machine_code.kernel(["machine_code"], name, 2)


def never(*arguments):
    raise AssertionError("compiled again")


def test_a_kernel_is_compiled_once(fresh, monkeypatch):
    assert [load("weighted")(a, 4) for a in (5, -5)] == [3, -4]
    (kept,) = fresh.iterdir()
    assert kept.name.startswith("weighted-")
    monkeypatch.setattr(machine_code, "_compile", never)
    assert [load("weighted")(a, 4) for a in (5, -5)] == [3, -4]


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b""])
def test_a_damaged_file_is_written_anew(fresh, damage):
    load("weighted")
    (kept,) = fresh.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    assert load("weighted")(5, 4) == 3
    assert [path.name for path in fresh.iterdir()] == [kept.name]
    assert machine_code._read(kept.name) is not None


def test_other_settings_and_sources_have_files_of_their_own(fresh, monkeypatch):
    names = {machine_code._key(["context"]), machine_code._key(["context", "rans"])}
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    assert len(names | {machine_code._key(["context"])}) == 3


def test_where_nothing_can_be_written_the_kernel_runs_all_the_same(fresh, monkeypatch):
    (fresh / "file").write_bytes(b"")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(fresh / "file"))
    assert load("weighted")(9, 2) == 13


@pytest.mark.parametrize(("name", "expected"), [("foreign", 9), ("real", 0.6)])
def test_what_cannot_be_loaded_alone_numba_runs(fresh, name, expected):
    assert load(name)(3, 5) == expected
    assert list(fresh.iterdir()) == []


def test_numba_runs_kernels_where_there_are_no_sources(fresh):
    assert machine_code.kernel(["no_such_module"], "weighted", 2)(5, 4) == 3
    assert list(fresh.iterdir()) == []
