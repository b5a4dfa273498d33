"""A file appears whole or not at all."""

import errno
import os

import numpy as np
import pytest
from samples import raw, small_tensors

from featherweight.errors import OutputError
from featherweight.fileformat import FileReader, write_file


class Failing(dict):
    """Raises when its last tensor is fetched."""

    def __init__(self, error):
        super().__init__(small_tensors(zz=raw(np.ones(3))))
        self.error = error

    def __getitem__(self, name):
        if name == "zz":
            raise self.error
        return super().__getitem__(name)


@pytest.fixture(params=[False, True], ids=["new", "over an old file"])
def target(request, tmp_path):
    path = tmp_path / "f.fwt"
    if request.param:
        write_file(path, {"old": raw(np.arange(5))})
    return path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("error", [RuntimeError("bug"), KeyboardInterrupt(), OSError("a checkpoint's own")])
def test_exception_while_writing(target, error):
    before = contents(target.parent)
    with pytest.raises(type(error)) as caught:
        write_file(target, Failing(error))
    assert caught.value is error
    assert contents(target.parent) == before


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk(target, monkeypatch, call):
    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = contents(target.parent)
    if call == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OutputError, match=r"f\.fwt: cannot be written: No space left on device"):
        write_file(target, small_tensors())
    assert contents(target.parent) == before


def test_full_disk_for_real(target):
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    before = contents(target.parent)
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    generator = np.random.default_rng(0)
    try:
        for limit in (1, 4096, 100_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old_limit[1]))
            with pytest.raises(OutputError, match="cannot be written: File too large"):
                write_file(target, {"noise": raw(generator.random(20_000))})
            resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
            assert contents(target.parent) == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)


def test_existing_file_needs_force(tmp_path):
    path = tmp_path / "f.fwt"
    write_file(path, {}, overwrite=False)
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=r"exists already; .* --force"):
        write_file(path, small_tensors(), overwrite=False)
    assert contents(tmp_path) == before


def test_bad_paths(tmp_path):
    with pytest.raises(OutputError, match=r"no/f\.fwt: cannot be written: No such file or directory"):
        write_file(tmp_path / "no" / "f.fwt", {})
    with pytest.raises(OutputError, match="is not a regular file"):
        write_file(tmp_path, {})
    pipe = tmp_path / "pipe"  # not /dev/null, which a broken check would let root replace
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="is not a regular file"):
        write_file(pipe, {})


def test_reader_of_the_old_file_keeps_it(tmp_path):
    path = tmp_path / "f.fwt"
    write_file(path, {"old": raw(np.arange(5))})
    with FileReader(path) as reader:
        write_file(path, small_tensors())
        assert reader.read("old").data.view(np.int64).tolist() == [0, 1, 2, 3, 4]


def test_link_is_followed_and_umask_applies(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.fwt"
    link.symlink_to(tmp_path / "real" / "f.fwt")
    old = os.umask(0o027)
    try:
        write_file(link, small_tensors())
    finally:
        os.umask(old)
    assert link.is_symlink()
    assert (tmp_path / "real" / "f.fwt").stat().st_mode & 0o777 == 0o640
