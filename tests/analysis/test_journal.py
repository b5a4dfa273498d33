from __future__ import annotations

import json

import pytest

from featherweight.analysis.journal import Journal
from featherweight.errors import OutputError


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "points.jsonl", {"lr": 0.1})
    journal.append({"point": "a", "rows": [1]})
    journal.append({"point": "b", "rows": [2.5]})
    return journal


def test_entries_come_back_in_order(journal):
    assert Journal(journal.path, {"lr": 0.1}).entries == [
        {"point": "a", "rows": [1]},
        {"point": "b", "rows": [2.5]},
    ]


def test_after_a_kill_at_any_byte_every_whole_line_is_there_and_the_next_goes_after_it(journal):
    whole = journal.path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        journal.path.write_bytes(whole[:cut])
        again = Journal(journal.path, {"lr": 0.1})
        lines = whole[:cut].count(b"\n") - 1
        assert [entry["point"] for entry in again.entries] == ["a", "b"][:lines]
        again.append({"point": "c", "rows": []})
        parsed = [json.loads(line) for line in journal.path.read_text().splitlines()]
        assert [entry.get("point") for entry in parsed] == [None, *["a", "b"][:lines], "c"]


def test_killed_before_the_first_line_was_whole_it_begins_anew(journal):
    journal.path.write_bytes(journal.path.read_bytes()[:5])
    assert Journal(journal.path, {"lr": 0.2}).entries == []
    assert Journal(journal.path, {"lr": 0.2}).entries == []


def test_other_settings_are_refused_naming_the_first_that_differs(journal):
    with pytest.raises(OutputError, match=r"another lr \(0.1, now 0.2\).*--force"):
        Journal(journal.path, {"lr": 0.2})
    with pytest.raises(OutputError, match=r"another split \(null, now \"test\"\)"):
        Journal(journal.path, {"lr": 0.1, "split": "test"})


@pytest.mark.parametrize("text", ["hello\n", "[1]\n", '{"no": "settings"}\n'])
def test_a_file_that_is_no_journal_is_refused(tmp_path, text):
    path = tmp_path / "points.jsonl"
    path.write_text(text)
    with pytest.raises(OutputError, match="is no journal of results"):
        Journal(path, {})
    assert path.read_text() == text


def test_a_folder_that_is_not_there_is_told_in_one_line(tmp_path):
    with pytest.raises(OutputError, match=r"cannot be written: No such file"):
        Journal(tmp_path / "nowhere" / "points.jsonl", {})
