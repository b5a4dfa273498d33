"""``featherweight convert FILE OUT.onnx``."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml

import featherweight as fw
from featherweight.data import Digits
from featherweight.models import LeNet5, LeNet300

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated")


@pytest.fixture
def config(tmp_path):
    """A run file with a network and the digits."""

    def write(model="featherweight.models.LeNet300", **more):
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump({"model": {"class_path": model}, **more}))
        return path

    return write


DIGITS = {"data": {"class_path": "featherweight.data.Digits"}}


def outputs(path, images):
    return onnxruntime.InferenceSession(str(path)).run(None, {"input": images.numpy()})[0]


def test_from_a_compressed_file_with_indices(command, tmp_path, config):
    torch.manual_seed(0)
    network = LeNet300()
    recipe = fw.Recipe((fw.Rule("fc*.weight", fw.Prune(sparsity=0.9), fw.Quantize(bits=4)),))
    fw.save_file(fw.compress(network, recipe), tmp_path / "model.fwt")
    fw.load_model(network, tmp_path / "model.fwt")
    out = tmp_path / "model.onnx"
    code, told, err = command(
        "convert", tmp_path / "model.fwt", out, "--config", config(**DIGITS), "--weights", "indices"
    )
    assert (code, err) == (0, "")
    assert told.startswith(f"{out}: {out.stat().st_size:,} bytes ({tmp_path / 'model.fwt'}: ")
    assert out.stat().st_size < 0.26 * 4 * 266_610
    images, _ = next(iter(Digits().test_batches()))
    assert np.abs(outputs(out, images) - network(images).detach().numpy()).max() <= 1e-5


def test_from_a_network_pruned_by_channel(command, tmp_path, config):
    torch.manual_seed(0)
    network = LeNet5()
    images, _ = next(iter(Digits().test_batches()))
    fw.prune_channels(network, {"conv1": 0.5}, data=[images[:64]])
    fw.save_model(network, tmp_path / "thin.fwt")
    file = config("featherweight.models.LeNet5")
    code, _, err = command(
        "convert", tmp_path / "thin.fwt", tmp_path / "thin.onnx", "-c", file, "--input", "1,28,28"
    )
    assert (code, err) == (0, "")
    shapes = {t.name: list(t.dims) for t in onnx.load(tmp_path / "thin.onnx").graph.initializer}
    assert shapes["conv1.weight"] == [10, 1, 5, 5]
    assert np.abs(outputs(tmp_path / "thin.onnx", images) - network(images).detach().numpy()).max() <= 1e-5


def test_usage(command, tmp_path, config, small_file):
    out = tmp_path / "x.onnx"
    code, _, err = command("convert", small_file, out)
    assert (code, err.count("\n")) == (2, 1)
    assert "name its class with --config" in err
    code, _, err = command("convert", small_file, out, "-c", config(), "--batch", "0")
    assert code == 2
    code, _, err = command("convert", small_file, out, "-c", config(), "--coder", "rans")
    assert code == 2
    code, _, err = command("convert", small_file, tmp_path / "x.safetensors", "--weights", "indices")
    assert code == 2
    assert "--weights goes with an output named *.onnx" in err
    assert not out.exists()


def test_bad_configurations(command, tmp_path, config, small_file):
    out = tmp_path / "x.onnx"
    code, _, err = command("convert", small_file, out, "-c", config())
    assert code == 1
    assert "data is missing" in err
    assert "--input, such as 3,32,32" in err
    code, _, err = command("convert", small_file, out, "-c", config("builtins.dict"), "--input", "3")
    assert code == 1
    assert "makes no torch.nn.Module" in err
    code, _, err = command("convert", small_file, out, "-c", config(**DIGITS))
    assert code == 1
    assert "does not fit LeNet300" in err
    out.write_text("there")
    code, _, err = command("convert", small_file, out, "-c", config(**DIGITS))
    assert code == 1
    assert "give --force" in err
    assert out.read_text() == "there"
