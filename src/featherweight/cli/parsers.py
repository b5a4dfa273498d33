"""The parser of each verb, for running it, for its help, and for shell completion."""

from __future__ import annotations

import re
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featherweight.cli.registry import Verb

PROGRAM = "featherweight"

#: Columns of a line of an example, which is indented by at most six.
_EXAMPLE_WIDTH = 72

#: What tells a shell that the command has more.
_GOES_ON = " \\"


def make_parser(verb: Verb) -> ArgumentParser:
    """A verb's parser, without its arguments."""
    return ArgumentParser(
        prog=f"{PROGRAM} {verb.name}",
        description=f"{verb.summary[0].upper()}{verb.summary[1:]}.",
        epilog=examples(verb),
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def examples(verb: Verb) -> str:
    """Commands for the end of a verb's help, none wider than 80 columns."""
    commands = (verb.example, *verb.more)
    heading = "example:" if len(commands) == 1 else "examples:"
    return "\n".join([heading, *(f"  {folded(command)}" for command in commands)])


def folded(command: str) -> str:
    """A command that is too long for a line, on several as a shell takes it, each option with its value."""
    lines = [""]
    for part in re.split(r" (?=-)", command):
        longer = f"{lines[-1]} {part}".lstrip()
        if lines[-1] and len(longer) > _EXAMPLE_WIDTH - len(_GOES_ON):
            lines.append(part)
        else:
            lines[-1] = longer
    return f"{_GOES_ON}\n      ".join(lines)
