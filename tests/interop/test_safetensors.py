import pytest
import safetensors.torch
import torch
from safetensors import safe_open

import featherweight as fw
from featherweight.interop.safetensors import DTYPES, write_safetensors
from featherweight.lazy import LazyTensors, TensorSpec


def test_shared_and_strided_tensors(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"a": base, "tied": base, "part": base[1:], "turned": base.T, "scalar": torch.tensor(3)}
    path = tmp_path / "out.safetensors"
    size = write_safetensors(tensors, path, metadata={"note": "x"})
    assert size == path.stat().st_size
    read = safetensors.torch.load_file(path)
    assert {name: t.tolist() for name, t in read.items()} == {n: t.tolist() for n, t in tensors.items()}
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "note": "x"}


def test_existing_file_stays_unless_overwritten(tmp_path):
    path = tmp_path / "out.safetensors"
    path.write_text("mine")
    with pytest.raises(fw.OutputError, match="exists already"):
        write_safetensors({"a": torch.ones(1)}, path)
    assert path.read_text() == "mine"
    write_safetensors({"a": torch.ones(1)}, path, overwrite=True)
    assert safetensors.torch.load_file(path)["a"].item() == 1


def test_nothing_is_left_of_what_cannot_be_written(tmp_path):
    path = tmp_path / "out.safetensors"
    with pytest.raises(fw.TensorError, match="safetensors cannot hold"):
        write_safetensors({"a": torch.ones(1, dtype=torch.complex128)}, path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("metadata", [None, {"format": "np"}])
def test_the_same_bytes_as_safetensors_own(tmp_path, metadata):
    tensors = {'é\n\t\x01\x7f"\\/\u2028😀': torch.ones(()), "empty": torch.empty(0, 3)}
    for dtype in DTYPES:
        kind = getattr(torch, dtype)
        for prefix in "zaM":
            tensors[f"{prefix}.{dtype}"] = torch.ones(3 * kind.itemsize, dtype=torch.uint8).view(kind)
    path = tmp_path / "out.safetensors"
    write_safetensors(tensors, path, metadata=metadata)
    assert path.read_bytes() == safetensors.torch.save(tensors, {"format": "pt"})


def test_lazy_views_are_written_by_their_values(tmp_path):
    base = torch.randn(4, dtype=torch.complex64)
    tensors = {
        "conjugate": base.conj(),
        "negative": base.conj().imag,
        "trained": torch.ones(2).requires_grad_(),
    }
    write_safetensors(tensors, tmp_path / "out.safetensors")
    read = safetensors.torch.load_file(tmp_path / "out.safetensors")
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("name", "tensor"),
    [("w", torch.eye(3).to_sparse()), ("w", torch.empty(3, device="meta")), ("__metadata__", torch.ones(1))],
)
def test_what_the_format_cannot_hold(tmp_path, name, tensor):
    with pytest.raises(fw.TensorError, match=f"safetensors cannot hold .*{name}"):
        write_safetensors({name: tensor}, tmp_path / "out.safetensors")
    assert list(tmp_path.iterdir()) == []


class Liar(LazyTensors):
    """Announces another shape than it has."""

    def __init__(self):
        super().__init__({"w": TensorSpec("float32", (3,))})

    def __getitem__(self, name):
        return torch.ones(4)


def test_nothing_is_left_of_a_tensor_that_is_not_what_was_announced(tmp_path):
    with pytest.raises(fw.TensorError, match="w: has 16 bytes, 12 were announced"):
        write_safetensors(Liar(), tmp_path / "out.safetensors")
    assert list(tmp_path.iterdir()) == []
