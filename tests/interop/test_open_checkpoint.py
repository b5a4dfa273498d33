"""Checkpoints opened to load one tensor at a time, in one file and in shards."""

import json
import zipfile

import pytest
import torch

import featherweight as fw
from featherweight.interop import checkpoints
from featherweight.interop.checkpoints import checkpoint_bytes, open_checkpoint, read_checkpoint
from featherweight.interop.safetensors import write_safetensors


@pytest.fixture
def state():
    torch.manual_seed(0)
    return {
        "conv.weight": torch.randn(4, 3, 3, 3),
        "fc.weight": torch.randn(6, 5).bfloat16(),
        "steps": torch.tensor(5),
        "empty": torch.empty(0, 2),
    }


def write_shards(folder, shards):
    """Shards by file name, and their index."""
    for file, tensors in shards.items():
        write_safetensors(tensors, folder / file)
    weight_map = {name: file for file, tensors in shards.items() for name in tensors}
    return write_index(folder, weight_map)


def write_index(folder, weight_map):
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return path


def split(state):
    names = list(state)
    return {
        "model-00001-of-00002.safetensors": {name: state[name] for name in names[::2]},
        "model-00002-of-00002.safetensors": {name: state[name] for name in names[1::2]},
    }


WRITERS = {
    "model.safetensors": write_safetensors,
    "model.fwt": fw.save_file,
    "model.pt": torch.save,
    "legacy.pt": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "nested.ckpt": lambda state, path: torch.save({"epoch": 3, "state_dict": state}, path),
}


def assert_same(checkpoint, state):
    assert set(checkpoint) == set(state)
    for name, tensor in state.items():
        assert checkpoint.specs[name].dtype == str(tensor.dtype).removeprefix("torch.")
        assert checkpoint.specs[name].shape == tensor.shape
        assert checkpoint[name].dtype == tensor.dtype
        assert torch.equal(checkpoint[name], tensor)


@pytest.mark.parametrize("reopen_at", [0, 1 << 30])
@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_in_one_file(tmp_path, state, kind, reopen_at, monkeypatch):
    monkeypatch.setattr(checkpoints, "_MAPPED_BYTES", reopen_at)
    WRITERS[kind](state, tmp_path / kind)
    with open_checkpoint(tmp_path / kind) as checkpoint:
        assert_same(checkpoint, state)
        assert list(checkpoint) == list(read_checkpoint(tmp_path / kind))
        with pytest.raises(KeyError):
            checkpoint["none"]


@pytest.mark.parametrize("as_directory", [False, True])
def test_shards(tmp_path, state, as_directory):
    index = write_shards(tmp_path, split(state))
    path = tmp_path if as_directory else index
    with open_checkpoint(path) as checkpoint:
        assert_same(checkpoint, state)
        assert checkpoint.dense_bytes == sum(tensor.nbytes for tensor in state.values())
    read = read_checkpoint(path)
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())
    assert checkpoint_bytes(path) == sum(p.stat().st_size for p in tmp_path.glob("*.safetensors"))


def test_wrappers_come_off_across_shards(tmp_path):
    index = write_shards(
        tmp_path,
        {
            "a.safetensors": {"module._orig_mod.a": torch.ones(2)},
            "b.safetensors": {"module._orig_mod.b": torch.ones(3)},
        },
    )
    with open_checkpoint(index) as checkpoint:
        assert {name: tensor.numel() for name, tensor in checkpoint.items()} == {"a": 2, "b": 3}


def test_tied_tensors_of_torch_are_known(tmp_path):
    weight = torch.randn(3, 3)
    torch.save({"module.a": weight, "module.b": weight, "module.c": weight.clone()}, tmp_path / "model.pt")
    with open_checkpoint(tmp_path / "model.pt") as checkpoint:
        assert checkpoint.owners == {"a": "a", "b": "a", "c": "c"}
        fw.save_file(checkpoint, tmp_path / "model.fwt")
    with fw.open_file(tmp_path / "model.fwt") as file:
        assert file.info("b").alias_of == "a"
    with open_checkpoint(tmp_path / "model.fwt") as checkpoint:
        assert checkpoint.owners == {"a": "a", "b": "a", "c": "c"}


def test_an_archive_that_was_compressed_is_not_mapped(tmp_path, state):
    torch.save(state, tmp_path / "stored.pt")
    with (
        zipfile.ZipFile(tmp_path / "stored.pt") as stored,
        zipfile.ZipFile(tmp_path / "deflated.pt", "w", zipfile.ZIP_DEFLATED) as deflated,
    ):
        for name in stored.namelist():
            deflated.writestr(name, stored.read(name))
    with open_checkpoint(tmp_path / "deflated.pt") as checkpoint:
        assert_same(checkpoint, state)


@pytest.mark.parametrize("open_or_read", [open_checkpoint, read_checkpoint])
def test_a_missing_shard_is_named(tmp_path, state, open_or_read):
    index = write_shards(tmp_path, split(state))
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        fw.CheckpointError, match=r"index\.json: .*model-00002-of-00002\.safetensors, which is not"
    ):
        open_or_read(index)


def test_a_tensor_that_its_shard_lacks_is_named(tmp_path):
    write_safetensors({"a": torch.ones(1)}, tmp_path / "one.safetensors")
    index = write_index(tmp_path, {"a": "one.safetensors", "b": "one.safetensors"})
    with pytest.raises(fw.CheckpointError, match=r"one\.safetensors: has no tensor 'b', which model\.safe"):
        open_checkpoint(index)


@pytest.mark.parametrize("shard", ["../a.safetensors", "/etc/passwd", "", "..", ".", "a/b", "C:\\x", "a\0b"])
def test_an_index_names_no_files_elsewhere(tmp_path, shard):
    folder = tmp_path / "model"
    folder.mkdir()
    write_safetensors({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    index = write_index(folder, {"a": shard})
    with pytest.raises(fw.CheckpointError, match="not a file beside it; refused"):
        open_checkpoint(index)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "no weight_map"),
        (b'{"weight_map": ["a"]}', "no weight_map"),
        (b'{"weight_map": {"a": 3}}', "no weight_map"),
        (b'{"weight_map": {}}', "weight_map is empty"),
    ],
)
def test_what_is_no_index(tmp_path, text, told):
    path = tmp_path / "model.safetensors.index.json"
    path.write_bytes(text)
    with pytest.raises(fw.CheckpointError, match=rf"index\.json: .*{told}"):
        open_checkpoint(path)


def test_a_damaged_shard_is_named(tmp_path, state):
    index = write_shards(tmp_path, split(state))
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"\xff" * 32)
    with pytest.raises(fw.CheckpointError, match=r"00001-of-00002\.safetensors: is not a valid safetensors"):
        open_checkpoint(index)


def test_directories_and_files_that_are_not_there(tmp_path):
    for name in ("none.pt", "none.safetensors.index.json"):
        with pytest.raises(fw.CheckpointError, match=f"{name}: "):
            open_checkpoint(tmp_path / name)
    with pytest.raises(fw.CheckpointError, match="is a directory"):
        open_checkpoint(tmp_path)
    (tmp_path / "a.safetensors.index.json").touch()
    (tmp_path / "b.safetensors.index.json").touch()
    with pytest.raises(fw.CheckpointError, match=r"several checkpoints; name one of a\.safe"):
        open_checkpoint(tmp_path)


def test_no_tensors(tmp_path):
    write_safetensors({}, tmp_path / "none.safetensors")
    with pytest.raises(fw.CheckpointError, match="holds no tensors"):
        open_checkpoint(tmp_path / "none.safetensors")
