"""Files from and to PyTorch: every bit comes back, ties hold, failures leave models alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import nn

import featherweight as fw
from featherweight.tensors import ITEM_SIZES


def bits(tensor):
    return tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)


def assert_same_bits(actual, expected):
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert torch.equal(bits(actual), bits(expected))


def random_bits(dtype, shape, seed=0):
    """Any bit pattern: NaN payloads, infinities, subnormals, either zero."""
    generator = np.random.default_rng(seed)
    numel = int(np.prod(shape))
    if dtype == torch.bool:
        return torch.from_numpy(generator.random(shape) < 0.5)
    data = generator.integers(0, 256, numel * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(data).view(dtype).reshape(shape)


# -- bit for bit -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", sorted(ITEM_SIZES))
def test_every_dtype_comes_back_bit_for_bit(tmp_path, dtype):
    kind = getattr(torch, dtype)
    few = random_bits(kind, (4,), seed=1)
    tensors = {
        "matrix": random_bits(kind, (37, 41)),
        "image": random_bits(kind, (2, 3, 5, 7)),
        "scalar": random_bits(kind, (1,)).reshape(()),
        "one": random_bits(kind, (1,)),
        "empty": torch.empty(0, dtype=kind),
        "empty matrix": torch.empty((3, 0, 2), dtype=kind),
        "few values": few.view(torch.uint8).reshape(4, -1)[torch.arange(999) % 4].reshape(-1).view(kind),
        "zeros": torch.zeros((30, 30), dtype=kind),
    }
    size = fw.save_file(tensors, tmp_path / "a.fwt")
    assert size == (tmp_path / "a.fwt").stat().st_size
    loaded = fw.load_file(tmp_path / "a.fwt")
    assert sorted(loaded) == sorted(tensors)
    for name, tensor in tensors.items():
        assert_same_bits(loaded[name], tensor)
    with fw.open_file(tmp_path / "a.fwt") as file:
        for name, tensor in tensors.items():
            assert_same_bits(file.get_tensor(name), tensor)
            assert file.info(name).dtype == dtype
            assert file.info(name).shape == tuple(tensor.shape)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_special_values_beside_shared_ones(tmp_path, dtype):
    tiny = torch.finfo(dtype).smallest_normal / 2
    values = torch.tensor([0.0, -0.0, tiny, -tiny, torch.finfo(dtype).max, 1.0], dtype=dtype)
    finite = values[torch.arange(5000) % 6]
    tensors = {
        "finite": finite,
        "with nan": torch.where(torch.arange(5000) == 7, torch.tensor(torch.nan, dtype=dtype), finite),
        "with inf": torch.where(torch.arange(5000) == 7, torch.tensor(-torch.inf, dtype=dtype), finite),
        "zeros of either sign": torch.tensor([0.0, -0.0], dtype=dtype).repeat(900),
    }
    fw.save_file(tensors, tmp_path / "a.fwt")
    loaded = fw.load_file(tmp_path / "a.fwt")
    for name, tensor in tensors.items():
        assert_same_bits(loaded[name], tensor)
    with fw.open_file(tmp_path / "a.fwt") as file:
        assert file.get_quantized("finite").codebook.size == 6


def test_views_are_stored_by_their_values(tmp_path):
    base = torch.randn(6, 8)
    complex_base = torch.randn(5, 4, dtype=torch.complex64)
    tensors = {
        "base": base,
        "transposed": base.t(),
        "every other": base[:, ::2],
        "flipped": base.flip(1),
        "expanded": base[:1].expand(50, 8),
        "scalar expanded": torch.tensor(2.5).expand(3, 4),
        "trained": base.clone().requires_grad_(),
        "part": base[2:4],
        "complex": complex_base,
        "conjugate": complex_base.conj(),
        "imaginary": complex_base.imag,
        "negative": complex_base.conj().imag,
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter": nn.Parameter(torch.randn(3)),
    }
    assert tensors["conjugate"].is_conj()
    assert tensors["negative"].is_neg()
    fw.save_file(tensors, tmp_path / "a.fwt")
    loaded = fw.load_file(tmp_path / "a.fwt")
    for name, tensor in tensors.items():
        assert_same_bits(loaded[name], tensor)
        assert not loaded[name].requires_grad
        assert loaded[name].is_contiguous()


def test_a_mapping_that_makes_its_tensors_when_asked(tmp_path):
    class Lazy(Mapping):
        def __getitem__(self, name):
            return torch.full((1_000_000,), float(name))

        def __iter__(self):
            return iter(["1", "2", "3"])

        def __len__(self):
            return 3

    fw.save_file(Lazy(), tmp_path / "a.fwt")
    loaded = fw.load_file(tmp_path / "a.fwt")
    assert {name: tensor.unique().tolist() for name, tensor in loaded.items()} == {
        "1": [1],
        "2": [2],
        "3": [3],
    }


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("coder", ["fixed", "huffman"])
def test_quantized_tensors(tmp_path, dtype, coder):
    generator = np.random.default_rng(0)
    codebook = np.concatenate([[0], generator.normal(size=300)]).astype(dtype)
    indices = generator.integers(0, 301, (40, 30)).astype(np.uint16)
    indices[generator.random((40, 30)) < 0.6] = 0
    fw.save_file({"w": fw.QuantizedTensor(indices, codebook, coder=coder)}, tmp_path / "a.fwt")
    np.testing.assert_array_equal(fw.load_file(tmp_path / "a.fwt")["w"].numpy(), codebook[indices])
    with fw.open_file(tmp_path / "a.fwt") as file:
        result = file.get_quantized("w")
        np.testing.assert_array_equal(result.indices, indices)
        assert result.codebook.tobytes() == codebook.tobytes()
        assert file.info("w").coder == coder


def test_bfloat16_gets_a_codebook_only_where_it_is_smaller(tmp_path):
    generator = np.random.default_rng(0)
    values = torch.from_numpy(generator.choice(2**14, 900, replace=False).astype(np.int16) + 2**13)
    tensor = values.view(torch.bfloat16)[torch.from_numpy(generator.integers(0, 900, 1100))]
    size = fw.save_file({"w": tensor}, tmp_path / "a.fwt")
    assert_same_bits(fw.load_file(tmp_path / "a.fwt")["w"], tensor)
    assert size < 2 * 1100 + 100


# -- names, ties, order ----------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self, tie=True):
        super().__init__()
        torch.manual_seed(0)
        self.inputs = nn.Embedding(50, 20)
        self.outputs = nn.Linear(20, 50, bias=False)
        if tie:
            self.outputs.weight = self.inputs.weight


def test_tied_weights_are_stored_once_and_tied_again(tmp_path):
    tied, untied = Tied(), Tied(tie=False)
    size = fw.save_model(tied, tmp_path / "tied.fwt")
    twice = fw.save_model(untied, tmp_path / "untied.fwt")
    assert twice - size > 0.7 * 4000
    loaded = fw.load_file(tmp_path / "tied.fwt")
    assert loaded["inputs.weight"].data_ptr() == loaded["outputs.weight"].data_ptr()
    into = fw.load_model(Tied(tie=False), tmp_path / "tied.fwt")
    assert into.inputs.weight is into.outputs.weight
    assert len(list(into.parameters())) == 1
    assert torch.equal(into.outputs.weight, tied.inputs.weight)
    apart = fw.load_model(Tied(tie=False), tmp_path / "untied.fwt")
    assert apart.inputs.weight is not apart.outputs.weight


def test_equal_tensors_that_are_not_tied_stay_apart(tmp_path):
    tensor = torch.randn(40)
    fw.save_file(
        {"a": tensor, "b": tensor.clone(), "c": tensor[:20], "d": tensor.reshape(5, 8)}, tmp_path / "a.fwt"
    )
    loaded = fw.load_file(tmp_path / "a.fwt")
    assert len({t.data_ptr() for t in loaded.values()}) == 4
    assert [tuple(loaded[name].shape) for name in "abcd"] == [(40,), (40,), (20,), (5, 8)]


def test_one_quantized_tensor_under_two_names(tmp_path):
    shared = fw.QuantizedTensor(np.arange(200, dtype=np.uint8), np.linspace(-1, 1, 200))
    once = fw.save_file({"a": shared}, tmp_path / "once.fwt")
    twice = fw.save_file({"a": shared, "b": shared}, tmp_path / "twice.fwt")
    assert twice - once < 40
    with fw.open_file(tmp_path / "twice.fwt") as file:
        assert file.get_quantized("b").codebook.tobytes() == shared.codebook.tobytes()
        np.testing.assert_array_equal(file.get_tensor("b").numpy(), shared.dequantize())
        assert file.info("b").alias_of == "a"


def test_the_order_of_the_mapping_does_not_matter(tmp_path):
    torch.manual_seed(0)
    tied = torch.randn(30)
    tensors = {"b": tied, "a": tied, "d": torch.zeros(4, 4), "c": torch.arange(3), "ü": torch.tensor(1.0)}
    fw.save_file(tensors, tmp_path / "a.fwt", metadata={"x": "1", "y": "2"})
    fw.save_file(dict(reversed(tensors.items())), tmp_path / "b.fwt", metadata={"y": "2", "x": "1"})
    assert (tmp_path / "a.fwt").read_bytes() == (tmp_path / "b.fwt").read_bytes()
    with fw.open_file(tmp_path / "a.fwt") as file:
        assert file.keys() == ["a", "b", "c", "d", "ü"]
        assert file.metadata == {"x": "1", "y": "2"}


def test_no_tensors_at_all(tmp_path):
    fw.save_file({}, tmp_path / "a.fwt")
    assert fw.load_file(tmp_path / "a.fwt") == {}


# -- what cannot be stored -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.empty(3, device="meta"), "fc.weight: a meta tensor has no values"),
        (torch.eye(3).to_sparse(), "fc.weight: expected a dense tensor, got torch.sparse_coo"),
        (
            torch.zeros(2, dtype=torch.float8_e4m3fnuz),
            "fc.weight: dtype float8_e4m3fnuz cannot be stored; known: float64",
        ),
        (np.zeros(3), "fc.weight: expected a torch.Tensor or QuantizedTensor, got ndarray"),
        (None, "fc.weight: expected a torch.Tensor or QuantizedTensor, got NoneType"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(tmp_path, tensor, message):
    with pytest.raises(fw.TensorError, match=message):
        fw.save_file({"a": torch.ones(2), "fc.weight": tensor}, tmp_path / "a.fwt")
    assert list(tmp_path.iterdir()) == []


def test_overwriting(tmp_path):
    fw.save_file({"a": torch.ones(2)}, tmp_path / "a.fwt")
    with pytest.raises(fw.OutputError, match="exists"):
        fw.save_file({"a": torch.zeros(2)}, tmp_path / "a.fwt", overwrite=False)
    assert fw.load_file(tmp_path / "a.fwt")["a"].tolist() == [1, 1]
    fw.save_file({"a": torch.zeros(2)}, tmp_path / "a.fwt")
    assert fw.load_file(tmp_path / "a.fwt")["a"].tolist() == [0, 0]


def test_no_codebook_of_a_raw_tensor(tmp_path):
    fw.save_file({"raw": torch.randn(50)}, tmp_path / "a.fwt")
    with fw.open_file(tmp_path / "a.fwt") as file, pytest.raises(fw.TensorError, match="raw: stored raw"):
        file.get_quantized("raw")


def test_a_limit_on_memory(tmp_path):
    fw.save_file({"a": torch.zeros(1000)}, tmp_path / "a.fwt")
    assert fw.load_file(tmp_path / "a.fwt", max_bytes=4000)["a"].shape == (1000,)
    with pytest.raises(fw.FormatError):
        fw.load_file(tmp_path / "a.fwt", max_bytes=3999)


# -- models ----------------------------------------------------------------------------------------


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(60, 80), nn.BatchNorm1d(80), nn.Linear(80, 10))


def test_a_model_comes_back(tmp_path):
    model = make_model()
    model(torch.randn(9, 60))  # moves the running statistics
    fw.save_model(model, tmp_path / "a.fwt", metadata={"epoch": "3"})
    other = nn.Sequential(nn.Linear(60, 80), nn.BatchNorm1d(80), nn.Linear(80, 10))
    parameters = list(other.parameters())
    assert fw.load_model(other, tmp_path / "a.fwt") is other
    for name, tensor in model.state_dict().items():
        assert_same_bits(other.state_dict()[name], tensor)
    assert all(a is b for a, b in zip(parameters, other.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in other.parameters())


def test_shared_and_pruned_models_make_small_files_by_themselves(tmp_path):
    model = make_model()
    dense = fw.save_model(model, tmp_path / "dense.fwt")
    fw.prune(model, fw.Recipe((fw.Rule("[02].weight", fw.Prune(sparsity=0.8)),)))
    pruned = fw.save_model(model, tmp_path / "pruned.fwt")
    fw.share(model, fw.Recipe((fw.Rule("[02].weight", quantize=fw.Quantize(bits=3)),)))
    shared = fw.save_model(model, tmp_path / "shared.fwt")
    assert pruned < 0.4 * dense
    assert shared < 0.5 * pruned
    for name, tensor in fw.load_file(tmp_path / "shared.fwt").items():
        assert_same_bits(tensor, model.state_dict()[name])
    with fw.open_file(tmp_path / "shared.fwt") as file:
        codebook = file.get_quantized("0.weight").codebook
        assert sorted(codebook.tolist()) == model[0].weight.unique().tolist()
        assert 3 <= codebook.size <= 8


def wrong_states():
    state = make_model().state_dict()
    missing = {name: tensor for name, tensor in state.items() if name not in ("0.bias", "2.weight")}
    return [
        (missing, "does not fit Sequential: without 0.bias, 2.weight"),
        (
            {**state, "3.weight": torch.ones(2)},
            "does not fit Sequential: with 3.weight, which the model does not have",
        ),
        ({**missing, "x": torch.ones(2)}, "without 0.bias, 2.weight and with x, which"),
        (
            {**state, "2.weight": torch.ones(80, 10)},
            r"2.weight: Sequential expects shape \(10, 80\), got \(80, 10\)",
        ),
        ({**state, "1.num_batches_tracked": torch.ones(1)}, r"expects shape \(\), got \(1,\)"),
        ({}, "without 0.weight, 0.bias, 1.weight, 1.bias, 1.running_mean and 4 more"),
    ]


@pytest.mark.parametrize(("state", "message"), wrong_states())
def test_a_file_that_does_not_fit_leaves_the_model_alone(tmp_path, state, message):
    fw.save_file(state, tmp_path / "a.fwt")
    model = nn.Sequential(nn.Linear(60, 80), nn.BatchNorm1d(80), nn.Linear(80, 10))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(fw.CheckpointError, match=message) as caught:
        fw.load_model(model, tmp_path / "a.fwt")
    assert str(caught.value).startswith(str(tmp_path / "a.fwt"))
    for name, tensor in model.state_dict().items():
        assert_same_bits(tensor, before[name])


def test_a_damaged_file_leaves_the_model_alone(tmp_path):
    model = make_model()
    fw.save_model(model, tmp_path / "a.fwt")
    data = bytearray((tmp_path / "a.fwt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.fwt").write_bytes(bytes(data))
    other = nn.Sequential(nn.Linear(60, 80), nn.BatchNorm1d(80), nn.Linear(80, 10))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(fw.FormatError):
        fw.load_model(other, tmp_path / "a.fwt")
    for name, tensor in other.state_dict().items():
        assert_same_bits(tensor, before[name])
