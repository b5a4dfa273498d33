"""Weights of an ONNX graph in few bytes: indices and a codebook, put together by the graph itself.

In place of a weight stands ``Gather(codebook, Cast(indices))``: 8-bit indices (16-bit ones, where the
codebook has more than 256 values) and its values once. A weight without a codebook whose values float16 or
bfloat16 holds exactly is kept so, behind a ``Cast``. A runtime folds both into the dense weight when it loads
the file, so that the network is as fast as with floats.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from onnx_ir.convenience import replace_all_uses_with

from featherweight.fileformat import find_codebook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from featherweight.tensors import QuantizedTensor

#: Of the bits of a float32, those that bfloat16 lacks.
_BEYOND_BFLOAT16 = 0xFFFF

#: Below so many bytes saved, a weight stays as it is: nodes and names take bytes, too.
_WORTH_BYTES = 512

_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def tie_initializers(model: ir.Model) -> None:
    """Keep tensors of the same dtype, shape and bytes once, such as tied weights."""
    first: dict[tuple[Any, ...], ir.Value] = {}
    initializers = model.graph.initializers
    for name, value in list(initializers.items()):
        tensor = value.const_value
        if tensor is None:
            continue
        digest = hashlib.sha256(tensor.tobytes()).digest()
        key = (tensor.dtype, tuple(tensor.shape.numpy()), digest)
        owner = first.setdefault(key, value)
        if owner is not value and not value.is_graph_output():
            replace_all_uses_with(value, owner)
            del initializers[name]


class HeldWeights:
    """Weights taken out of a graph while it is optimized, to be put back as they were, or in few bytes.

    Optimizing multiplies weights with each other (batch norms into convolutions), after which no codebook is
    left, and transposes copies of them. What is held is an input of the graph meanwhile, whose values nobody
    knows.

    Args:
        model: its weights are taken out at once: tied ones, and with ``compact`` those that can be smaller.
        compact: put them back in few bytes.
    """

    def __init__(self, model: ir.Model, *, compact: bool) -> None:
        self._graph = model.graph
        self._held: dict[str, tuple[Any, QuantizedTensor | NDArray[Any] | None]] = {}
        for name, value in list(model.graph.initializers.items()):
            small = _compact(value.const_value) if compact else None
            if value.is_graph_output() or (small is None and len(value.uses()) < 2):
                continue
            self._held[name] = value.const_value, small
            del model.graph.initializers[name]
            value.const_value = None
            model.graph.inputs.append(value)

    def put_back(self) -> None:
        """Set the weights, or the nodes that make them, in the place of the inputs."""
        nodes = []
        for value in [value for value in self._graph.inputs if value.name in self._held]:
            self._graph.inputs.remove(value)
            name = str(value.name)
            tensor, small = self._held[name]
            if not value.uses():
                continue
            if small is None:
                value.const_value = tensor
                self._graph.register_initializer(value)
            else:
                nodes += list(self._nodes_for(value, name, tensor.dtype, small))
        if nodes:
            self._graph.insert_before(self._graph[0], nodes)

    def _nodes_for(
        self, value: ir.Value, name: str, dtype: ir.DataType, held: QuantizedTensor | NDArray[Any]
    ) -> Iterator[ir.Node]:
        if isinstance(held, np.ndarray):
            yield _cast(self._initializer(f"{name}.half", held), dtype, value, name)
            return
        indices = self._initializer(f"{name}.indices", held.indices)
        codebook = self._initializer(f"{name}.codebook", held.codebook.astype(dtype.numpy()))
        wide = _cast(indices, ir.DataType.INT32, None, f"{name}.wide")  # Gather takes 32 or 64 bits
        yield wide
        yield _take_place(ir.node("Gather", [codebook, wide.outputs[0]], name=f"{name}.gather"), value, name)

    def _initializer(self, name: str, array: NDArray[Any]) -> ir.Value:
        tensor = ir.tensor(np.ascontiguousarray(array), name=name)
        shape = ir.Shape(array.shape)
        value = ir.Value(name=name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._graph.register_initializer(value)
        return value


def _cast(source: ir.Value, to: ir.DataType, value: ir.Value | None, name: str) -> ir.Node:
    node = ir.node("Cast", [source], attributes={"to": to}, name=f"{name}.cast")
    if value is not None:
        return _take_place(node, value, name)
    node.outputs[0].name = name
    return node


def _take_place(node: ir.Node, value: ir.Value, name: str) -> ir.Node:
    """Let a node's output stand wherever ``value`` stood, under its name."""
    output = node.outputs[0]
    output.shape, output.type = value.shape, value.type
    replace_all_uses_with(value, output)
    value.name, output.name = None, name
    return node


def _compact(tensor: Any) -> QuantizedTensor | NDArray[Any] | None:
    """A tensor with its codebook, or in 16 bits, if that is exact and takes fewer bytes."""
    if tensor is None or tensor.dtype not in _FLOATS or tensor.nbytes < _WORTH_BYTES:
        return None
    narrow = tensor.dtype == ir.DataType.BFLOAT16
    array = tensor.numpy().astype(np.float32) if narrow else tensor.numpy()
    found = find_codebook(array, dtype="bfloat16" if narrow else "")
    halved = _halved(array) if tensor.dtype == ir.DataType.FLOAT else None
    if found is not None:
        size = found.indices.nbytes + found.codebook.size * tensor.dtype.itemsize
        if size + _WORTH_BYTES <= (tensor.nbytes if halved is None else halved.nbytes):
            return found
    return halved


def _halved(array: NDArray[Any]) -> NDArray[Any] | None:
    """A float32 array in 16 bits, if nothing is lost, the signs of zeros included."""
    if array.nbytes < 2 * _WORTH_BYTES:
        return None
    bits = array.view(np.uint32)
    if not (bits & _BEYOND_BFLOAT16).any():
        return (bits >> 16).astype(np.uint16).view(ir.DataType.BFLOAT16.numpy())
    with np.errstate(over="ignore", invalid="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32).view(np.uint32), bits) else None
