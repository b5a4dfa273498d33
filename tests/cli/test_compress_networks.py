"""``featherweight compress`` on whole networks: its default rules, and what they do to outputs."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

import featherweight as fw


class Language(nn.Module):
    """A small transformer whose head is its token embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(97, 32)
        self.position = nn.Parameter(torch.randn(1, 12, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 97, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.embedding(tokens) + self.position))


@pytest.fixture
def language():
    torch.manual_seed(0)
    net = Language()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim == 1:  # no two values alike, so that a codebook would show
                parameter += 0.1 * torch.randn_like(parameter)
            elif name.endswith(".weight"):  # rows of different sizes, as trained ones have
                parameter *= torch.rand(len(parameter), 1) + 0.5
    return net.eval()


def decibels(wanted: torch.Tensor, got: torch.Tensor) -> float:
    return float(10 * torch.log10(wanted.square().sum() / (got - wanted).square().sum()))


@pytest.mark.parametrize(("bits", "least"), [(4, 11), (6, 22)])
def test_a_transformer(command, language, tmp_path, bits, least):
    torch.save(language.state_dict(), tmp_path / "net.pt")
    target = tmp_path / "net.fwt"
    code, out, err = command(
        "compress",
        tmp_path / "net.pt",
        "-o",
        target,
        "--bits",
        str(bits),
        "--coder",
        "context",
        "--json",
        "--quiet",
    )
    assert (code, err) == (0, "")
    weights = sum(p.numel() for p in language.parameters() if p.ndim > 1)
    floats = sum(p.numel() for p in language.parameters() if p.ndim == 1) + 12 * 32
    size = json.loads(out)["bytes"]
    assert size == target.stat().st_size
    assert size < weights * bits / 8 + 97 * 32 * max(0, 6 - bits) / 8 + 4 * floats + 4000
    read = fw.load_file(target)
    assert read["head.weight"] is read["embedding.weight"]
    for name, tensor in language.state_dict().items():
        if tensor.ndim == 1 or name == "position":
            assert torch.equal(read[name], tensor), name
        else:
            most = 64 if "embedding" in name or "head" in name else 2**bits
            assert most // 2 < len(read[name].unique()) <= most, name
    small = fw.load_model(Language(), target).eval()
    assert small.head.weight is small.embedding.weight
    tokens = torch.randint(97, (16, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert decibels(language(tokens), small(tokens)) > least


def test_embeddings_norms_and_single_rows(command, tmp_path):
    torch.manual_seed(0)
    state = {
        "wte.weight": torch.randn(50, 16),
        "blocks.0.ln_1.scale": torch.randn(4, 40),
        "score.weight": torch.randn(1, 300),
        "ember.weight": torch.randn(50, 16),
    }
    torch.save(state, tmp_path / "net.pt")
    arguments = ("--bits", "3", "--sparsity", "0.5")
    assert command("compress", tmp_path / "net.pt", "-o", tmp_path / "net.fwt", *arguments)[0] == 0
    read = fw.load_file(tmp_path / "net.fwt")
    assert torch.equal(read["blocks.0.ln_1.scale"], state["blocks.0.ln_1.scale"])
    assert torch.equal(read["score.weight"], state["score.weight"])
    assert read["wte.weight"].count_nonzero() == 800
    assert 32 < len(read["wte.weight"].unique()) <= 64
    assert read["ember.weight"].count_nonzero() == 400
    assert len(read["ember.weight"].unique()) <= 8


def test_zeros_stay_in_a_checkpoint_that_is_pruned(command, tmp_path):
    weight = torch.randn(40, 40, generator=torch.Generator().manual_seed(0))
    pruned = torch.where(weight.abs() > 1, weight, 0)
    torch.save({"a.weight": weight, "b.weight": pruned}, tmp_path / "net.pt")
    command("compress", tmp_path / "net.pt", "-o", tmp_path / "net.fwt", "--bits", "3")
    read = fw.load_file(tmp_path / "net.fwt")
    assert torch.equal(read["b.weight"] == 0, pruned == 0)
    assert len(read["b.weight"].unique()) == 8
    assert len(read["a.weight"].unique()) == 8
    assert not (read["a.weight"] == 0).any()


def test_outputs_behind_relus_change_less_than_by_plain_kmeans(command, tmp_path):
    gained = []
    for seed in range(3):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, 12, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 16, 3), nn.ReLU(), nn.Flatten()
        )
        net.append(nn.Linear(256, 64)).append(nn.ReLU()).append(nn.Linear(64, 10)).eval()
        torch.save(net.state_dict(), tmp_path / "net.pt")
        command("compress", tmp_path / "net.pt", "-o", tmp_path / "net.fwt", "--bits", "4", "--force")
        plain = fw.Recipe((fw.Rule("*.weight", quantize=fw.Quantize("optimal", 4, fix_zeros=False)),))
        fw.save_file(fw.compress(net, plain), tmp_path / "plain.fwt")
        # Smooth images: neighbouring pixels are alike.
        images = nn.functional.avg_pool2d(torch.randn(200, 1, 20, 20), 5, 1) * 3
        with torch.no_grad():
            ours, theirs = (
                decibels(net(images), fw.load_model(copy.deepcopy(net), tmp_path / name)(images))
                for name in ("net.fwt", "plain.fwt")
            )
        gained.append(ours - theirs)
    assert min(gained) > 0
    assert sum(gained) / len(gained) > 1.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_cannot_be_quantized_is_one_line_that_names_it(command, tmp_path, dtype):
    state = {"a.weight": torch.randn(20, 20).to(dtype), "b.weight": torch.randn(20, 20).to(dtype)}
    state["b.weight"][3, 4] = torch.inf
    torch.save(state, tmp_path / "net.pt")
    target = tmp_path / "net.fwt"
    code, _, err = command("compress", tmp_path / "net.pt", "-o", target, "--bits", "4")
    assert code == 1
    assert err.count("\n") == 1
    assert "b.weight: " in err
    assert "not finite" in err
    code, _, err = command("compress", tmp_path / "net.pt", "-o", target, "--bits", "9")
    assert code == 2
    assert "from 1 to 8" in err
    assert not target.exists()
