"""Loading a file runs no code that the file could choose and opens nothing but the file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent.parent / "golden"

#: Loads all files once so that modules and compiled functions are there, then once more under watch.
SCRIPT = """
import importlib, json, sys, warnings
from pathlib import Path
load_file = importlib.import_module(sys.argv[1]).load_file
paths = sorted(str(path) for path in Path(sys.argv[2]).rglob("*.fwt"))

def load_all():
    accepted = 0
    for path in paths:
        try:
            load_file(path, max_bytes=1 << 20)
            accepted += 1
        except ValueError:
            pass
    return accepted

accepted, seen, watching = load_all(), [], False
sys.addaudithook(lambda event, arguments: watching and seen.append((event, str(arguments[:1]))))
watching = True
again = load_all()
watching = False
json.dump({"paths": paths, "accepted": [accepted, again], "seen": seen}, sys.stdout)
"""

#: What the interpreter audits and loading may do.
HARMLESS = {"object.__getattr__", "sys._getframe", "code.__new__"}


@pytest.mark.parametrize("module", ["featherweight.numpy", "featherweight.files"])
def test_nothing_is_run_and_nothing_else_is_opened(module):
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, module, str(GOLDEN)], check=True, capture_output=True, text=True
    )
    report = json.loads(result.stdout)
    good = len(list((GOLDEN / "good").iterdir()))
    assert report["accepted"] == [good, good]
    events = {event for event, _ in report["seen"]}
    assert events <= {"open", *HARMLESS}, events
    opened = {arguments for event, arguments in report["seen"] if event == "open"}
    assert len(opened) == len(report["paths"])
    assert all(any(repr(path) in arguments for path in report["paths"]) for arguments in opened)


def test_no_source_of_the_reader_mentions_pickle_or_eval():
    package = Path(__file__).parents[2] / "src" / "featherweight"
    for room in ("fileformat", "coding"):
        for path in (package / room).glob("*.py"):
            source = path.read_text()
            assert not any(word in source for word in ("pickle", "eval(", "exec(", "__import__", "marshal"))
