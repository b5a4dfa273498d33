"""ONNX files: ONNX Runtime must say what PyTorch says, on real images."""

from __future__ import annotations

from importlib import util
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from onnx_networks import Bessel, Branching, Convolutions, FixedBatch, Noisy, Tokens
from torch import nn

import featherweight as fw
from featherweight.data import Digits
from featherweight.errors import ExportError, MissingPackageError, OutputError, RecipeError
from featherweight.interop import onnx as onnx_module
from featherweight.interop.onnx import InputSpec, export_onnx
from featherweight.models import LeNet5, ResNet20

RESULTS = Path(__file__).parents[2] / "results"
IMAGE = [InputSpec((1, 28, 28))]

# The exporter's own registry warns of this once, when it is first imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated")


@pytest.fixture(scope="module")
def digits():
    """The 360 test images, (360, 1, 28, 28)."""
    return torch.cat([images for images, _ in Digits().test_batches()])


@pytest.fixture(scope="module")
def lenet():
    return fw.load_model(LeNet5(), RESULTS / "lenet5-mnist.fwt").eval()


@pytest.fixture(scope="module")
def resnet():
    """ResNet-20 with statistics in its batch norms, its convolutions in 5 bits."""
    torch.manual_seed(0)
    network = ResNet20()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    recipe = fw.Recipe((fw.Rule("type:Conv2d", fw.Prune(sparsity=0.5), fw.Quantize(bits=5)),))
    state = {
        name: torch.from_numpy(t.dequantize()) if isinstance(t, fw.QuantizedTensor) else t
        for name, t in fw.compress(network, recipe).items()
    }
    network.load_state_dict(state)
    return network.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Export a network once for all tests of it: the path."""
    folder, made = tmp_path_factory.mktemp("onnx"), {}

    def export(network, inputs, weights):
        key = id(network), weights
        if key not in made:
            made[key] = folder / f"{len(made)}.onnx"
            export_onnx(network, made[key], inputs, weights=weights)
        return made[key]

    return export


def run(path, *arrays):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, arrays, strict=True)))


def initializers(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("weights", ["floats", "indices"])
def test_lenet_agrees_on_digits(lenet, digits, exported, weights):
    path = exported(lenet, IMAGE, weights)
    with torch.no_grad():
        expected = lenet(digits).numpy()
    assert np.abs(run(path, digits.numpy())[0] - expected).max() <= 1e-5
    assert np.abs(run(path, digits[:1].numpy())[0] - expected[:1]).max() <= 1e-5
    assert (expected.argmax(1) == run(path, digits.numpy())[0].argmax(1)).all()


@pytest.mark.parametrize("weights", ["floats", "indices"])
def test_resnet_agrees_on_digits_in_colour(resnet, digits, exported, weights):
    path = exported(resnet, [InputSpec((3, 32, 32))], weights)
    images = nn.functional.pad(digits[:100], (2, 2, 2, 2)).repeat(1, 3, 1, 1)
    with torch.no_grad():
        expected = resnet(images).numpy()
    assert np.abs(expected).max() > 0.1
    assert np.abs(run(path, images.numpy())[0] - expected).max() <= 1e-5


def test_indices_take_a_quarter(lenet, resnet, exported):
    sizes = {
        (name, weights): exported(network, inputs, weights).stat().st_size
        for name, network, inputs in (("lenet", lenet, IMAGE), ("resnet", resnet, [InputSpec((3, 32, 32))]))
        for weights in ("floats", "indices")
    }
    assert sizes["lenet", "floats"] / sizes["lenet", "indices"] > 3.9
    assert sizes["resnet", "floats"] / sizes["resnet", "indices"] > 3.5


def test_codebooks_give_the_weights_bit_for_bit(lenet, resnet, exported):
    for network, inputs, count in ((lenet, IMAGE, 4), (resnet, [InputSpec((3, 32, 32))], 19)):
        held = initializers(exported(network, inputs, "indices"))
        state = network.state_dict()
        found = [name.removesuffix(".indices") for name in held if name.endswith(".indices")]
        assert len(found) == count
        for name in found:
            indices, codebook = held[f"{name}.indices"], held[f"{name}.codebook"]
            assert indices.dtype == np.uint8
            assert codebook[indices].tobytes() == state[name].numpy().tobytes()
            assert name not in held


def test_the_file_says_nothing_of_this_machine(lenet, exported):
    data = exported(lenet, IMAGE, "indices").read_bytes()
    assert b"site-packages" not in data
    assert str(Path(fw.__file__).parent).encode() not in data


def test_the_batch_axis_is_free_unless_it_is_given(tmp_path, lenet, exported):
    free = onnx.load(exported(lenet, IMAGE, "floats")).graph
    assert [value.name for value in (*free.input, *free.output)] == ["input", "output"]
    assert free.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    export_onnx(FixedBatch(), tmp_path / "fixed.onnx", [InputSpec((3, 3))], batch=4)
    fixed = onnx.load(tmp_path / "fixed.onnx").graph
    assert fixed.input[0].type.tensor_type.shape.dim[0].dim_value == 4


def test_large_codebooks_take_16_bits(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 100, bias=False))
    with torch.no_grad():
        network[0].weight.copy_(torch.randn(1000)[torch.randint(0, 1000, (100, 64))])
    export_onnx(network, tmp_path / "wide.onnx", [InputSpec((64,))], weights="indices")
    held = initializers(tmp_path / "wide.onnx")
    indices, codebook = held["0.weight.indices"], held["0.weight.codebook"]
    assert indices.dtype == np.uint16
    assert codebook.size > 256
    assert codebook[indices].tobytes() == network[0].weight.detach().numpy().tobytes()


@pytest.mark.parametrize("weights", ["floats", "indices"])
def test_tied_weights_are_stored_once(tmp_path, weights):
    torch.manual_seed(0)
    network = Tokens()
    with torch.no_grad():
        network.embed.weight.copy_(torch.tensor([-1.0, 0, 0.5, 2])[torch.randint(0, 4, (50, 64))])
    export_onnx(network, tmp_path / "tied.onnx", [InputSpec((7,), "int64")], weights=weights)
    held = initializers(tmp_path / "tied.onnx")
    assert sum(array.size for array in held.values() if array.size > 4) == 50 * 64
    tokens = torch.randint(0, 50, (3, 7))
    expected = network(tokens).detach().numpy()
    assert np.abs(run(tmp_path / "tied.onnx", tokens.numpy())[0] - expected).max() <= 1e-5


def test_half_precision_stays_half(tmp_path, digits):
    torch.manual_seed(0)
    network = Convolutions().half().eval()
    export_onnx(network, tmp_path / "half.onnx", IMAGE)
    held = initializers(tmp_path / "half.onnx")
    assert held["fc.weight"].dtype == np.float16
    expected = network(digits[:20].half()).detach().float().numpy()
    got = run(tmp_path / "half.onnx", digits[:20].half().numpy())[0]
    assert got.dtype == np.float16
    assert np.abs(got - expected).max() <= 0.01 * np.abs(expected).max()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_floats_of_16_bits_take_16_bits(tmp_path, digits, dtype):
    torch.manual_seed(0)
    network = Convolutions().to(dtype).float().eval()
    size = export_onnx(network, tmp_path / "narrow.onnx", IMAGE, weights="indices").bytes
    model = onnx.load(tmp_path / "narrow.onnx")
    kept = {tensor.name: tensor for tensor in model.graph.initializer}["fc.weight.half"]
    name = {torch.float16: "FLOAT16", torch.bfloat16: "BFLOAT16"}[dtype]
    assert kept.data_type == getattr(onnx.TensorProto, name)
    assert size < 0.7 * onnx_module.dense_bytes(network)
    expected = network(digits).detach().numpy()
    assert np.abs(run(tmp_path / "narrow.onnx", digits.numpy())[0] - expected).max() <= 1e-5


def test_bfloat16_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(ExportError, match=r"in bfloat16.*export network\.float\(\)"):
        export_onnx(Convolutions().bfloat16(), tmp_path / "x.onnx", IMAGE)


def test_an_operation_that_onnx_lacks_is_named_with_its_line(tmp_path):
    with pytest.raises(
        ExportError, match=r"ONNX has no operation for \w+\.\w*bessel_j0 \(.*onnx_networks\.py, line \d+: "
    ):
        export_onnx(Bessel(), tmp_path / "x.onnx", [InputSpec((3, 3))])
    assert list(tmp_path.iterdir()) == []


def test_a_decision_by_values_is_named_with_its_line(tmp_path, capfd):
    with pytest.raises(
        ExportError, match=r"by the values of a tensor \(.*onnx_networks\.py.*if x\.sum\(\) > 0.*torch\.where"
    ):
        export_onnx(Branching(), tmp_path / "x.onnx", [InputSpec((3, 3))])
    assert capfd.readouterr() == ("", "")


def test_a_fixed_batch_needs_batch(tmp_path):
    with pytest.raises(ExportError, match=r"does not take inputs of shape \(2, 3, 3\).*check --input"):
        export_onnx(FixedBatch(), tmp_path / "x.onnx", [InputSpec((3, 3))])
    with pytest.raises(ExportError, match=r"does not take inputs of shape \(2, 5\)"):
        export_onnx(Convolutions(), tmp_path / "x.onnx", [InputSpec((5,))])


def test_a_graph_that_differs_is_not_written(tmp_path):
    with pytest.raises(ExportError, match=r"differs from PyTorch by .* is its forward random"):
        export_onnx(Noisy(), tmp_path / "x.onnx", [InputSpec((3, 3))])
    assert list(tmp_path.iterdir()) == []


def test_more_than_a_file_holds_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_module, "MOST_BYTES", 1_000_000)
    monkeypatch.setattr(onnx_module, "_GRAPH_BYTES", 0)
    monkeypatch.setattr(onnx_module, "_capture", None)
    with pytest.raises(ExportError, match=r"take 1,724,320 bytes.*at most 1,000,000.*--weights indices"):
        export_onnx(LeNet5(), tmp_path / "x.onnx", IMAGE)


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    real = util.find_spec
    monkeypatch.setattr(
        "featherweight.interop.extras.find_spec", lambda name: None if name == "onnxscript" else real(name)
    )
    with pytest.raises(MissingPackageError, match=r"needs onnxscript; run pip install featherweight\[onnx\]"):
        export_onnx(LeNet5(), tmp_path / "x.onnx", IMAGE)


def test_a_file_that_is_there_stays(tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(b"precious")
    network = nn.Linear(3, 2).train()
    with pytest.raises(OutputError, match="exists already"):
        export_onnx(network, path, [InputSpec((3,))])
    assert path.read_bytes() == b"precious"
    assert network.training


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3,32,32", InputSpec((3, 32, 32))), ("16:int64", InputSpec((16,), "int64")), ("", InputSpec(()))],
)
def test_inputs_are_read(text, expected):
    assert InputSpec.parse(text) == expected


@pytest.mark.parametrize("text", ["a,b", "3,0", "3,-1", "3:int63", "3:load", "3,,3"])
def test_inputs_that_are_none(text):
    with pytest.raises(RecipeError, match=r"SHAPE or SHAPE:DTYPE.*got"):
        InputSpec.parse(text)


def test_unknown_weights_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="floats, indices, got 'bits'"):
        export_onnx(LeNet5(), tmp_path / "x.onnx", IMAGE, weights="bits")
