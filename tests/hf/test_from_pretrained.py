"""Compressed directories of BERT, GPT-2 and ViT against transformers' own loading."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers
from hf_models import KINDS, build, inputs_of

import featherweight as fw
from featherweight import hf
from featherweight.errors import CheckpointError, FormatError, MissingPackageError
from featherweight.interop.safetensors import write_safetensors


@pytest.fixture(scope="module")
def theirs(originals, compressed, tmp_path_factory):
    """What transformers loads from the decompressed safetensors, by kind."""
    loaded = {}
    for kind, folder in compressed.items():
        copy = tmp_path_factory.mktemp("dense") / kind
        shutil.copytree(originals[kind], copy)
        write_safetensors(fw.load_file(folder / "model.fwt"), copy / "model.safetensors", overwrite=True)
        cls = type(build(kind))
        loaded[kind] = cls.from_pretrained(copy).eval()
    return loaded


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_weights_are_those_that_transformers_loads(compressed, theirs, kind):
    ours = hf.from_pretrained(compressed[kind])
    assert type(ours) is type(theirs[kind])
    assert not ours.training
    expected = theirs[kind].state_dict()
    assert ours.state_dict().keys() == expected.keys()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
        assert tensor.dtype == expected[name].dtype
    with torch.no_grad():
        assert torch.equal(ours(**inputs_of(kind)).logits, theirs[kind](**inputs_of(kind)).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_quantized_where_it_does_little(compressed, kind):
    original = dict(build(kind).named_parameters())
    ours = dict(hf.from_pretrained(compressed[kind]).named_parameters())
    quantized = 0
    for name, tensor in ours.items():
        distinct = len(tensor.unique())
        if tensor.ndim == 1 or tensor.numel() == 32:  # biases, norms, ViT's class token
            assert torch.equal(tensor, original[name]), name
        else:
            quantized += 1
            most = (
                256 if tensor.ndim == 4 else 64 if "embed" in name or "wte" in name or "wpe" in name else 32
            )
            assert distinct <= most, name
            if tensor.numel() >= 1024:
                assert distinct > most // 2, name
    assert quantized >= 8


def test_a_tied_head_is_the_embedding(compressed):
    with fw.open_file(compressed["gpt2"] / "model.fwt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118
    model = hf.from_pretrained(compressed["gpt2"])
    assert model.lm_head.weight is model.transformer.wte.weight
    assert len(model.lm_head.weight.unique()) <= 64


def test_files_are_kept_and_weights_are_not(compressed, originals, capsys):
    for kind, folder in compressed.items():
        found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        expected = {"config.json", "model.fwt", "tokenizer.json", "vocab.txt", "extra/note.md"}
        assert found == expected | ({"generation_config.json"} if kind == "gpt2" else set())
        for name in found - {"model.fwt"}:
            assert (folder / name).read_bytes() == (originals[kind] / name).read_bytes()


def test_generation_settings_are_those_of_the_directory(compressed, originals, tmp_path):
    folder = shutil.copytree(compressed["gpt2"], tmp_path / "gpt2")
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**settings, "max_new_tokens": 7}))
    model = hf.from_pretrained(folder)
    assert model.generation_config.max_new_tokens == 7
    assert model.name_or_path == str(folder)
    tokens = model.generate(torch.tensor([[5, 6]]), do_sample=False, pad_token_id=0)
    assert tokens.shape[1] <= 9


def test_arguments_go_to_transformers(compressed):
    half = hf.from_pretrained(compressed["bert"], dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    model, info = hf.from_pretrained(compressed["bert"], output_loading_info=True, hidden_dropout_prob=0.25)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.config.hidden_dropout_prob == 0.25
    only = hf.from_pretrained(compressed["bert"], model_class=transformers.BertModel)
    assert type(only) is transformers.BertModel


def test_half_precision_is_kept(tmp_path):
    build("bert").to(torch.float16).save_pretrained(tmp_path / "half")
    hf.compress_directory(tmp_path / "half", tmp_path / "out")
    model = hf.from_pretrained(tmp_path / "out")
    assert {p.dtype for p in model.parameters()} == {torch.float16}


@pytest.mark.parametrize("how", ["shards", "pickle"])
def test_other_checkpoints_give_the_same_weights(originals, compressed, tmp_path, how):
    source = tmp_path / "model"
    model = build("gpt2")
    model.save_pretrained(source, max_shard_size="20KB" if how == "shards" else "5GB")
    if how == "shards":
        assert len(list(source.glob("*.safetensors"))) > 2
    else:
        (source / "model.safetensors").unlink()
        torch.save(model.state_dict(), source / "pytorch_model.bin")
    hf.compress_directory(source, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.safetensors*"))
    assert not list((tmp_path / "out").glob("*.bin"))
    expected = hf.from_pretrained(compressed["gpt2"]).state_dict()
    loaded = hf.from_pretrained(tmp_path / "out")
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert loaded.lm_head.weight is loaded.transformer.wte.weight


def test_a_model_in_memory_keeps_its_shared_weights(tmp_path):
    model = build("bert")
    with torch.no_grad():
        model.bert.pooler.dense.weight.copy_(model.bert.pooler.dense.weight.sign())
    size = hf.save_pretrained(model, tmp_path / "out", fw.Recipe())
    assert size == (tmp_path / "out" / "model.fwt").stat().st_size
    for name, tensor in hf.from_pretrained(tmp_path / "out").state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_one_tensor_is_decoded_at_a_time(compressed, monkeypatch):
    from featherweight.files import OpenFile

    asked = []
    real = OpenFile.get_tensor
    monkeypatch.setattr(OpenFile, "get_tensor", lambda file, name: asked.append(name) or real(file, name))
    monkeypatch.setattr("featherweight.hf.loading.load_file", None)
    hf.from_pretrained(compressed["bert"])
    with fw.open_file(compressed["bert"] / "model.fwt") as file:
        assert sorted(asked) == sorted(file.keys())


def test_code_of_a_model_is_not_run_unless_asked(compressed, tmp_path):
    folder = shutil.copytree(compressed["bert"], tmp_path / "own")
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["OwnModel"], "auto_map": {"AutoModel": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(
        "from pathlib import Path\n"
        f"Path({str(tmp_path / 'ran')!r}).touch()\n"
        "from transformers import BertForSequenceClassification\n\n\n"
        "class OwnModel(BertForSequenceClassification):\n    pass\n"
    )
    with pytest.raises(
        CheckpointError, match=r"OwnModel is a class of the model's own code.*trust_remote_code"
    ):
        hf.from_pretrained(folder)
    assert not (tmp_path / "ran").exists()
    config.pop("auto_map")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match=r"names the class OwnModel, which transformers .* does not have"
    ):
        hf.from_pretrained(folder, trust_remote_code=True)


def test_what_is_no_compressed_model(originals, compressed, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"model\.fwt is missing.*featherweight compress"):
        hf.from_pretrained(originals["bert"])
    with pytest.raises(CheckpointError, match="there is no such directory"):
        hf.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(FormatError, match="over the limit of 1000"):
        hf.from_pretrained(compressed["bert"], max_bytes=1000)
    folder = shutil.copytree(compressed["bert"], tmp_path / "damaged")
    data = bytearray((folder / "model.fwt").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.fwt").write_bytes(data)
    with pytest.raises(FormatError):
        hf.from_pretrained(folder)
    monkeypatch.setattr(
        "featherweight.interop.extras.find_spec", lambda name: None if name == "transformers" else True
    )
    with pytest.raises(MissingPackageError, match=r"needs transformers; run pip install featherweight\[hf\]"):
        hf.from_pretrained(compressed["bert"])
