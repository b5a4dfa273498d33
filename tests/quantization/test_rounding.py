"""Values in 16 and 8 bits, codebooks too, and each channel by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from featherweight.errors import TensorError
from featherweight.quantization import (
    drop_unused,
    quantize_kmeans,
    quantize_per_channel,
    quantize_uniform,
    round_codebook,
    round_to,
)
from featherweight.tensors import QuantizedTensor

FORMATS = ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "fixed_point"]


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_values_are_of_the_format_and_stay_there(fmt, dtype):
    torch.manual_seed(0)
    tensor = torch.randn(500).to(dtype)
    rounded = round_to(tensor, fmt)
    assert rounded.dtype == dtype
    assert torch.equal(round_to(rounded, fmt), rounded)
    if fmt == "fixed_point":
        scale = 2.0 ** (8 - 1 - int(np.floor(np.log2(float(tensor.double().abs().max())))) - 1)
        assert len(rounded.unique()) <= 256
        assert torch.equal(rounded.double() * scale, (rounded.double() * scale).round())
        assert float((rounded.double() - tensor.double()).abs().max()) <= 1 / scale
    else:
        assert torch.equal(rounded.double(), tensor.double().to(getattr(torch, fmt)).to(dtype).double())


def test_what_a_format_cannot_hold_is_refused():
    with pytest.raises(TensorError, match="beyond float16's range of 65504"):
        round_to(torch.tensor([1e5]), "float16")
    with pytest.raises(TensorError, match="beyond float8_e4m3fn's range of 448"):
        round_to(torch.tensor([-449.0]), "float8_e4m3fn")
    with pytest.raises(TensorError, match="not finite"):
        round_to(torch.tensor([float("nan")]), "bfloat16")
    assert round_to(torch.zeros(0), "fixed_point").shape == (0,)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_codebooks_are_rounded_and_equal_values_become_one(dtype):
    weights = np.random.default_rng(0).normal(size=2000).astype(np.float32)
    weights[:100] = 0
    shared = quantize_kmeans(weights, 8, "density")
    narrow = round_codebook(shared, dtype)
    expected = torch.from_numpy(shared.dequantize()).to(getattr(torch, dtype)).float()
    assert torch.equal(torch.from_numpy(narrow.dequantize()), expected)
    assert np.unique(narrow.codebook).size == narrow.codebook.size <= shared.codebook.size
    assert narrow.codebook[0] == 0
    near = QuantizedTensor(np.array([0, 1, 2, 3], np.uint8), np.array([0, 1, 1 + 1e-6, -1e-12], np.float32))
    merged = round_codebook(near, "float16")
    assert merged.codebook.tolist() == [0, 1]
    assert merged.indices.tolist() == [0, 1, 1, 0]
    with pytest.raises(TensorError, match="take bfloat16"):
        round_codebook(QuantizedTensor(np.zeros(1, np.uint8), np.array([1e5])), "float16")


def test_unused_values_are_dropped():
    tensor = QuantizedTensor(np.array([3, 3, 1], np.uint8), np.array([0.0, 5, 6, 7]))
    assert drop_unused(tensor).codebook.tolist() == [0, 5, 7]
    assert drop_unused(tensor).dequantize().tolist() == [7, 7, 5]


@pytest.mark.parametrize("bits", [2, 4])
def test_each_channel_has_levels_of_its_own(bits):
    generator = np.random.default_rng(0)
    weights = (generator.normal(size=(5, 4, 3, 3)) * 10.0 ** np.arange(-2, 3).reshape(5, 1, 1, 1)).astype(
        np.float32
    )
    weights[:, 0] = 0
    shared = quantize_per_channel(weights, lambda row, _: quantize_uniform(row, bits))
    values = shared.dequantize()
    for row, weight in zip(values, weights, strict=True):
        np.testing.assert_array_equal(row, quantize_uniform(weight, bits).dequantize())
    np.testing.assert_array_equal(shared.indices == 0, weights == 0)
    assert shared.codebook.size == 1 + sum(quantize_uniform(w, bits).codebook.size - 1 for w in weights)
    many = generator.normal(size=(300, 300))
    with pytest.raises(TensorError, match="300 channels have 90000 values together"):
        quantize_per_channel(many, lambda row, _: quantize_uniform(row, 16, fix_zeros=False))
