"""Switches each check of reader, writer and coders off in turn, and tells which ones nobody misses.

A check is a ``raise`` of one of the package's errors. Each is taken out of its function in a process of its
own, which then goes through bad files, bad mappings and bad places, all in a temporary folder: what runs here
has lost a safeguard, and must not be pointed at anything real. For a coder that has no bad files here,
its own tests are run as well. Prints the checks and those that nothing noticed as JSON.
"""

import ast
import copy
import gc
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType

import numpy as np
import pytest
from bad_cases import BadFile, bad_files
from forge import tensor_file
from samples import raw

import featherweight
from featherweight.coding import CODERS, coder_by_name
from featherweight.errors import FeatherweightError
from featherweight.fileformat import FileReader, write_file
from featherweight.fileformat.atomic_directory import AtomicDirectory
from featherweight.tensors import Alias, QuantizedTensor, RawTensor

PACKAGE = Path(featherweight.__file__).parent
TESTS = Path(__file__).parent.parent
ERRORS = {"FormatError", "TensorError", "OutputError", "UnknownCoderError", "FeatherweightError"}

#: What a process may take on top, in bytes, and how long, in seconds: without a check it may run wild.
MEMORY, SECONDS = 4 << 30, 60

#: Which of a coder's own tests are of what it refuses, by words in their names.
REFUSALS = "bad or fault or checked or refused or outside or exact"

Trial = Callable[[Path], None]


def sources() -> list[Path]:
    return [path for room in ("fileformat", "coding") for path in sorted((PACKAGE / room).glob("*.py"))]


def checks(source: Path) -> Iterator[tuple[str, CodeType]]:
    """Every check of a file: where it is, and the module's code without it."""
    tree = ast.parse(source.read_text())
    raises = [node for node in ast.walk(tree) if isinstance(node, ast.Raise) and _is_ours(node)]
    for node in raises:
        without = _Without(node.lineno).visit(copy.deepcopy(tree))
        place = f"{source.relative_to(PACKAGE)}:{node.lineno}: {ast.unparse(node)[:100]}"
        yield place, compile(without, str(source), "exec")


def _is_ours(node: ast.Raise) -> bool:
    call = node.exc
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ERRORS


class _Without(ast.NodeTransformer):
    def __init__(self, line: int) -> None:
        self.line = line

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        return ast.copy_location(ast.Pass(), node) if node.lineno == self.line else node


def functions_by_place() -> dict[tuple[str, str, int], list[FunctionType]]:
    """All functions of the package, by file, name and line."""
    found: dict[tuple[str, str, int], list[FunctionType]] = {}
    for function in gc.get_objects():
        if isinstance(function, FunctionType) and function.__code__.co_filename.startswith(str(PACKAGE)):
            found.setdefault(_place(function.__code__), []).append(function)
    return found


