import errno
import os
import subprocess
import sys

import pytest

from featherweight.cli import main, verify
from featherweight.cli.registry import GROUPS, VERBS
from featherweight.errors import Interrupted


def process(*arguments, **options):
    command = [sys.executable, "-m", "featherweight", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_help_lists_every_verb_in_80_columns(command):
    code, out, err = command("--help")
    assert (code, err) == (0, "")
    for verb in VERBS.values():
        assert any(line.split(maxsplit=1) == [verb.name, verb.summary] for line in out.splitlines())
    assert max(map(len, out.splitlines())) <= 80
    assert sum(map(len, GROUPS.values())) == len(VERBS)


@pytest.mark.parametrize("verb", ["compress", "decompress", "inspect", "verify"])
def test_help_of_a_verb_shows_an_example(command, verb):
    code, out, err = command(verb, "--help")
    assert (code, err) == (0, "")
    assert f"\nexamples:\n  featherweight {verb} " in out


def test_version(command):
    assert command("--version") == (0, "featherweight 0.1.0\n", "")


def test_wrong_usage_is_2(command):
    code, out, err = command()
    assert (code, out) == (2, "")
    assert "usage: featherweight VERB" in err
    assert command("compres")[0] == 2
    assert "did you mean 'compress'?" in command("compres")[2]
    assert "known: demo, run" in command("xyz")[2]
    assert command("verify")[0] == 2
    assert command("verify", "a", "--bogus")[0] == 2
    assert command("inspect", "a", "--js")[0] == 2  # no abbreviations, so that options can be added later


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "x.fwt"),
            1,
            "error: x.fwt: No space left on device",
        ),
        (OSError("odd"), 1, "error: odd"),
        (KeyboardInterrupt(), 1, "interrupted"),
        (Interrupted("stopped; go on with --resume"), 1, "stopped; go on with --resume"),
        (SystemExit(3), 3, None),
        (SystemExit(), 0, None),
        (SystemExit("why"), 1, None),
        (BrokenPipeError(), 1, None),
    ],
)
def test_what_stops_a_verb_becomes_one_line_and_a_code(command, monkeypatch, raised, code, line):
    def fail(args):
        raise raised

    monkeypatch.setattr(verify, "run", fail)
    monkeypatch.setattr("featherweight.cli.dispatch._silence_stdout", lambda: None)
    got, out, err = command("verify", "x.fwt")
    assert (got, out) == (code, "")
    assert err == ("" if line is None else f"featherweight: {line}\n")


def test_a_bug_keeps_its_traceback(command, monkeypatch):
    monkeypatch.setattr(verify, "run", lambda args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command("verify", "x.fwt")


def test_error_lines_stay_one_line_whatever_the_name(command):
    code, _, err = command("verify", "no\nsuch\x1b[2Jfile")
    assert code == 1
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_process_exit_codes_and_one_line_on_stderr(tmp_path, small_file):
    damaged = tmp_path / "damaged.fwt"
    damaged.write_bytes(small_file.read_bytes()[:-1] + b"\0")
    result = process("verify", damaged)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"featherweight: error: {damaged}: ")
    assert result.stderr.count("\n") == 1
    assert process("verify", small_file).returncode == 0


def test_inspect_and_verify_import_no_torch(small_file):
    code = (
        "import sys; from featherweight.cli import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'lightning', 'matplotlib', 'sklearn'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else code)"
    )
    for verb in ("inspect", "verify"):
        result = subprocess.run(
            [sys.executable, "-c", code, verb, str(small_file)], capture_output=True, text=True, check=False
        )
        assert (result.returncode, result.stderr) == (0, "")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from featherweight.cli import main; main(['--help']); "
        "sys.exit(bool({'torch', 'numba', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_reader_that_goes_away_is_no_error(small_file):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        result = subprocess.run(
            [sys.executable, "-m", "featherweight", "inspect", "--json", small_file],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_full_disk_under_stdout(small_file):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        result = subprocess.run(
            [sys.executable, "-m", "featherweight", "inspect", small_file],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (result.returncode, result.stderr) == (1, "featherweight: error: No space left on device\n")


def test_output_survives_an_encoding_without_its_characters(small_file):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = process("inspect", small_file, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert "? smaller than dense" in result.stdout


def test_arguments_of_the_process_are_the_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["featherweight", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("featherweight ")
