from __future__ import annotations

import numpy as np
import pytest
import torch

from featherweight.errors import TensorError
from featherweight.tensors import ITEM_SIZES, QuantizedTensor, RawTensor


def test_item_sizes_are_pytorchs():
    assert {name: getattr(torch, name).itemsize for name in ITEM_SIZES} == ITEM_SIZES


def test_a_quantized_tensor():
    indices = np.array([[0, 2, 1], [2, 2, 0]], np.uint8)
    tensor = QuantizedTensor(indices, np.array([0.0, -1.5, 4.0], np.float16))
    assert tensor.dtype == "float16"
    assert tensor.coder is None
    assert tensor.shape == (2, 3)
    assert tensor.numel == 6
    assert tensor.nonzero == 4
    assert tensor.dequantize().dtype == np.float16
    assert tensor.dequantize().tolist() == [[0, 4, -1.5], [4, 4, 0]]


def test_zeros_of_either_sign_and_index_are_not_counted():
    tensor = QuantizedTensor(np.array([0, 1, 2, 3], np.uint16), np.array([5.0, 0.0, -0.0, 1e-45], np.float32))
    assert tensor.nonzero == 2


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
def test_no_dimensions_and_no_elements(shape):
    tensor = QuantizedTensor(np.zeros(shape, np.uint8), np.array([2.0]))
    assert tensor.shape == tensor.dequantize().shape == shape
    assert tensor.numel == tensor.nonzero == (1 if shape == () else 0)


INDICES, CODEBOOK = np.array([0, 1], np.uint8), np.array([0.0, 1.0], np.float32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((INDICES.astype(np.int64), CODEBOOK), "indices must be uint8 or uint16, got int64"),
        ((INDICES, CODEBOOK.reshape(1, 2)), "must be 1-D float16, float32 or float64, got 2-D float32"),
        ((INDICES, CODEBOOK.astype(int)), "got 1-D int64"),
        ((INDICES, np.zeros(65_537)), "at most 65536 values, got 65537"),
        ((INDICES, np.array([0, np.nan])), "finite"),
        ((INDICES, np.array([0, np.inf])), "finite"),
        ((INDICES, CODEBOOK[:1]), "index 1 is outside a codebook of 1 values"),
        ((INDICES, CODEBOOK[:0]), "index 1 is outside a codebook of 0 values"),
        ((INDICES, CODEBOOK, "float64"), "a float32 codebook cannot decode to 'float64'"),
        ((INDICES, CODEBOOK, "int8"), "cannot decode to 'int8'"),
        (
            (INDICES, CODEBOOK.astype(np.float64), "bfloat16"),
            "a float64 codebook cannot decode to 'bfloat16'",
        ),
        ((INDICES, CODEBOOK + np.float32(1e-3), "bfloat16"), "not bfloat16 values"),
    ],
)
def test_quantized_tensors_that_there_cannot_be(arguments, message):
    with pytest.raises(TensorError, match=message):
        QuantizedTensor(*arguments)


def test_bfloat16_values_are_carried_by_float32():
    tensor = QuantizedTensor(INDICES, np.array([0.0, 1.0078125], np.float32), "bfloat16")
    assert torch.from_numpy(tensor.dequantize()).bfloat16().float().tolist() == [0.0, 1.0078125]


def test_a_raw_tensor():
    tensor = RawTensor("int16", (2, 1), np.array([1, 0, 255, 255], np.uint8))
    assert tensor.numel == 2
    assert RawTensor("float64", (0, 5), np.empty(0, np.uint8)).numel == 0
    assert RawTensor("bool", (), np.ones(1, np.uint8)).numel == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("float128", (1,), np.zeros(16, np.uint8)), "dtype 'float128' cannot be stored; known: float64"),
        (("int8", (1,), np.zeros(1, np.int8)), "1-D uint8 array, got 1-D int8"),
        (("int8", (1,), np.zeros((1, 1), np.uint8)), "1-D uint8 array, got 2-D uint8"),
        (
            ("int32", (2,), np.zeros(7, np.uint8)),
            r"7 bytes do not make a int32 tensor of shape \(2,\): expected 8",
        ),
    ],
)
def test_raw_tensors_that_there_cannot_be(arguments, message):
    with pytest.raises(TensorError, match=message):
        RawTensor(*arguments)
