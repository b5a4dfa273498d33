import json

import numpy as np
import pytest
import safetensors.torch
import torch

import featherweight as fw
from featherweight.fileformat import FileReader, write_file
from featherweight.interop.checkpoints import read_checkpoint
from featherweight.interop.safetensors import write_safetensors
from featherweight.tensors import QuantizedTensor


def test_inspect_table(command, small_file):
    code, out, err = command("inspect", small_file)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(f"{small_file}: {small_file.stat().st_size:,} bytes, ")
    assert lines[0].endswith("smaller than dense (2,408 bytes), coder huffman")
    assert any(line.startswith("fc ") for line in lines)
    assert "again.weight is tied to fc.weight" in lines
    assert "source: a test" in lines


def test_inspect_json_is_the_documented_schema(command, small_file):
    code, out, err = command("inspect", small_file, "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert list(data) == ["bytes", "dense_bytes", "ratio", "coder", "tensors"]
    assert data["bytes"] == small_file.stat().st_size
    assert data["dense_bytes"] == 2408
    assert data["coder"] == "huffman"
    weight = next(tensor for tensor in data["tensors"] if tensor["name"] == "fc.weight")
    with FileReader(small_file) as reader:
        tensor = reader.read("fc.weight")
    assert weight["nonzero"] == np.count_nonzero(tensor.dequantize())
    assert (weight["shape"], weight["dtype"], weight["numel"]) == ([20, 30], "float32", 600)
    assert weight["codebook_size"] == 4
    assert weight["bits_per_weight"] == 8 * weight["bytes"] / 600


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}, {"COLUMNS": "40"}, {"COLUMNS": "1"}])
def test_pipes_get_no_escape_codes_and_narrow_output_works(command, small_file, monkeypatch, environment):
    monkeypatch.delenv("COLUMNS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code, out, _ = command("inspect", small_file)
    assert code == 0
    assert "\x1b" not in out


def test_inspect_in_pipes_does_not_fold_names(command, tmp_path, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    name = "a.name." * 10 + "kernel"
    path = tmp_path / "long.fwt"
    write_file(path, {name: QuantizedTensor(np.zeros((2, 2), np.uint8), np.zeros(1, np.float32))})
    assert name in command("inspect", path)[1]


def test_verify(command, small_file):
    size = small_file.stat().st_size
    assert command("verify", small_file) == (0, f"{small_file}: ok, 3 tensors, {size} bytes\n", "")


def test_verify_finds_every_flipped_byte(command, small_file):
    whole = small_file.read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 25)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        small_file.write_bytes(damaged)
        code, out, err = command("verify", small_file)
        assert (code, out) == (1, "")
        assert err.startswith("featherweight: error: ")
        assert str(small_file) in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("verb", ["verify", "inspect"])
def test_missing_file_directory_and_other_format(command, tmp_path, checkpoint, verb):
    for path in (tmp_path / "none.fwt", tmp_path, checkpoint):
        code, out, err = command(verb, path)
        assert (code, out) == (1, "")
        assert err.startswith(f"featherweight: error: {path}: ")
        assert err.count("\n") == 1


def test_compress_by_default_shares_weights_and_leaves_the_rest(command, checkpoint, tmp_path):
    target = tmp_path / "model.fwt"
    code, out, err = command("compress", checkpoint, "-o", target)
    assert (code, err) == (0, "")
    size, before = target.stat().st_size, checkpoint.stat().st_size
    dense = 4 * (108 + 4 + 600) + 8
    headline = (
        f"{target}: {size:,} bytes, {dense / size:.1f}× smaller than dense ({checkpoint}: {before:,} bytes)"
    )
    assert out == headline + "\n"
    state, read = torch.load(checkpoint, weights_only=True), fw.load_file(target)
    assert torch.equal(read["conv.bias"], state["conv.bias"])
    assert read["steps"].item() == 5
    assert read["fc.weight"] is read["again.weight"]
    assert len(read["fc.weight"].unique()) <= 32
    assert len(read["conv.weight"].unique()) <= 256


def test_compress_prunes_and_shares_as_told(command, checkpoint, tmp_path):
    target = tmp_path / "model.fwt"
    arguments = ("--sparsity", "0.75", "--bits", "3", "--coder", "fixed", "--json")
    code, out, err = command("compress", checkpoint, "-o", target, *arguments)
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert data["bytes"] == target.stat().st_size
    assert data["ratio"] == data["dense_bytes"] / data["bytes"]
    for name in ("conv.weight", "fc.weight"):
        tensor = fw.load_file(target)[name]
        assert tensor.count_nonzero() == tensor.numel() // 4
        assert len(tensor.unique()) <= 8
        with fw.open_file(target) as file:
            assert file.info(name).coder == "fixed"


def test_compress_chooses_bits_under_a_target(command, checkpoint, tmp_path):
    sizes = {}
    for bits in ("2", "4"):
        command("compress", checkpoint, "-o", tmp_path / f"{bits}.fwt", "--bits", bits)
        sizes[bits] = (tmp_path / f"{bits}.fwt").stat().st_size
    between = (sizes["2"] + sizes["4"]) // 2
    target = tmp_path / "auto.fwt"
    arguments = ("--bits", "auto", "--target-size", str(between), "--json")
    code, out, err = command("compress", checkpoint, "-o", target, *arguments)
    assert (code, err) == (0, "")
    assert sizes["2"] <= json.loads(out)["bytes"] <= between
    few, many = tmp_path / "few.fwt", tmp_path / "many.fwt"
    for path, mean in ((few, "3"), (many, "6.5")):
        assert command("compress", checkpoint, "-o", path, "--bits", "auto", "--target-bits", mean)[0] == 0
        with fw.open_file(path) as file:
            names = ("conv.weight", "fc.weight")
            infos = [file.info(file.info(name).alias_of or name) for name in names]
        weights = sum(int(np.prod(info.shape)) for info in infos)
        assert 8 * sum(info.bytes for info in infos) / weights <= float(mean)
    assert few.stat().st_size < many.stat().st_size


@pytest.mark.parametrize(
    "target", [("--target-size", "10"), ("--target-bits", "0.01"), ("--target-size", "a lot")]
)
def test_compress_under_a_target_out_of_reach(command, checkpoint, tmp_path, target):
    code, out, err = command("compress", checkpoint, "-o", tmp_path / "m.fwt", "--bits", "auto", *target)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert ("size is a number of bytes" if "a lot" in target else "is out of reach: bits from") in err
    assert not (tmp_path / "m.fwt").exists()


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_compress_with_a_recipe_does_as_the_library(command, checkpoint, tmp_path, scope):
    recipe = fw.Recipe(
        (
            fw.Rule("conv.bias", None, fw.Quantize(bits=1)),
            fw.Rule("*.weight", fw.Prune(sparsity=0.6, scope=scope), fw.Quantize(bits=4), fw.Code("fixed")),
        )
    )
    recipe.save(tmp_path / "recipe.yaml")
    state = torch.load(checkpoint, weights_only=True)
    fw.save_file(fw.compress(state, recipe), tmp_path / "expected.fwt")
    target = tmp_path / "model.fwt"
    assert command("compress", checkpoint, "-o", target, "--recipe", tmp_path / "recipe.yaml")[0] == 0
    assert target.read_bytes() == (tmp_path / "expected.fwt").read_bytes()
    command(
        "compress",
        checkpoint,
        "-o",
        target,
        "--recipe",
        tmp_path / "recipe.yaml",
        "--coder",
        "huffman",
        "--force",
    )
    with fw.open_file(target) as file:
        assert file.info("fc.weight").coder == "huffman"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--recipe", "r.yaml", "--bits", "4"),
        ("--recipe", "r.yaml", "--sparsity", "0"),
        ("--bits", "9"),
        ("--bits", "0"),
        ("--bits", "many"),
        ("--bits", "auto"),
        ("--bits", "auto", "--target-bits", "3", "--target-size", "2KB"),
        ("--bits", "3", "--target-size", "2KB"),
        ("--target-bits", "3"),
        ("--sparsity", "1.5"),
        ("--sparsity", "much"),
        ("--coder", "gzip"),
    ],
)
def test_compress_wrong_usage(command, checkpoint, tmp_path, arguments):
    code, out, err = command("compress", checkpoint, "-o", tmp_path / "model.fwt", *arguments)
    assert (code, out) == (2, "")
    assert "featherweight compress: error: " in err.splitlines()[-1]
    assert not (tmp_path / "model.fwt").exists()


