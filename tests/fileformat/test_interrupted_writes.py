"""However a write ends, its path holds the old file or the new one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import interrupted_writes
import numpy as np
import pytest
from samples import raw, small_tensors

from featherweight.errors import OutputError
from featherweight.fileformat import FileReader, write_file


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_a_hundred_points(fast_folder):
    script = Path(__file__).parent / "interrupted_writes.py"
    result = subprocess.run(
        [sys.executable, str(script), str(fast_folder)], check=True, capture_output=True, text=True
    )
    found = json.loads(result.stdout)
    assert len(found) >= 100
    assert {end["signal"] for end in found} == {signal.SIGKILL}
    files = [end["file"] for end in found]
    assert set(files) == {"old", "new"}
    assert files == sorted(files, reverse=True), "the old file up to the rename, the new one from there on"
    assert all(len(end["rest"]) <= 1 for end in found)
    assert all(name.endswith(".tmp") for end in found for name in end["rest"])


def test_disk_full_at_a_hundred_points(fast_folder):
    resource = pytest.importorskip("resource")
    path = fast_folder / "f.fwt"
    noise = {"noise": raw(np.random.default_rng(0).random(20_000))}
    size = write_file(path, noise)
    write_file(path, {"old": raw(np.arange(5))})
    before = contents(fast_folder)
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for limit in np.linspace(0, size - 1, 100).astype(int).tolist():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old_limit[1]))
            with pytest.raises(OutputError, match="cannot be written: File too large"):
                write_file(path, noise)
            resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
            assert contents(fast_folder) == before
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, old_limit[1]))
        assert write_file(path, noise) == size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)


def test_ctrl_c_at_every_line_leaves_no_temporary_file(fast_folder):
    path = fast_folder / "f.fwt"

    def interrupt():
        raise KeyboardInterrupt

    tidying = interrupted_writes.TIDYING
    lines = interrupted_writes.write(path, -1, interrupt, tidying)
    new = path.read_bytes()
    path.write_bytes(b"old")
    assert lines > 100
    for number in range(1, lines + 1):
        path.write_bytes(b"old")
        with pytest.raises(KeyboardInterrupt):
            interrupted_writes.write(path, number, interrupt, tidying)
        found = contents(fast_folder)
        assert found.pop("f.fwt") in (b"old", new)
        assert found == {}


def test_overwriting_a_file_that_is_open(fast_folder):
    path = fast_folder / "f.fwt"
    write_file(path, {"old": raw(np.arange(5)), "other": raw(np.ones(3))})
    with FileReader(path) as reader:
        for _ in range(3):
            write_file(path, small_tensors())
        assert reader.read("old").data.view(np.int64).tolist() == [0, 1, 2, 3, 4]
        reader.verify()
    with FileReader(path) as reader:
        assert reader.names == sorted(small_tensors())
