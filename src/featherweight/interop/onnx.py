"""Write a network as an ONNX file, its weights as floats or as indices and a codebook.

https://github.com/onnx/onnx/blob/main/docs/IR.md; PyTorch's exporter does the translation.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from featherweight.errors import ExportError, RecipeError
from featherweight.fileformat.atomic import AtomicFile
from featherweight.interop.extras import require

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import onnx_ir as ir

#: How weights can be written.
WEIGHTS = ("floats", "indices")

#: What the extra ``onnx`` brings.
PACKAGES = ("onnx", "onnxscript", "onnxruntime")

#: Protocol buffers, which ONNX files are, hold no more.
MOST_BYTES = 2**31 - 1

#: What a graph takes beside its weights, at most; and protocol buffers around each of them.
_GRAPH_BYTES = 1 << 20

#: How far the file's outputs may be from PyTorch's, over the largest: rounding differs, weights do not.
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 0.05

#: Sizes of the batches that the file is tried on.
_BATCHES = (2, 3)


@dataclass(frozen=True)
class InputSpec:
    """One input of a network, without its batch axis.

    Attributes:
        shape: such as ``(1, 28, 28)``.
        dtype: PyTorch's name; integers are drawn from 0 and 1.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"

    @classmethod
    def parse(cls, text: str) -> InputSpec:
        """Read ``3,32,32`` or ``16:int64``.

        Raises:
            RecipeError: where it is neither.
        """
        sizes, _, dtype = text.partition(":")
        known = isinstance(getattr(torch, dtype or "float32", None), torch.dtype)
        parts = [part.strip() for part in sizes.split(",")] if sizes.strip() else []
        if not known or not all(part.isdecimal() and int(part) for part in parts):
            raise RecipeError(
                f"an input is SHAPE or SHAPE:DTYPE without the batch, such as 3,32,32 or 16:int64, "
                f"got {text!r}"
            )
        return cls(tuple(map(int, parts)), dtype or "float32")

    def draw(self, batch: int, floats: torch.dtype | None, generator: torch.Generator) -> torch.Tensor:
        """A random batch; ``floats`` stands in for the dtype of an input that is float32."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        if not dtype.is_floating_point:
            return torch.randint(0, 2, (batch, *self.shape), generator=generator).to(dtype)
        chosen = floats if floats is not None and dtype == torch.float32 else dtype
        return torch.randn((batch, *self.shape), generator=generator).to(chosen)


@dataclass(frozen=True)
class Exported:
    """What came of an export.

    Attributes:
        bytes: size of the file.
        difference: between the outputs of ONNX Runtime and of PyTorch, at most, on random inputs.
    """

    bytes: int
    difference: float


def export_onnx(
    network: torch.nn.Module,
    path: str | Path,
    inputs: Sequence[InputSpec],
    *,
    weights: str = "floats",
    batch: int | None = None,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a network as an ONNX file, which appears whole or not at all, and agrees with PyTorch.

    Args:
        network: in the mode for inference that ``eval()`` gives; its own mode is restored.
        path: where to write.
        inputs: of its forward, in order.
        weights: ``floats``; or ``indices``, as small as :mod:`featherweight.interop.onnx_weights` makes them.
        batch: the size of all batches; any unless given.
        metadata: texts to keep in the file.
        overwrite: replace a file that is there.

    Returns:
        The file's size, and how well it agrees with PyTorch.

    Raises:
        MissingPackageError: without the extra ``onnx``.
        ExportError: naming the operation that cannot be expressed; where the network is in bfloat16 or has
            more than 2 GiB; or where the file's outputs are not PyTorch's.
        OutputError: where the path exists and ``overwrite`` is false, or cannot be written.
    """
    require("onnx", PACKAGES, "writing ONNX")
    if weights not in WEIGHTS:
        raise RecipeError(f"weights must be one of {', '.join(WEIGHTS)}, got {weights!r}")
    if _precision(network) == torch.bfloat16:
        raise ExportError(
            f"{type(network).__name__}: is in bfloat16, which ONNX has for few operations; export "
            f"network.float(), which loses nothing"
        )
    training = network.training
    network.eval()
    try:
        with AtomicFile(path, overwrite=overwrite) as file:
            if weights == "floats":
                _check_size(network, dense_bytes(network), weights)
            model = _translate(network, inputs, batch, weights)
            for key, value in sorted((metadata or {}).items()):
                model.metadata_props[key] = value
            data = _serialize(network, model, weights)
            difference = _compare(network, data, inputs, batch)
            file.write(data)
    finally:
        network.train(training)
    return Exported(len(data), difference)


def dense_bytes(network: torch.nn.Module) -> int:
    """Bytes of a network's parameters and buffers, tied ones once."""
    tensors = {t.data_ptr() or id(t): t for t in network.state_dict().values()}
    return sum(t.nbytes for t in tensors.values())


# -- the graph -------------------------------------------------------------------------------------


