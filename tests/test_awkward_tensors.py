"""Tensors that are not plain dense memory: the bytes of their dense copy, or a refusal that names them."""

import re

import numpy as np
import pytest
import torch

import featherweight as fw


def values():
    generator = torch.Generator().manual_seed(0)
    pruned = torch.randn(24, 40, generator=generator)
    pruned[torch.rand(24, 40, generator=generator) < 0.7] = 0
    return pruned


VIEWS = {
    "transposed": lambda t: t.t(),
    "every other row": lambda t: t[::2],
    "every third column": lambda t: t[:, ::3],
    "part": lambda t: t[3:9, 5:17],
    "flipped": lambda t: t.flip(0),
    "expanded": lambda t: t[:1].expand(50, 40),
    "expanded scalar": lambda t: torch.tensor(2.5).expand(30, 30),
    "requires grad": lambda t: t.clone().requires_grad_(),
    "result of a computation": lambda t: t.clone().requires_grad_() * 2,
    "parameter": lambda t: torch.nn.Parameter(t.clone()),
    "channels last": lambda t: t.reshape(4, 6, 8, 5).to(memory_format=torch.channels_last),
    "conjugate": lambda t: torch.complex(t, t).conj(),
    "imaginary part of a conjugate": lambda t: torch.complex(t, t).conj().imag,
    "diagonal": lambda t: t.diagonal(),
    "unfolded": lambda t: t.reshape(-1).unfold(0, 20, 5),
    "scalar": lambda t: t[0, 0],
    "empty part": lambda t: t[5:5],
}


@pytest.mark.parametrize("name", VIEWS)
def test_the_same_bytes_as_the_dense_copy(tmp_path, name):
    view = VIEWS[name](values())
    dense = view.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
    fw.save_file({"w": view}, tmp_path / "view.fwt")
    fw.save_file({"w": dense}, tmp_path / "dense.fwt")
    assert (tmp_path / "view.fwt").read_bytes() == (tmp_path / "dense.fwt").read_bytes()
    assert torch.equal(fw.load_file(tmp_path / "view.fwt")["w"], dense)


UNSTORABLE = {
    "meta": lambda: torch.empty(3, 3, device="meta"),
    "coo": lambda: values().to_sparse(),
    "quantized": lambda: torch.quantize_per_tensor(values(), 0.1, 0, torch.qint8),
    "array": lambda: np.zeros(3),
    "number": lambda: 1.0,
}


@pytest.mark.parametrize("kind", UNSTORABLE)
@pytest.mark.filterwarnings("ignore")  # PyTorch's own, of what it plans for sparse and quantized tensors
def test_what_cannot_be_stored_is_named_and_leaves_no_file(tmp_path, kind):
    with pytest.raises(fw.TensorError, match=re.escape("block.3/weight")):
        fw.save_file({"a": values(), "block.3/weight": UNSTORABLE[kind]()}, tmp_path / "f.fwt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_lossy_compression_refuses_non_finite_weights_by_name(value):
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    with torch.no_grad():
        model[1].weight[2, 3] = value
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for rule in (
        fw.Rule("*.weight", fw.Prune(sparsity=0.5)),
        fw.Rule("*.weight", quantize=fw.Quantize(bits=2)),
    ):
        with pytest.raises(fw.TensorError, match=r"1\.weight"):
            fw.compress(model, fw.Recipe((rule,)))
        assert all(torch.equal(t, before[n]) or n == "1.weight" for n, t in model.state_dict().items())
