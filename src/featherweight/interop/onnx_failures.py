"""Why a network cannot be exported, in one line: which operation, where, and what to do."""

from __future__ import annotations

import linecache
import re
import traceback
from typing import TYPE_CHECKING, Any

from featherweight.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

_OPERATION = re.compile(r"op='([\w.:]+)'")
_PLACE = re.compile(r'File "([^"]+)", line (\d+), in \w+\s+(.+)')
_MOST_WORDS = 40

#: Frames of these packages are PyTorch's own.
_OWN = ("torch", "onnxscript", "onnx_ir", "featherweight")


def explain_capture(network: torch.nn.Module, error: Exception) -> ExportError:
    """What ``torch.export`` could not follow."""
    kind, text = type(network).__name__, _innermost_text(error)
    where = _calling_line(error) or _quoted_line(text)
    if "data-dependent" in text:
        return ExportError(
            f"{kind}: cannot be exported: its forward decides by the values of a tensor{where}, which a "
            f"graph cannot; write it with torch.where or torch.cond"
        )
    if "specialized" in text or type(error).__name__ == "ConstraintViolationError":
        return ExportError(
            f"{kind}: cannot be exported with a free batch axis: its forward fixes how many inputs a batch "
            f"has; take that number from the input's shape, or give it with --batch N"
        )
    return ExportError(
        f"{kind}: cannot be exported: torch.export does not follow its forward{where}: {_first_line(text)}; "
        f"change that line to plain PyTorch"
    )


def explain_translation(
    network: torch.nn.Module, program: torch.export.ExportedProgram, error: Exception
) -> ExportError:
    """Which operation of a captured network has no counterpart in ONNX."""
    kind = type(network).__name__
    for cause in _causes(error):
        found = _OPERATION.search(str(cause))
        if found:
            return ExportError(
                f"{kind}: cannot be exported: ONNX has no operation for {found[1]}"
                f"{_where_used(program, found[1])}; replace it by others in the network's forward"
            )
    return ExportError(
        f"{kind}: cannot be exported: {_first_line(_innermost_text(error))}; replace that operation in the "
        f"network's forward"
    )


def _where_used(program: torch.export.ExportedProgram, operation: str) -> str:
    """The line of the network that calls an operation, if it can be told."""
    leaf = operation.rpartition(".")[2]
    for node in program.graph.nodes:
        if node.op == "call_function" and leaf.lstrip("_") in str(node.target):
            return _quoted_line(node.meta.get("stack_trace") or "")
    return ""


def _calling_line(error: BaseException) -> str:
    """The innermost line of code outside of PyTorch that led to an error."""
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = str(frame.f_globals.get("__name__", ""))
        if name.split(".")[0] not in _OWN or name.startswith("featherweight.models"):
            path = frame.f_code.co_filename
            found = _told(path, line, linecache.getline(path, line))
    return found


def _quoted_line(text: str) -> str:
    """The last line of code that a message quotes."""
    places = _PLACE.findall(text)
    return _told(*places[-1]) if places else ""


def _told(path: str, line: int | str, code: str) -> str:
    return f" ({path}, line {line}: {code.strip()})" if code.strip() else f" ({path}, line {line})"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _innermost_text(error: BaseException) -> str:
    *_, last = _causes(error)
    return str(last) or str(error)


def _first_line(text: Any) -> str:
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    words = lines[0].split() if lines else ["no reason was given"]
    return " ".join(words[:_MOST_WORDS]).rstrip(".;:")
