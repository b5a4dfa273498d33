"""Completion, driven as a shell drives it."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from featherweight.cli.completion import SHELLS, script
from featherweight.cli.registry import VERBS

BASH = shutil.which("bash")

#: Asks for completions of the last word, one a line.
_DRIVER = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
"$(complete -p featherweight | sed 's/.*-F \\([^ ]*\\) .*/\\1/')" featherweight "${@: -1}" "${@: -2:1}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "featherweight.bash"
    path.write_text(script("bash"), encoding="utf-8")
    return path


@pytest.fixture
def complete(bash_script, tmp_path):
    """``complete("inspect", "mo")``: what bash offers for the last word, in a directory with a few files."""
    if BASH is None:
        pytest.skip("there is no bash")
    for name in ("model.fwt", "my model.fwt", "notes.txt", "recipe.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "runs").mkdir()

    def run(*words):
        command = [BASH, "--norc", "-c", _DRIVER, "bash", bash_script, "featherweight", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return set(done.stdout.splitlines()) - {""}

    return run


def test_bash_completes_verbs(complete):
    assert complete("") >= set(VERBS)
    assert complete("in") == {"inspect"}
    assert complete("test") == {"test", "test-file"}


def test_bash_completes_options(complete):
    assert complete("inspect", "--") == {"--help", "--json", "--quiet"}
    assert complete("compress", "model.pt", "--target-") == {"--target-bits", "--target-size"}
    assert complete("fit", "--ck") == {"--ckpt_path"}


def test_bash_completes_values(complete):
    assert complete("compress", "model.pt", "--coder", "") == {"fixed", "huffman", "rans", "context", "auto"}
    assert complete("completion", "") == set(SHELLS)


def test_bash_completes_file_names(complete):
    everything = {"model.fwt", "my model.fwt", "notes.txt", "recipe.yaml", "runs"}
    assert complete("inspect", "") == {"model.fwt", "my model.fwt", "runs"}  # .fwt files, and directories
    assert complete("inspect", "model.fwt", "--quiet", "") == set()
    assert complete("convert", "") == everything
    assert complete("compress", "model.pt", "--recipe", "r") == {"recipe.yaml", "runs"}
    assert complete("run", "--output", "") == {"runs"}
    assert complete("run", "re") == {"recipe.yaml"}
    assert complete("test-file", "m") == {"model.fwt", "my model.fwt"}


@pytest.mark.parametrize(
    ("shell", "mark"), [("zsh", "#compdef featherweight"), ("fish", "complete -c featherweight")]
)
def test_other_shells_get_every_verb(shell, mark, command):
    code, out, err = command("completion", shell)
    assert (code, err) == (0, "")
    assert mark in out
    for verb in VERBS.values():
        assert verb.name in out
        assert verb.summary[1:] in out


def test_an_unknown_shell_is_wrong_usage(command):
    assert command("completion", "tcl")[0] == 2


def test_scripts_are_made_without_pytorch():
    code = (
        "import sys; from featherweight.cli.completion import script; script('bash'); "
        "sys.exit(', '.join({'torch', 'lightning', 'numba', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
