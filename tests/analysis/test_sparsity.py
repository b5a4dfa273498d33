import numpy as np
import pytest
import torch

from featherweight.analysis.sparsity import ModelSparsity, count_nonzero, measure_sparsity
from featherweight.files import to_stored
from featherweight.tensors import QuantizedTensor, RawTensor


def test_counts_a_state_dict():
    model = torch.nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 1.0, 0.0], [2.0, -0.0, 0.0]]))
        model.bias.fill_(1)
    sparsity = measure_sparsity(model.state_dict())
    assert [(t.name, t.nonzero, t.pruned, t.shape) for t in sparsity.tensors] == [
        ("weight", 2, 4, (2, 3)),
        ("bias", 2, 0, (2,)),
    ]
    assert (sparsity.alive, sparsity.pruned, sparsity.total, sparsity.ratio) == (4, 4, 8, 2.0)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.complex64,
        torch.int64,
        torch.int8,
    ],
)
def test_raw_tensors_of_every_kind_of_dtype(dtype):
    values = torch.tensor([0.0, -0.0, 1.0, -2.0, 0.0]).to(dtype)
    if not dtype.is_floating_point:
        values = torch.tensor([0, 0, 1, -2, 0]).to(dtype)
    data = values.view(torch.uint8).numpy()
    raw = RawTensor(str(dtype).removeprefix("torch."), (5,), data)
    assert count_nonzero(raw) == 2


def test_nan_and_true_are_not_zero():
    assert count_nonzero(np.array([np.nan, 0.0])) == 1
    assert count_nonzero(to_stored("flags", torch.tensor([True, False, True]))) == 2


def test_quantized_tensor_counts_values_not_indices():
    quantized = QuantizedTensor(np.array([0, 1, 2, 2], np.uint8), np.array([0.5, 0.0, -1.0], np.float32))
    assert count_nonzero(quantized) == 3


def test_a_model_without_weights_and_one_without_any_left():
    assert ModelSparsity(()).ratio == 1.0
    assert measure_sparsity({"w": np.zeros(3)}).ratio == float("inf")
