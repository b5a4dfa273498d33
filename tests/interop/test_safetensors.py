import pytest
import safetensors.torch
import torch
from safetensors import safe_open

import featherweight as fw
from featherweight.interop.safetensors import write_safetensors


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
