"""From arguments to a verb, and from what went wrong to one line and an exit code."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

from featherweight import __version__
from featherweight.analysis.text import printable
from featherweight.cli.arguments import UsageError
from featherweight.cli.parsers import PROGRAM, make_parser
from featherweight.cli.registry import GROUPS, VERBS
from featherweight.errors import FeatherweightError, Interrupted

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE, FAILED, WRONG_USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; those of this process unless given.

    Returns:
        The exit code: 0 done, 1 a bad input, a failed verification or Ctrl-C, 2 wrong usage.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _replace_unprintable()
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
    except SystemExit as stop:  # argparse's and Lightning's way out
        return stop.code if isinstance(stop.code, int) else DONE if stop.code is None else FAILED
    except UsageError as error:
        return _fail(error, WRONG_USAGE, f"{PROGRAM} {arguments[0]}")
    except (KeyboardInterrupt, Interrupted) as stop:
        return _fail(str(stop) or "interrupted", FAILED, kind="")
    except FeatherweightError as error:
        return _fail(error, FAILED)
    except BrokenPipeError:
        _silence_stdout()
        return FAILED
    except OSError as error:
        return _fail(_describe(error), FAILED)
    return code


def _dispatch(arguments: list[str]) -> int:
    first = arguments[0] if arguments else ""
    if first in ("-h", "--help"):
        sys.stdout.write(_help())
        return DONE
    if first == "--version":
        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        return DONE
    if first not in VERBS:
        sys.stderr.write(_unknown_verb(first) if first else _help())
        return WRONG_USAGE
    verb, rest = VERBS[first], arguments[1:]
    if verb.raw:
        return verb.load_raw().run_raw(rest)
    module = verb.load()
    parser = make_parser(verb)
    module.add_arguments(parser)
    return module.run(parser.parse_args(rest)) or DONE


def _help() -> str:
    width = max(map(len, VERBS)) + 2
    lines = [
        f"usage: {PROGRAM} VERB ...",
        "",
        "Turn a trained PyTorch network into a file tens to hundreds of times smaller,",
        "which decodes back, bit for bit, to the network that was tested.",
    ]
    for heading, verbs in GROUPS.items():
        lines += ["", f"{heading}:", *(f"  {verb.name:<{width}}{verb.summary}" for verb in verbs)]
    lines += ["", f"{PROGRAM} VERB --help tells a verb's options and shows an example."]
    return "\n".join(lines) + "\n"


def _unknown_verb(verb: str) -> str:
    near = difflib.get_close_matches(verb, VERBS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(VERBS)}"
    return f"{PROGRAM}: error: unknown verb {verb!r}; {hint}\n"


def _fail(error: object, code: int, program: str = PROGRAM, kind: str = "error: ") -> int:
    # One line, whatever a name in a file or another library's message may hold.
    line = printable(" ".join(str(error).splitlines()))
    sys.stderr.write(f"{program}: {kind}{line}\n")
    return code


def _describe(error: OSError) -> str:
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename is not None else what


def _replace_unprintable() -> None:
    """Let output that the terminal's encoding lacks (×, box lines) come out as ``?`` rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _silence_stdout() -> None:
    """The reader of our output has gone: keep the interpreter from flushing to it at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
