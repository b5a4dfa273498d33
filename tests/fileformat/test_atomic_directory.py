"""A directory that appears whole or not at all; what is refused is in switch_off.py as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from featherweight.errors import OutputError
from featherweight.fileformat.atomic_directory import AtomicDirectory

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, text: str, *, error: type[BaseException] | None = None, **options: object) -> None:
    with AtomicDirectory(path, **options) as temporary:  # type: ignore[arg-type]
        assert temporary.parent == path.resolve().parent
        (temporary / text).write_text(text)
        assert not (path / text).exists()
        if error is not None:
            raise error


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_new_and_an_empty_directory_are_filled(tmp_path):
    write(tmp_path / "new", "one")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", "two")
    assert names(tmp_path) == ["empty", "empty/two", "new", "new/one"]


def test_a_directory_is_replaced_as_a_whole_where_that_is_allowed(tmp_path):
    write(tmp_path / "there", "one")
    with pytest.raises(OutputError, match="exists already and is not empty; choose another name"):
        write(tmp_path / "there", "two")
    assert names(tmp_path) == ["there", "there/one"]
    write(tmp_path / "there", "two", replaceable=lambda path: (path / "one").exists())
    assert names(tmp_path) == ["there", "there/two"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_was_there_stays_on_any_error(tmp_path, error):
    write(tmp_path / "there", "one")
    with pytest.raises(error):
        write(tmp_path / "there", "two", error=error, replaceable=lambda _: True)
    assert names(tmp_path) == ["there", "there/one"]


def test_what_was_there_comes_back_if_it_cannot_be_replaced(tmp_path):
    write(tmp_path / "there", "one")
    with (
        pytest.raises(OutputError, match="there: cannot be written: No such file"),
        AtomicDirectory(tmp_path / "there", replaceable=lambda _: True) as temporary,
    ):
        temporary.rmdir()
    assert names(tmp_path) == ["there", "there/one"]


def test_a_link_to_a_directory_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link", "one")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "one").read_text() == "one"
