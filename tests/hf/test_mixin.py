"""Modules of one's own with huggingface_hub's mixin, offline."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import hub_mixin
from torch import nn

import featherweight as fw
from featherweight.errors import CheckpointError
from featherweight.hf import CompressedModelHubMixin


class Net(nn.Module, CompressedModelHubMixin):
    """An embedding and a head tied to it."""

    def __init__(self, width: int = 16, words: int = 50) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.body = nn.Linear(width, width)
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.embed(tokens)).relu())


class SmallNet(Net):
    """The same, compressed when it is saved."""

    compression = fw.Recipe((fw.Rule("*.weight", None, fw.Quantize(bits=2)),))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net(width=24)


def test_saved_and_loaded_bit_for_bit(net, tmp_path):
    net.save_pretrained(tmp_path / "net")
    names = {path.name for path in (tmp_path / "net").iterdir()}
    assert names == {"README.md", "config.json", "model.fwt"}
    assert json.loads((tmp_path / "net" / "config.json").read_text()) == {"width": 24, "words": 50}
    assert "featherweight" in (tmp_path / "net" / "README.md").read_text()
    loaded = Net.from_pretrained(tmp_path / "net")
    assert not loaded.training
    assert loaded.head.weight is loaded.embed.weight
    for name, tensor in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_shared_weights_make_it_small(net, tmp_path):
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.sign())
    net.save_pretrained(tmp_path / "net")
    assert (tmp_path / "net" / "model.fwt").stat().st_size < 700  # 1,800 signs
    assert torch.equal(Net.from_pretrained(tmp_path / "net").body.weight, net.body.weight)


def test_a_recipe_of_the_class_is_applied(tmp_path):
    torch.manual_seed(0)
    SmallNet().save_pretrained(tmp_path / "net")
    loaded = SmallNet.from_pretrained(tmp_path / "net")
    assert len(loaded.body.weight.unique()) <= 4


def test_pushed_and_fetched(net, tmp_path, monkeypatch):
    hub = {}

    class FakeApi:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, private, exist_ok):
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, repo_id, folder_path, **_):
            hub[repo_id] = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
            return "https://example.invalid/commit"

    def fetch(repo_id, filename, **_):
        path = tmp_path / filename
        path.write_bytes(hub[repo_id][filename])
        return str(path)

    monkeypatch.setattr(hub_mixin, "HfApi", FakeApi)
    monkeypatch.setattr(hub_mixin, "hf_hub_download", fetch)
    monkeypatch.setattr("featherweight.hf.mixin.hf_hub_download", fetch)
    assert net.push_to_hub("user/net") == "https://example.invalid/commit"
    assert set(hub["user/net"]) == {"README.md", "config.json", "model.fwt"}
    loaded = Net.from_pretrained("user/net")
    assert loaded.body.weight.shape == (24, 24)
    assert torch.equal(loaded.embed.weight, net.embed.weight)


def test_a_directory_without_weights(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"holds no model\.fwt"):
        Net.from_pretrained(tmp_path)
