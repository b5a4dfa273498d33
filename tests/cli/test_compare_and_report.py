from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from safetensors.torch import load_file as load_safetensors
from safetensors.torch import save_file as save_safetensors

import featherweight as fw
from featherweight.models import LeNet300

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """One network three times: as safetensors, quantized in a .fwt file, and rounded in a checkpoint."""
    torch.manual_seed(0)
    shapes = {"conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "fc.weight": (20, 30)}
    state = {name: torch.randn(shape) for name, shape in shapes.items()}
    save_safetensors(state, tmp_path / "dense.safetensors")
    recipe = fw.Recipe(rules=(fw.Rule("*.weight", fw.Prune(sparsity=0.5), fw.Quantize(bits=4)),))
    fw.save_file(fw.compress(state, recipe), tmp_path / "small.fwt")
    torch.save({name: tensor.half() for name, tensor in state.items()}, tmp_path / "half.pt")
    return {name: tmp_path / name for name in ("dense.safetensors", "small.fwt", "half.pt")}


def sqnr(reference: torch.Tensor, other: torch.Tensor) -> float:
    signal, noise = reference.double().square().sum(), (reference - other).double().square().sum()
    return 10 * math.log10(signal / noise)


def test_json_has_sizes_and_errors(command: Any, files: dict[str, Path]) -> None:
    code, out, err = command("compare", *files.values(), "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    dense, small = load_safetensors(files["dense.safetensors"]), fw.load_file(files["small.fwt"])
    assert data["reference"] == str(files["dense.safetensors"])
    assert data["dense_bytes"] == 4 * (108 + 4 + 600)
    assert [file["bytes"] for file in data["files"]] == [path.stat().st_size for path in files.values()]
    assert data["files"][1]["ratio"] == data["dense_bytes"] / files["small.fwt"].stat().st_size
    rows = {row["name"]: row["files"] for row in data["tensors"]}
    assert list(rows) == ["conv.bias", "conv.weight", "fc.weight"]
    with fw.open_file(files["small.fwt"]) as file:
        for name, (first, second, third) in rows.items():
            assert (first["identical"], first["sqnr_db"]) == (True, None)
            assert (first["bytes"], third["bytes"]) == (4 * dense[name].numel(), 2 * dense[name].numel())
            assert second["bytes"] == file.info(name).bytes
            if name == "conv.bias":
                assert second["identical"]
            else:
                assert second["sqnr_db"] == pytest.approx(sqnr(dense[name], small[name]))
            assert third["sqnr_db"] == pytest.approx(sqnr(dense[name], dense[name].half().float()))
    together = [torch.cat([state[name].reshape(-1) for name in rows]) for state in (dense, small)]
    assert data["files"][1]["sqnr_db"] == pytest.approx(sqnr(*together))


def test_the_table_fits_80_columns(
    command: Any, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = command("compare", *files.values(), files["half.pt"], "--quiet")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line[1:2] in ("A", "B", "C", "D")] == ["A", "B", "C", "D"]
    assert any(line.startswith("layer") and "D: bytes" in line for line in lines)
    assert any(line.startswith("1 vector ") and "equal" in line for line in lines)


def test_another_reference(command: Any, files: dict[str, Path]) -> None:
    names = [files["dense.safetensors"], files["half.pt"]]
    data = json.loads(command("compare", *names, "--reference", files["half.pt"], "--json")[1])
    assert [file["file"] for file in data["files"]] == [str(name) for name in reversed(names)]
    data = json.loads(command("compare", names[0], "--reference", files["small.fwt"], "--json")[1])
    assert [file["file"] for file in data["files"]] == [str(files["small.fwt"]), str(names[0])]


def test_names_and_shapes_that_differ_are_told_and_the_rest_compared(
    command: Any, files: dict[str, Path], tmp_path: Path
) -> None:
    state = load_safetensors(files["dense.safetensors"])
    other = {"conv.weight": state["conv.weight"], "fc.weight": torch.ones(30, 20)}
    other["new.weight"] = torch.ones(2, 2)
    save_safetensors(other, tmp_path / "other.safetensors")
    code, out, err = command("compare", files["dense.safetensors"], tmp_path / "other.safetensors")
    assert (code, err) == (0, "")
    assert "B lacks conv.bias" in out
    assert "B has new.weight, which A has not" in out
    assert "B has fc.weight of shape 30×20, A of 20×30" in out
    assert any(
        line.startswith("conv.weight") and line.rstrip().endswith("equal") for line in out.splitlines()
    )
    save_safetensors({"x": torch.ones(2)}, tmp_path / "strange.safetensors")
    out = command("compare", files["dense.safetensors"], tmp_path / "strange.safetensors")[1]
    assert "B has no tensor in common with A: are they of the same network?" in out


def test_accuracy_from_a_run_file(command: Any, tmp_path: Path) -> None:
    config = {
        "model": {"class_path": "featherweight.models.LeNet300"},
        "data": {"class_path": "featherweight.data.Digits"},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    torch.manual_seed(0)
    save_safetensors(LeNet300().state_dict(), tmp_path / "a.safetensors")
    save_safetensors({"x": torch.ones(2)}, tmp_path / "b.safetensors")
    paths = (tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    options = ("--config", tmp_path / "run.yaml")
    data = json.loads(command("compare", *paths, *options, "--json")[1])
    fw.save_file(load_safetensors(paths[0]), tmp_path / "a.fwt")
    tested = json.loads(command("test-file", tmp_path / "a.fwt", *options, "--json")[1])
    assert data["files"][0]["error_percent"] == tested["error_percent"]
    assert data["files"][0]["examples"] == 540
    assert data["files"][1]["error_percent"] is None
    assert "does not fit LeNet300" in data["files"][1]["problem"]
    out = command("compare", *paths, *options)[1]
    assert "error, %" in out
    assert "B was not tested: " in out


def test_bad_input_of_compare(command: Any, files: dict[str, Path], tmp_path: Path) -> None:
    code, out, err = command("compare", files["half.pt"])
    assert (code, out) == (2, "")
    assert "one file has nothing to be compared with; give two or more" in err
    code, out, err = command("compare", files["half.pt"], tmp_path / "absent.pt")
    assert (code, out) == (1, "")
    assert "absent.pt: there is no such file" in err
    assert err.count("\n") == 1


def test_tied_tensors_count_once(command: Any, tmp_path: Path) -> None:
    weight = torch.randn(8, 8)
    torch.save({"a": weight, "b": weight}, tmp_path / "tied.pt")
    data = json.loads(command("compare", tmp_path / "tied.pt", tmp_path / "tied.pt", "--json")[1])
    assert data["dense_bytes"] == 256
    assert [row["files"][0]["bytes"] for row in data["tensors"]] == [256, 0]


# -- report ---------------------------------------------------------------------------------------------


def test_report_of_a_file(command: Any, small_file: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    code, out, err = command("report", small_file, "-o", page)
    assert (code, err) == (0, "")
    assert out == f"{page}: {page.stat().st_size:,} bytes; open it in a browser\n"
    assert page.read_text().startswith("<!doctype html>")
    code, out, err = command("report", small_file, "-o", page)
    assert (code, out) == (1, "")
    assert "exists already; choose another name or give --force" in err
    assert command("report", small_file, "-o", page, "--force")[0] == 0


def test_report_of_what_is_no_run(command: Any, tmp_path: Path) -> None:
    code, out, err = command("report", tmp_path, "-o", tmp_path / "r.html")
    assert (code, out) == (1, "")
    assert err == (
        f"featherweight: error: {tmp_path}: holds no run (run.yaml is missing); "
        "give the directory of a run that featherweight run has made, or a .fwt file\n"
    )
    (tmp_path / "x.fwt").write_bytes(b"\x89FWT" + bytes(40))
    code, out, err = command("report", tmp_path / "x.fwt", "-o", tmp_path / "r.html")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("verb", ["report", "compare"])
def test_help_shows_an_example(command: Any, verb: str) -> None:
    code, out, _ = command(verb, "--help")
    assert code == 0
    assert f"\nexamples:\n  featherweight {verb} " in out