def test_compress_names_the_tensor_that_is_not_finite(command, tmp_path):
    torch.save(
        {"ok.weight": torch.ones(2, 2), "bad.weight": torch.full((2, 2), torch.nan)}, tmp_path / "m.pt"
    )
    code, _, err = command("compress", tmp_path / "m.pt", "-o", tmp_path / "m.fwt")
    assert code == 1
    assert err.startswith("featherweight: error: bad.weight: ")
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


@pytest.mark.parametrize("recipe", ["rules: [{match: nothing}]", "rules: [{matsch: x}]", "["])
def test_compress_with_a_bad_recipe(command, checkpoint, tmp_path, recipe):
    (tmp_path / "r.yaml").write_text(recipe)
    code, _, err = command("compress", checkpoint, "-o", tmp_path / "m.fwt", "--recipe", tmp_path / "r.yaml")
    assert code == 1
    assert err.count("\n") == 1


def test_compress_has_nothing_to_do(command, tmp_path):
    torch.save({"bias": torch.ones(4)}, tmp_path / "m.pt")
    code, _, err = command("compress", tmp_path / "m.pt", "-o", tmp_path / "m.fwt")
    assert code == 1
    assert "m.pt: has no float tensor of two dimensions or more" in err


def test_decompress_gives_back_every_tensor(command, checkpoint, tmp_path):
    packed, target = tmp_path / "model.fwt", tmp_path / "out.safetensors"
    command("compress", checkpoint, "-o", packed)
    code, out, err = command("decompress", packed, "-o", target)
    assert (code, err) == (0, "")
    assert out == f"{target}: {target.stat().st_size:,} bytes, 5 tensors\n"
    expected = fw.load_file(packed)
    read = safetensors.torch.load_file(target)
    assert sorted(read) == sorted(expected)
    assert all(torch.equal(read[name], expected[name]) for name in read)


