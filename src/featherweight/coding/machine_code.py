"""Kernels as machine code in files of their own, which a process runs without importing Numba.

Numba keeps what it has compiled, too, but to run it a process has to import the whole compiler and to fill
its tables, which takes longer than all else that ``featherweight inspect`` does. LLVM's loader alone is there
in a tenth of a second. So the first process that needs such a kernel compiles it and writes the object file
that LLVM made; the next ones load that. The file's name tells what it was made from: the kernel's sources,
the version of LLVM and the processor. Where any of this fails, Numba runs the kernel as it runs others.

A kernel here takes integers, the addresses of arrays among them, and returns one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import threading
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featherweight.coding.numba_when_it_pays import import_numba

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

_logger = logging.getLogger(__name__)

#: Settings of Numba that change what is compiled.
_SETTINGS = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_ENABLE_AVX", "NUMBA_OPT")

_DIGEST = hashlib.sha256().digest_size

_lock = threading.Lock()
_loaded: dict[str, Callable[..., int]] = {}
_engines: list[Any] = []  # own the machine code


def address_of(array: NDArray[Any]) -> int:
    """Where the elements of a contiguous array begin. The caller keeps the array while this is in use."""
    return array.ctypes.data


def kernel(modules: Sequence[str], name: str, arguments: int) -> Callable[..., int]:
    """A compiled function, loaded from its file if there is one.

    Args:
        modules: those of this package that the function is made of; the first defines it.
        name: the function, decorated with ``njit``; all it takes and returns are ``int64``.
        arguments: how many it takes.
    """
    with _lock:
        if name not in _loaded:
            _loaded[name] = _load_or_compile(modules, name, arguments)
        return _loaded[name]


def _load_or_compile(modules: Sequence[str], name: str, arguments: int) -> Callable[..., int]:
    if sys.platform == "linux" and os.environ.get("NUMBA_DISABLE_JIT", "0") == "0":
        try:
            stem = f"{name}-{_key(modules)}.o"
            coded = _read(stem)
            if coded is None:
                coded = _compile(modules[0], name, arguments)
                _write(stem, coded)
            return _link(coded, arguments)
        except (ImportError, AttributeError, TypeError, ValueError, OSError, RuntimeError) as error:
            _logger.debug("Numba runs %s itself: %s", name, error)
    import_numba()
    function: Callable[..., int] = getattr(_import(modules[0]), name)
    return function


def _import(module: str) -> Any:
    return import_module(f"featherweight.coding.{module}")


def _key(modules: Sequence[str]) -> str:
    """A name for all that the machine code depends on."""
    import llvmlite
    from llvmlite import binding

    here = Path(__file__).parent
    parts = [(here / f"{module}.py").read_bytes() for module in modules]
    parts += [os.environ.get(setting, "").encode() for setting in _SETTINGS]
    processor = binding.get_process_triple(), binding.get_host_cpu_name()
    features = binding.get_host_cpu_features().flatten()
    parts += [text.encode() for text in (llvmlite.__version__, *processor, features)]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:32]


# -- the file ----------------------------------------------------------------------------------------


def _folders() -> list[Path]:
    """Where the file may be: where Numba is told to keep its own, or beside the sources, or at home."""
    if told := os.environ.get("NUMBA_CACHE_DIR"):
        return [Path(told)]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return [Path(__file__).parent / "__pycache__", home / "featherweight"]


def _read(stem: str) -> bytes | None:
    """The function's symbol and its object file, or ``None`` where there is no whole file."""
    for folder in _folders():
        with suppress(OSError):
            data = (folder / stem).read_bytes()
            if hashlib.sha256(data[_DIGEST:]).digest() == data[:_DIGEST]:
                return data[_DIGEST:]
    return None


def _write(stem: str, coded: bytes) -> None:
    """Write it to the first folder where that is possible; if there is none, the next process compiles."""
    for folder in _folders():
        own = folder / f"{stem}.{os.getpid()}"
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            own.write_bytes(hashlib.sha256(coded).digest() + coded)
            own.replace(folder / stem)
            return


# -- the code ----------------------------------------------------------------------------------------


def _compile(module: str, name: str, arguments: int) -> bytes:
    """Compile a function without what would let Python call it; returns its symbol, a zero and the object."""
    import_numba()
    from llvmlite import binding
    from numba import njit, types

    function = getattr(_import(module), name).py_func
    options: Any = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    dispatcher: Any = njit(**options)(function)
    dispatcher.compile((types.int64,) * arguments)
    result = dispatcher.overloads[(types.int64,) * arguments]
    if result.signature.return_type != types.int64:
        raise TypeError(f"{name} returns {result.signature.return_type}")
    # A name that LLVM cannot find when it loads the object would end the process.
    parts = binding.parse_assembly(result.library.get_llvm_str()).functions
    foreign = [part.name for part in parts if part.is_declaration and not part.name.startswith("llvm.")]
    if foreign:
        raise RuntimeError(f"{name} calls {', '.join(foreign)}")
    symbol: str = result.fndesc.llvm_func_name
    compiled: bytes = result.library._get_compiled_object()
    return symbol.encode() + b"\0" + compiled


def _link(coded: bytes, arguments: int) -> Callable[..., int]:
    """A function of Python's that runs the machine code, with the interpreter's lock released."""
    from ctypes import CFUNCTYPE, byref, c_int32, c_int64, c_void_p

    from llvmlite import binding

    symbol, _, compiled = coded.partition(b"\0")
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_triple(binding.get_process_triple()).create_target_machine()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
    engine.add_object_file(binding.ObjectFileRef.from_data(compiled))
    engine.finalize_object()
    at = engine.get_function_address(symbol.decode())
    if not at:
        raise RuntimeError(f"no {symbol.decode()} in its object")
    _engines.append(engine)
    # Numba's functions return a status and write their result, or an exception, where they are told to.
    run = CFUNCTYPE(c_int32, c_void_p, c_void_p, *[c_int64] * arguments)(at)

    def call(*numbers: int) -> int:
        result, exception = c_int64(), c_void_p()
        status = run(byref(result), byref(exception), *numbers)
        if status:
            raise RuntimeError(f"machine code of {symbol.decode()} ended with status {status}")
        return result.value

    return call
