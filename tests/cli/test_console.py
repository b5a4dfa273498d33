import io
import logging

import pytest
from rich.console import Console

from featherweight.cli import console
from featherweight.cli.training_options import log_to_stderr


@pytest.fixture
def terminal(monkeypatch):
    """What a terminal on stderr gets to see."""
    screen = io.StringIO()
    made = Console(file=screen, force_terminal=True, width=80)
    monkeypatch.setattr(console, "messages", lambda: made)
    return screen


def test_progress_is_a_bar_on_a_terminal(terminal):
    with console.progress("compressing", 3) as advance:
        for _ in range(3):
            advance()
    assert "compressing" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()


def test_quiet_progress_shows_nothing(terminal):
    with console.progress("compressing", 3, quiet=True) as advance:
        advance()
    assert terminal.getvalue() == ""


def test_progress_elsewhere_is_a_line_now_and_then(capsys, monkeypatch):
    with console.progress("decoding", 2) as advance:
        advance()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(console, "_LINE_SECONDS", 0.0)
    with console.progress("decoding", 2) as advance:
        advance()
        advance()
    assert capsys.readouterr() == ("", "decoding: 1 of 2\ndecoding: 2 of 2\n")


def test_say_shows_markup_and_long_lines_as_they_are(capsys):
    line = "[bold]" + "long " * 100 + "\x1b[31m"
    console.say(line)
    assert capsys.readouterr().out == line.replace("\x1b", "\\x1b") + "\n"


def test_colour_stays_off_with_no_color(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert console.output().no_color


def test_the_log_is_shown_while_a_verb_runs_and_not_after(
    capsys: pytest.CaptureFixture[str],
) -> None:
    package = logging.getLogger("featherweight")
    child = package.getChild("training")
    before = list(package.handlers), package.level
    with pytest.raises(KeyboardInterrupt), log_to_stderr():  # noqa: PT012
        child.info("shown")
        with log_to_stderr(quiet=True):
            child.info("hidden")
        raise KeyboardInterrupt
    child.info("too late")
    assert capsys.readouterr().err == "shown\n"
    assert (package.handlers, package.level) == before
