from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from featherweight.data.root import resolve_data_root

if TYPE_CHECKING:
    import pytest


def test_argument_then_environment_then_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEATHERWEIGHT_DATA", "/from/environment")
    assert resolve_data_root("/from/argument") == Path("/from/argument")
    assert resolve_data_root() == Path("/from/environment")
    monkeypatch.setenv("FEATHERWEIGHT_DATA", "")
    assert resolve_data_root() == resolve_data_root("") == tmp_path / "data"
    monkeypatch.delenv("FEATHERWEIGHT_DATA")
    assert resolve_data_root() == tmp_path / "data"


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert resolve_data_root("~/sets") == Path("/home/someone/sets")
