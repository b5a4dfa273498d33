"""Directories that appear whole or not at all, and uploads."""

from __future__ import annotations

import json
from types import SimpleNamespace

import huggingface_hub
import pytest

from featherweight import hf
from featherweight.cli import main
from featherweight.errors import CheckpointError, OutputError


def compress(*arguments):
    return main(["compress", *map(str, arguments), "--quiet"])


def test_a_directory_that_is_there_stays(originals, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("precious")
    assert compress(originals["bert"], "-o", out, "--force") == 1
    assert "exists already and is not empty" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    (out / "mine.txt").unlink()
    assert compress(originals["bert"], "-o", out) == 0
    assert compress(originals["bert"], "-o", out) == 1
    assert "give --force" in capsys.readouterr().err
    (out / "stale.json").write_text("{}")
    assert compress(originals["gpt2"], "-o", out, "--force") == 0
    assert json.loads((out / "config.json").read_text())["model_type"] == "gpt2"
    assert not (out / "stale.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_nothing(originals, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("rules:\n- match: nothing.weight\n  quantize: {bits: 4}\n")
    assert compress(originals["bert"], "-o", tmp_path / "out", "--recipe", recipe) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_the_source_is_no_target(originals, capsys):
    before = sorted(path.name for path in originals["bert"].iterdir())
    for target in (originals["bert"], originals["bert"] / "small"):
        assert compress(originals["bert"], "-o", target, "--force") == 1
        assert "is the model's own directory" in capsys.readouterr().err
    assert sorted(path.name for path in originals["bert"].iterdir()) == before


def test_a_file_may_be_asked_for_all_the_same(originals, compressed, tmp_path):
    assert compress(originals["bert"], "-o", tmp_path / "bert.fwt") == 0
    assert (tmp_path / "bert.fwt").read_bytes() == (compressed["bert"] / "model.fwt").read_bytes()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, "has a config.json but no weights; expected one of model.safetensors"),
        ("pytorch_model.bin.index.json", "has its weights in several pickles"),
        ("model.fwt", "is compressed already"),
    ],
)
def test_directories_without_weights(tmp_path, name, message, capsys):
    source = tmp_path / "model"
    source.mkdir()
    (source / "config.json").write_text("{}")
    if name:
        (source / name).write_text("{}")
    assert compress(source, "-o", tmp_path / "out") == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_model_at_all(tmp_path):
    with pytest.raises(CheckpointError, match=r"is no model's directory: config\.json is missing"):
        hf.compress_directory(tmp_path, tmp_path / "out")


def test_what_is_left_out_is_told(originals, tmp_path, capsys):
    assert main(["compress", str(originals["bert"]), "-o", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert "left out: extra/weights.safetensors, model.safetensors, training_args.bin" in told.err
    assert told.out.startswith(f"{tmp_path / 'out'}: ")


def test_upload(compressed, originals, monkeypatch):
    calls = []

    class FakeApi:
        def __init__(self, token=None):
            calls.append(("token", token))

        def create_repo(self, **given):
            calls.append(("create", given))
            return SimpleNamespace(repo_id="user/" + given["repo_id"])

        def upload_folder(self, **given):
            calls.append(("upload", given))
            return "https://example.invalid/commit"

    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    url = hf.push_to_hub(compressed["bert"], "small-bert", private=True, token="t", branch="next")  # noqa: S106
    assert url == "https://example.invalid/commit"
    assert [name for name, _ in calls] == ["token", "create", "upload"]
    assert calls[1][1] == {"repo_id": "small-bert", "private": True, "exist_ok": True}
    assert calls[2][1]["repo_id"] == "user/small-bert"
    assert calls[2][1]["folder_path"] == compressed["bert"]
    assert calls[2][1]["revision"] == "next"
    with pytest.raises(CheckpointError, match="holds no compressed model"):
        hf.push_to_hub(originals["bert"], "bert")


def test_a_download_goes_through_the_hub(compressed, monkeypatch):
    asked = []

    def snapshot_download(repo_id, **given):
        asked.append((repo_id, given["revision"]))
        return str(compressed["vit"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert type(hf.from_pretrained("user/vit", revision="v1")).__name__ == "ViTForImageClassification"
    assert asked == [("user/vit", "v1")]


def test_an_unwritable_place(originals, tmp_path):
    with pytest.raises(OutputError, match="its directory does not exist; make it with mkdir -p"):
        hf.compress_directory(originals["bert"], tmp_path / "no" / "out")


def test_links_are_followed_in_the_cache_of_the_hub_alone(originals, tmp_path, capsys):
    snapshot = tmp_path / "models--user--bert" / "snapshots" / "abc"
    blobs = tmp_path / "models--user--bert" / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    for i, name in enumerate(("config.json", "model.safetensors")):
        (blobs / str(i)).write_bytes((originals["bert"] / name).read_bytes())
        (snapshot / name).symlink_to(f"../../blobs/{i}")
    assert compress(snapshot, "-o", tmp_path / "out") == 0
    assert not (tmp_path / "out" / "config.json").is_symlink()
    (tmp_path / "secret").write_text("mine")
    (snapshot / "notes.txt").symlink_to(tmp_path / "secret")
    assert compress(snapshot, "-o", tmp_path / "again") == 1
    assert "notes.txt: is a link to a file elsewhere" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()
