import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

import featherweight as fw
from featherweight.interop.checkpoints import read_checkpoint
from featherweight.interop.safetensors import write_safetensors


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(3, 2))


def same(read, state):
    return list(read) == list(state) and all(torch.equal(read[name], state[name]) for name in state)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net"])
def test_finds_the_state_dict_beside_other_things(tmp_path, model, key):
    path = tmp_path / "last.ckpt"
    state = model.state_dict()
    extras = {"epoch": 3, "best": torch.tensor(91.7), "optimizer": {"state": {}, "lr": 0.1}}
    torch.save({**extras, key: state}, path)
    assert same(read_checkpoint(path), state)


def test_bare_state_dict_in_both_formats_of_torch(tmp_path, model):
    for legacy in (True, False):
        path = tmp_path / "model.th"
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=not legacy)
        assert same(read_checkpoint(path), model.state_dict())


def test_wrappers_come_off_only_where_all_names_share_them(tmp_path):
    path = tmp_path / "model.pt"
    tensor = torch.ones(2)
    torch.save({"module._orig_mod.a": tensor, "module._orig_mod.b": tensor, "version": 2}, path)
    assert list(read_checkpoint(path)) == ["a", "b"]
    torch.save({"module.a": tensor, "head.b": tensor}, path)
    assert list(read_checkpoint(path)) == ["module.a", "head.b"]


def test_tied_tensors_stay_tied(tmp_path):
    path = tmp_path / "model.pt"
    tensor = torch.randn(3, 3)
    torch.save(OrderedDict(encoder=tensor, decoder=tensor), path)
    read = read_checkpoint(path)
    assert read["encoder"].data_ptr() == read["decoder"].data_ptr()


def test_safetensors_by_name_and_by_content(tmp_path, model):
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    for name in ("model.safetensors", "pytorch_model.bin"):
        write_safetensors(state, tmp_path / name)
        read = read_checkpoint(tmp_path / name)
        assert {n: t.tolist() for n, t in read.items()} == {n: t.tolist() for n, t in state.items()}


def test_reads_our_own_files(tmp_path, model):
    fw.save_file(model.state_dict(), tmp_path / "model.fwt")
    assert torch.equal(read_checkpoint(tmp_path / "model.fwt")["2.weight"], model[2].weight)


def test_refuses_to_run_code_and_says_what_it_met(tmp_path, model):
    path = tmp_path / "whole.pt"
    torch.save(model, path)
    with pytest.raises(fw.CheckpointError, match=r"holds a torch\.nn\.modules\S+ object.*state_dict"):
        read_checkpoint(path)


class _Attack:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_hostile_pickle_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("evil.pt").write_bytes(pickle.dumps({"state_dict": _Attack()}, protocol=2))
    with pytest.raises(fw.CheckpointError):
        read_checkpoint("evil.pt")
    assert not Path("pwned").exists()


@pytest.mark.parametrize("data", [b"", b"hello world", b"PK\x03\x04 cut", b"\x80\x02garbage", bytes(64)])
def test_damaged_files(tmp_path, data):
    path = tmp_path / "bad.pt"
    path.write_bytes(data)
    with pytest.raises(fw.CheckpointError, match=r"bad\.pt: is not a checkpoint"):
        read_checkpoint(path)


def test_damaged_safetensors(tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"\xff" * 32)
    with pytest.raises(fw.CheckpointError, match="not a valid safetensors file"):
        read_checkpoint(path)


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(fw.CheckpointError, match="there is no such file"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(fw.CheckpointError, match="is a directory"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("held", "told"), [({"epoch": 1}, "its keys are epoch"), ([1, 2], "it is a list"), ({}, "it is empty")]
)
def test_no_tensors_inside(tmp_path, held, told):
    path = tmp_path / "none.pt"
    torch.save(held, path)
    with pytest.raises(fw.CheckpointError, match=f"holds no tensors .{told}"):
        read_checkpoint(path)


def test_sparse_tensors_are_refused_by_name(tmp_path):
    path = tmp_path / "sparse.pt"
    torch.save({"w": torch.eye(3).to_sparse()}, path)
    with pytest.raises(fw.CheckpointError, match="w: expected a dense tensor"):
        read_checkpoint(path)


def test_pretrained_resnet20():
    root = os.environ.get("FEATHERWEIGHT_DATA")
    path = Path(root or ".") / "pretrained" / "resnet20-12fca82f.th"
    if root is None or not path.is_file():
        pytest.skip("needs pretrained/resnet20-12fca82f.th under FEATHERWEIGHT_DATA")
    read = read_checkpoint(path)
    assert read["conv1.weight"].shape == (16, 3, 3, 3)
    assert not any(name.startswith("module.") for name in read)
