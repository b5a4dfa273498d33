"""Small mappings that hold one of everything."""

import numpy as np

from featherweight.tensors import Alias, QuantizedTensor, RawTensor


def small_tensors(**changes):
    """A few hundred bytes: all coders, all raw coders, an alias, an empty tensor, a scalar."""
    generator = np.random.default_rng(0)
    sparse = np.where(generator.random((6, 20)) < 0.2, generator.integers(1, 5, (6, 20)), 0).astype(np.uint8)
    dense = generator.integers(0, 3, (40,)).astype(np.uint8)
    codebook = np.array([0, -0.5, 0.25, 1.5, 3.1415927], np.float32)
    pruned = np.where(sparse > 0, np.float32(0.1), np.float32(0))
    return {
        "fc1.weight": QuantizedTensor(sparse, codebook, coder="huffman"),
        "fc2.weight": QuantizedTensor(sparse, codebook[:5] * 2, coder="fixed"),
        "fc3.weight": QuantizedTensor(dense, codebook[:3], "bfloat16"),
        "fc4.weight": QuantizedTensor(dense, codebook[:3], coder="rans"),
        "fc1.bias": raw(np.array([1.5, -0.0, np.nan], np.float32)),
        "pruned": raw(pruned),
        "norm.bias": raw(generator.normal(size=64).astype(np.float32)),
        "tied": Alias("fc1.weight"),
        "empty": raw(np.zeros((0, 3), np.int64)),
        "step": raw(np.array(7, np.int64)),
    } | changes


def raw(array):
    """The array's bytes as they are."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return RawTensor(array.dtype.name, array.shape, data)


def as_bytes(tensor):
    """dtype, shape and little-endian element bytes of a stored tensor."""
    if isinstance(tensor, RawTensor):
        return tensor.dtype, tensor.shape, tensor.data.tobytes()
    values = tensor.dequantize()
    if tensor.dtype == "bfloat16":
        values = (values.view(np.uint32) >> 16).astype(np.uint16)
    return tensor.dtype, tensor.shape, values.tobytes()