def _place(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def switch_off(module: CodeType, functions: dict[tuple[str, str, int], list[FunctionType]]) -> None:
    """Give all functions of a module their new code."""
    for code in module.co_consts:
        if isinstance(code, CodeType):
            for function in functions.get(_place(code), []):
                if len(function.__code__.co_freevars) == len(code.co_freevars):
                    function.__code__ = code
            switch_off(code, functions)


# -- what should go wrong --------------------------------------------------------------------------


@contextmanager
def refusal(reason: str) -> Iterator[None]:
    with pytest.raises(FeatherweightError, match=reason):
        yield


def trials() -> list[Trial]:
    """All of them, the quickest first."""
    bad = sorted(bad_files().values(), key=lambda file: len(file.data))
    refused = [_refused(file) for file in bad]
    unwritten = [_unwritten(*case) for case in bad_mappings()]
    others = [
        _bad_places,
        _bad_directories,
        _values_of_bad_codebooks,
        _file_shrinks,
        _file_is_unreadable,
        _index_too_large,
        _auto,
    ]
    return [*others, *refused[:-5], *unwritten, *refused[-5:]]


def _refused(bad: BadFile) -> Trial:
    def trial(folder: Path) -> None:
        path = folder / "bad.fwt"
        path.write_bytes(bad.data)
        with refusal(bad.reason), FileReader(path, max_bytes=bad.max_bytes) as reader:
            reader.check_total()
            for name in reader.names:
                reader.info(name)
                reader.read(name)

    return trial


def bad_mappings() -> list[tuple[dict, dict, str]]:
    """Tensors, metadata and why they cannot be written."""
    one, bfloat16 = raw(np.ones(1)), np.array([1.5], np.float32)
    lossy = QuantizedTensor(np.zeros(1, np.uint8), bfloat16, "bfloat16")
    lossy.codebook[0] = 0.1  # behind the tensor's back
    dimensions, huge = RawTensor("int8", (1,) * 33, np.ones(1, np.uint8)), (0, 2**62, 2)
    return [
        ({3: one}, {}, "must be strings"),
        ({"": one}, {}, "1 to 65535 bytes"),
        ({"x" * 65536: one}, {}, "1 to 65535 bytes"),
        ({"\ud800": one}, {}, "lone surrogate"),
        ({}, {"a": 3}, "strings to strings"),
        ({}, {"a": "\ud800"}, "lone surrogate"),
        ({}, {"a": "x" * (16 << 20)}, "at most 16777216"),
        ({"a": Alias("b")}, {}, "'a' is tied to 'b'"),
        ({"a": dimensions}, {}, "'a' cannot be stored: it has 33 dimensions"),
        ({"a": RawTensor("int8", huge, np.ones(0, np.uint8))}, {}, r"'a' .* more than 2\^63"),
        ({"a": RawTensor("bool", (1,), np.array([2], np.uint8))}, {}, "'a' .* other than 0 and 1"),
        ({"a": lossy}, {}, "'a' .* cannot be stored as bfloat16"),
        ({"a": QuantizedTensor(np.zeros(1, np.uint8), bfloat16, coder="zip")}, {}, "unknown coder 'zip'"),
    ]


def _unwritten(tensors: dict, metadata: dict, reason: str) -> Trial:
    def trial(folder: Path) -> None:
        with refusal(reason):
            write_file(folder / "unwritten.fwt", tensors, metadata=metadata)

    return trial


def _bad_places(folder: Path) -> None:
    for place, reason in ((folder, "a directory or a device"), (folder / "no.fwt", "cannot be opened")):
        with refusal(reason):
            FileReader(place)
    write_file(folder / "there.fwt", {})
    with refusal("exists already"):
        write_file(folder / "there.fwt", {}, overwrite=False)
    # A pipe of our own, never a real device: without its check the writer replaces what is there.
    pipe = folder / "pipe"
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    with refusal("not a regular file"):
        write_file(pipe, {})
    with refusal("cannot be written: No such file"):
        write_file(folder / "nowhere" / "f.fwt", {})


def _bad_directories(folder: Path) -> None:
    taken, full, replaced = folder / "taken", folder / "full", folder / "replaced"
    taken.touch()
    (full / "something").mkdir(parents=True, exist_ok=True)
    for place, reason in (
        (taken, "exists and is no directory"),
        (full, "exists already and is not empty"),
        (folder / "nowhere" / "new", "its directory does not exist; make it with mkdir -p"),
        (Path("/proc/new"), "cannot be written"),  # where nobody can make a directory
    ):
        with refusal(reason), AtomicDirectory(place):
            raise AssertionError(f"{place} was begun")
    with refusal("cannot be written: No such file"), AtomicDirectory(replaced) as temporary:
        temporary.rmdir()


def _values_of_bad_codebooks(folder: Path) -> None:
    path = folder / "bad.fwt"
    path.write_bytes(bad_files()["codebook-nan"].data)
    with FileReader(path) as reader, refusal("NaN or infinity"):
        reader.read_values("a")


def _file_shrinks(folder: Path) -> None:
    path = folder / "shrinks.fwt"
    path.write_bytes(tensor_file("int8", (64,), 0, bytes(64)))
    with FileReader(path) as reader:
        os.truncate(path, 20)
        with refusal("become shorter"):
            reader.read("a")


def _file_is_unreadable(folder: Path) -> None:
    path = folder / "unreadable.fwt"
    path.write_bytes(tensor_file("int8", (64,), 0, bytes(64)))
    with FileReader(path) as reader:
        os.dup2(os.open(folder, os.O_RDONLY), reader._file.fileno())  # reading a directory fails
        with refusal("cannot be read: Is a directory"):
            reader.read("a")


def _index_too_large(folder: Path) -> None:
    for coder in CODERS.values():
        with refusal("index 4 is outside a codebook of 4 values"):
            coder.encode(np.array([4], np.uint8), 4)


def _auto(folder: Path) -> None:
    with refusal("'auto' is no coder but a choice"):
        coder_by_name("auto")


# -- one process a check ---------------------------------------------------------------------------


def is_noticed(run: Callable[[], None]) -> bool:
    """Whether ``run`` fails, in a process of its own."""
    child = os.fork()
    if child == 0:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        signal.alarm(SECONDS)
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY,) * 2)
        try:
            run()
        except BaseException:  # whatever it is, it has been noticed
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0


def own_tests(source: Path) -> list[str]:
    """The test files of a coder, by the first word of its module's name."""
    word = source.stem.split("_")[0]
    return [str(path) for path in sorted((TESTS / "coding").glob(f"test_{word}*.py"))]


def main() -> None:
    todo, functions = trials(), functions_by_place()
    memory = "/dev/shm"  # noqa: S108 - a fresh folder in it
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        folder = Path(name)

        def run_trials() -> None:
            for trial in todo:
                trial(folder)

        def run_tests(source: Path) -> None:
            if pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-k", REFUSALS, *own_tests(source)]) != 0:
                raise AssertionError("noticed")

        run_trials()
        gc.freeze()
        if is_noticed(run_trials):
            raise AssertionError("something fails though all checks are on")
        found, missed = [], []
        for source in sources():
            for place, module in checks(source):

                def off(run: Callable[..., None], *arguments: object, module: CodeType = module) -> None:
                    switch_off(module, functions)
                    run(*arguments)

                found.append(place)
                if is_noticed(lambda off=off: off(run_trials)):
                    continue
                if not own_tests(source) or not is_noticed(lambda off=off, s=source: off(run_tests, s)):
                    missed.append(place)
    json.dump({"checks": found, "missed": missed}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