def _translate(
    network: torch.nn.Module, inputs: Sequence[InputSpec], batch: int | None, weights: str
) -> ir.Model:
    axes = None
    if batch is None:
        free = torch.export.Dim("batch")
        axes = tuple({0: free} for _ in inputs)
    program = _capture(network, inputs, batch, axes)
    # With the parameters' names, and the forward's for inputs where there are several.
    names = ["input"] if len(inputs) == 1 else None
    with _quiet():
        try:
            translated: Any = torch.onnx.export(
                program, dynamo=True, optimize=False, verbose=False, dynamic_shapes=axes, input_names=names
            )
        except Exception as error:
            from featherweight.interop.onnx_failures import explain_translation

            raise explain_translation(network, program, error) from None
        from featherweight.interop.onnx_weights import HeldWeights, tie_initializers

        tie_initializers(translated.model)
        held = HeldWeights(translated.model, compact=weights == "indices")
        translated.optimize()
        held.put_back()
    _tidy(translated.model)
    model: ir.Model = translated.model
    return model


def _capture(
    network: torch.nn.Module, inputs: Sequence[InputSpec], batch: int | None, axes: Any
) -> torch.export.ExportedProgram:
    arguments = _draw(network, inputs, batch or _BATCHES[0])
    try:
        with torch.no_grad():
            network(*arguments)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        shapes = ", ".join(str(tuple(argument.shape)) for argument in arguments)
        reason = " ".join(str(error).split())
        raise ExportError(
            f"{type(network).__name__}: does not take inputs of shape {shapes}: {reason}; check --input"
        ) from None
    with _quiet():
        try:
            return torch.export.export(network, arguments, dynamic_shapes=axes)
        except Exception as error:
            from featherweight.interop.onnx_failures import explain_capture

            raise explain_capture(network, error) from None


def _draw(network: torch.nn.Module, inputs: Sequence[InputSpec], batch: int) -> tuple[torch.Tensor, ...]:
    """Random inputs, the same each time, in the network's own precision."""
    generator = torch.Generator().manual_seed(batch)
    return tuple(spec.draw(batch, _precision(network), generator) for spec in inputs)


def _precision(network: torch.nn.Module) -> torch.dtype | None:
    """The dtype of a network's float parameters; ``None`` where it has none."""
    return next((p.dtype for p in network.parameters() if p.is_floating_point()), None)


def _tidy(model: ir.Model) -> None:
    """Leave out where in this machine's files each node comes from; name the only output."""
    model.producer_name, model.producer_version = "featherweight", None
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for output in node.outputs:
            output.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    if len(model.graph.outputs) == 1 and model.graph.outputs[0].producer() is not None:
        model.graph.outputs[0].name = "output"


def _serialize(network: torch.nn.Module, model: ir.Model, weights: str) -> bytes:
    import onnx
    import onnx_ir as ir

    tensors = [value.const_value for value in model.graph.initializers.values()]
    _check_size(network, sum(tensor.nbytes for tensor in tensors if tensor is not None), weights)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString(deterministic=True))


def _check_size(network: torch.nn.Module, size: int, weights: str) -> None:
    if size + _GRAPH_BYTES > MOST_BYTES:
        remedy = "write them with --weights indices, or export" if weights == "floats" else "export"
        raise ExportError(
            f"{type(network).__name__}: its weights take {size:,} bytes, and an ONNX file holds at most "
            f"{MOST_BYTES:,}; {remedy} a part of the network"
        )


# -- the check -------------------------------------------------------------------------------------


@torch.no_grad()
def _compare(network: torch.nn.Module, data: bytes, inputs: Sequence[InputSpec], batch: int | None) -> float:
    """The largest difference between the file's outputs and PyTorch's; an error where it is large."""
    run = _session(network, data)
    tolerance = _HALF_TOLERANCE if _precision(network) == torch.float16 else _TOLERANCE
    worst = 0.0
    for size in _BATCHES if batch is None else (batch,):
        arguments = _draw(network, inputs, size)
        expected = [t for t in _flat(network(*arguments)) if isinstance(t, torch.Tensor)]
        for ours, theirs in zip(expected, run(arguments), strict=True):
            wide = ours.double()
            difference = float((wide - theirs.double()).abs().max()) if ours.numel() else 0.0
            largest = float(wide.abs().max()) if ours.numel() else 0.0
            if ours.shape != theirs.shape or not difference <= tolerance * max(largest, 1.0):
                raise ExportError(
                    f"{type(network).__name__}: the exported graph differs from PyTorch by {difference:.3g} "
                    f"on a batch of {size}; is its forward random, or does it depend on the batch?"
                )
            worst = max(worst, difference)
    return worst


def _flat(outputs: Any) -> list[Any]:
    leaves: list[Any] = torch.utils._pytree.tree_leaves(outputs)
    return leaves


def _session(network: torch.nn.Module, data: bytes) -> Any:
    """A function from inputs to outputs of ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no base class of their own
        reason = " ".join(str(error).split())
        raise ExportError(f"{type(network).__name__}: ONNX Runtime refuses the graph: {reason}") from None
    names = [value.name for value in session.get_inputs()]

    def run(arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        feed = {}
        for name, argument in zip(names, arguments, strict=True):
            feed[name] = argument.numpy()
        return [torch.from_numpy(array) for array in session.run(None, feed)]

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch's exporter tells its developers; what fails is told in our words."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
