"""Terminals of 80 and of 40 columns, pipes, colour, and what every verb offers."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from terminals import has_colour, in_terminal, lines

from featherweight.analysis.sensitivity import Results, summary_table
from featherweight.analysis.sweep import NETWORK, Row
from featherweight.analysis.tables import bounded_table
from featherweight.cli import console
from featherweight.cli.completion import whole_parser
from featherweight.cli.parsers import folded
from featherweight.cli.registry import VERBS

RESULT = Path(__file__).parents[2] / "results" / "lenet5-mnist.fwt"

#: Verbs that print no table, or nothing that takes time.
NO_TABLE = {"decompress", "convert", "verify", "report", "completion"}
NO_PROGRESS = {"completion"}


def parsers():
    (verbs,) = [action for action in whole_parser()._actions if action.nargs == "A..."]
    return verbs.choices


def options(verb):
    return set(parsers()[verb]._option_string_actions)


# -- what every verb offers ----------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_can_be_quiet_and_give_its_table_as_json(verb):
    assert ("--quiet" in options(verb)) == ("-q" in options(verb)) == (verb not in NO_PROGRESS)
    assert ("--json" in options(verb)) == (verb not in NO_TABLE)


@pytest.mark.parametrize(
    "verb", [verb for verb in VERBS.values() if not verb.raw], ids=lambda verb: verb.name
)
def test_help_shows_examples_in_80_columns_that_the_parser_takes(verb, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = command(verb.name, "--help")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    examples = out.partition("example")[2].partition(":\n")[2].replace("\\\n", "").splitlines()
    assert len(examples) == 1 + len(verb.more)
    for example in examples:
        program = next(part for part in example.replace("<(", "").split("&&") if "featherweight" in part)
        words = program.replace(")", "").partition(" | ")[0].partition(" > ")[0].split()
        words = words[words.index("featherweight") :]
        assert words[:2] == ["featherweight", verb.name]
        parsers()[verb.name].parse_args([word.strip("'") for word in words[2:]])  # exits where it cannot


def test_every_argument_says_what_it_is():
    for verb, parser in parsers().items():
        for action in parser._actions:
            assert action.help, f"{verb} {action.dest}"


def test_long_examples_are_folded_between_options():
    command = "featherweight verb --first " + "a" * 40 + " --second value"
    assert folded(command) == "featherweight verb --first " + "a" * 40 + " \\\n      --second value"
    assert folded("featherweight verb x") == "featherweight verb x"


# -- widths --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inspected():
    """What ``inspect`` shows in a terminal of so many columns."""
    return cache(lambda columns: in_terminal(columns, "inspect", RESULT))


@pytest.mark.parametrize("columns", [80, 40])
def test_inspect_fits_the_terminal(columns, inspected):
    shown = inspected(columns)
    table = [line for line in lines(shown) if line.startswith(("layer", "fc1", "total", "──"))]
    assert len(table) == 5
    assert max(map(len, table)) <= columns
    assert all("…" not in line for line in table)
    bars = [line for line in lines(shown) if line.startswith("decoding")]
    assert "8/8" in bars[-1]
    assert max(map(len, bars)) <= columns


def test_a_narrow_window_gets_numbers_without_a_bar(inspected):
    assert any("━━" in line for line in lines(inspected(80)))
    narrow = lines(inspected(40))
    assert any("decoding" in line and "8/8" in line for line in narrow)
    assert not any("━━" in line for line in narrow)


JOURNAL = {
    "layers": [
        {"name": "features.10.weight", "groups": 589824, "pruned": 450000, "kept": 12, "taken_back": 1}
        | {"closed": "costs too much"},
        {"name": "fc3.weight", "groups": 1000, "pruned": 0, "kept": 0, "taken_back": 0, "closed": None},
    ]
}


def sweep():
    rows = [
        Row(layer, sparsity, None, "magnitude", "element", 1, None, epochs, 0, 99 - sparsity, 0.1, sparsity)
        for layer in ("conv1.weight", NETWORK)
        for sparsity in (0.5, 0.9)
        for epochs in (0, 1, 3)
    ]
    return Results("r", "LeNet5", "digits", "validation", 99.0, 0.05, {"seeds": [0]}, tuple(rows))


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize(
    "table",
    [lambda brief: bounded_table(JOURNAL, brief=brief), lambda brief: summary_table(sweep(), brief=brief)],
    ids=["bounded", "sensitivity"],
)
def test_other_tables_fit_too(table, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    console.output().print(table(columns < 72))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= columns
    assert "…" not in shown


# -- colour and pipes ----------------------------------------------------------------------------------


def test_colour_is_for_terminals_and_not_with_no_color(inspected):
    assert has_colour(inspected(80))
    assert not has_colour(in_terminal(80, "inspect", RESULT, NO_COLOR="1"))


def test_a_pipe_gets_plain_lines():
    command = [sys.executable, "-m", "featherweight", "inspect", str(RESULT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "150× smaller" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr


def test_quiet_leaves_the_result_alone():
    quiet = in_terminal(80, "inspect", RESULT, "--quiet")
    assert "decoding" not in quiet
    assert "150× smaller" in quiet