def test_decompress_writes_nothing_but_safetensors(command, small_file, tmp_path):
    code, _, err = command("decompress", small_file, "-o", tmp_path / "model.pt")
    assert code == 2
    assert "name the output *.safetensors" in err


@pytest.mark.parametrize("verb", ["compress", "decompress"])
def test_an_existing_output_is_refused_without_force(command, checkpoint, small_file, tmp_path, verb):
    source = checkpoint if verb == "compress" else small_file
    target = tmp_path / "out.safetensors"
    target.write_text("mine")
    code, _, err = command(verb, source, "-o", target)
    assert code == 1
    assert "--force" in err
    assert target.read_text() == "mine"
    assert command(verb, source, "-o", target, "--force")[0] == 0
    assert target.read_bytes() != b"mine"


@pytest.mark.parametrize("verb", ["compress", "decompress"])
def test_outputs_that_cannot_be(command, checkpoint, small_file, tmp_path, verb):
    source = checkpoint if verb == "compress" else small_file
    (tmp_path / "dir.safetensors").mkdir()
    for target, told in (
        (tmp_path / "none" / "x.safetensors", "its directory does not exist"),
        (tmp_path / "dir.safetensors", "is a directory"),
    ):
        code, _, err = command(verb, source, "-o", target, "--force")
        assert code == 1
        assert told in err


@pytest.mark.parametrize("verb", ["compress", "decompress"])
def test_full_disk_leaves_nothing_behind(command, checkpoint, small_file, tmp_path, monkeypatch, verb):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    source = checkpoint if verb == "compress" else small_file
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr("os.fsync", full)
    code, out, err = command(verb, source, "-o", tmp_path / "out.safetensors")
    assert (code, out) == (1, "")
    assert "No space left on device" in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def shards(checkpoint, tmp_path):
    """The same checkpoint in two shards and their index, without the tie, which safetensors has not."""
    state = {name: t.clone() for name, t in torch.load(checkpoint).items() if name != "again.weight"}
    folder = tmp_path / "shards"
    folder.mkdir()
    weight_map = {}
    for number, names in enumerate((["conv.weight", "steps"], ["conv.bias", "fc.weight"])):
        file = f"model-{number}.safetensors"
        write_safetensors({name: state[name] for name in names}, folder / file)
        weight_map.update(dict.fromkeys(names, file))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    return index


@pytest.mark.parametrize("as_directory", [False, True])
def test_compress_takes_shards(command, shards, tmp_path, as_directory):
    source = shards.parent if as_directory else shards
    output = tmp_path / "out.fwt"
    code, out, _ = command("compress", source, "-o", output, "--bits", "3", "--sparsity", "0.5", "--json")
    assert code == 0
    assert json.loads(out)["checkpoint_bytes"] == sum(
        p.stat().st_size for p in shards.parent.glob("*.safetensors")
    )
    usual = fw.Quantize("optimal", 3, fix_zeros=None, rounding="outputs")
    rule = fw.Rule("*.weight", fw.Prune(sparsity=0.5), usual)
    fw.save_file(fw.compress(read_checkpoint(shards), fw.Recipe((rule,))), tmp_path / "library.fwt")
    assert output.read_bytes() == (tmp_path / "library.fwt").read_bytes()


@pytest.mark.parametrize("suffix", [".fwt", ".safetensors", ".pt"])
def test_convert_takes_shards(command, shards, tmp_path, suffix):
    target = tmp_path / f"out{suffix}"
    assert command("convert", shards, target)[0] == 0
    read = read_checkpoint(target)
    assert all(torch.equal(read[name], tensor) for name, tensor in read_checkpoint(shards).items())


def test_convert_keeps_ties_where_it_can(command, checkpoint, tmp_path):
    assert command("convert", checkpoint, tmp_path / "out.fwt")[0] == 0
    assert command("convert", tmp_path / "out.fwt", tmp_path / "out.pt")[0] == 0
    state = torch.load(tmp_path / "out.pt")
    assert state["again.weight"].data_ptr() == state["fc.weight"].data_ptr()


@pytest.mark.parametrize("verb", ["compress", "convert"])
def test_a_shard_that_is_missing(command, shards, tmp_path, verb):
    (shards.parent / "model-1.safetensors").unlink()
    output = [tmp_path / "out.fwt"] if verb == "convert" else ["-o", tmp_path / "out.fwt"]
    code, _, err = command(verb, shards, *output)
    assert code == 1
    assert "model-1.safetensors, which is not there; get it as well" in err
    assert err.count("\n") == 1


def test_convert_without_a_source(command, tmp_path):
    code, _, err = command("convert", tmp_path / "none.safetensors", tmp_path / "out.fwt")
    assert code == 1
    assert "there is no such file" in err
