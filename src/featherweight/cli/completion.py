"""``featherweight completion``: a script that completes verbs, options and file names in a shell.

The script is made from the parsers of all verbs by shtab, and asks nothing of Python when Tab is pressed.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featherweight.cli.parsers import PROGRAM, make_parser
from featherweight.cli.registry import VERBS

if TYPE_CHECKING:
    from argparse import Action, Namespace

SHELLS = ("bash", "zsh", "fish")

#: Placeholders of options and arguments that take a path but are not declared as one.
_PATH_METAVARS = frozenset({"F", "FILE", "FILE.fwt", "PATH"})

_DIRECTORY_METAVAR, _FWT_METAVAR = "DIR", "FILE.fwt"

#: Files whose name ends in ``.fwt``, and the directories on the way to them.
_FWT_FILES = {
    "bash": "_featherweight_fwt_files",
    "zsh": '_files -g "*.fwt"',
    "fish": "(__fish_complete_suffix .fwt)",
}

_BASH_PREAMBLE = """
_featherweight_fwt_files() {
  compgen -f -X '!*.fwt' -- $1
  compgen -d -- $1
}
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("shell", choices=SHELLS, help="for which shell")


def run(args: Namespace) -> None:
    """Print the script."""
    sys.stdout.write(script(args.shell))


def script(shell: str) -> str:
    """The completion script for a shell: ``bash``, ``zsh`` or ``fish``."""
    import shtab

    preamble = _BASH_PREAMBLE if shell == "bash" else ""
    return shtab.complete(whole_parser(), shell, preamble=preamble) + "\n"


def whole_parser() -> ArgumentParser:
    """One parser with all verbs below it; an argument that takes a path says so to shtab."""
    whole = ArgumentParser(prog=PROGRAM, allow_abbrev=False)
    whole.add_argument("--version", action="store_true", help="print the version")
    verbs = whole.add_subparsers()
    for verb in VERBS.values():
        single = make_parser(verb)
        module = verb.load_raw() if verb.raw else verb.load()
        parser = verbs.add_parser(
            verb.name, help=verb.summary, description=single.description, allow_abbrev=False
        )
        module.add_arguments(parser)
        for action in parser._actions:
            _complete_paths(action)
    return whole


def _complete_paths(action: Action) -> None:
    import shtab

    if action.choices is not None:
        return
    how: dict[str, Any]
    if action.metavar == _DIRECTORY_METAVAR:
        how = shtab.DIRECTORY
    elif action.metavar == _FWT_METAVAR:
        how = _FWT_FILES
    elif action.type is Path or action.metavar in _PATH_METAVARS:
        how = shtab.FILE
    else:
        return
    action.complete = how  # type: ignore[attr-defined]  # where shtab looks for it
