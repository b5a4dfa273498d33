"""The authors' ``.net`` layout, against bytes laid out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from featherweight.errors import CheckpointError, OutputError, TensorError
from featherweight.interop.net_file import LAYERS, NetLayer, in_value_order, read_net, write_net
from featherweight.tensors import QuantizedTensor, RawTensor

LAYER = NetLayer("fc", (2, 20), bits=8)
NARROW = NetLayer("fc", (2, 20), bits=4)


def laid_out(codes, gaps, codebook, bias, bits=8):
    """A file of one layer, byte by byte."""
    nibbles = [*gaps, 0] if len(gaps) % 2 else list(gaps)
    packed = bytes(a | b << 4 for a, b in zip(nibbles[::2], nibbles[1::2], strict=True))
    if bits == 4:
        padded = [*codes, 0] if len(codes) % 2 else list(codes)
        codes = [a | b << 4 for a, b in zip(padded[::2], padded[1::2], strict=True)]
    table = np.zeros(2**bits, "<f4")
    table[: len(codebook)] = codebook
    return (
        np.array([len(gaps)], "<u4").tobytes()
        + table.tobytes()
        + np.array(bias, "<f4").tobytes()
        + bytes(codes)
        + packed
    )


@pytest.mark.parametrize("layer", [LAYER, NARROW], ids=["8 bits", "4 bits"])
def test_reads_positions_fillers_and_an_unsorted_codebook(tmp_path, layer):
    # Weights at 2, 3 and 25; the gap of 21 zeros before the last takes a filler at 19.
    path = tmp_path / "one.net"
    path.write_bytes(laid_out([1, 3, 0, 2], [2, 0, 15, 5], [0, 0.5, -2, 0.25], [1, 2], layer.bits))
    tensors = read_net(path, [layer])
    expected = np.zeros((2, 20), np.float32)
    expected.flat[[2, 3, 25]] = [0.5, 0.25, -2]
    weight, bias = tensors["fc.weight"], tensors["fc.bias"]
    assert isinstance(weight, QuantizedTensor)
    assert isinstance(bias, RawTensor)
    np.testing.assert_array_equal(weight.dequantize(), expected)
    np.testing.assert_array_equal(weight.codebook, np.float32([0, -2, 0.25, 0.5]))
    np.testing.assert_array_equal(bias.data.view("<f4"), np.float32([1, 2]))


@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 1.0])
def test_written_files_are_read_back(tmp_path, density):
    rng = np.random.default_rng(0)
    layers = [NetLayer("conv", (8, 3, 5, 5)), NetLayer("fc", (30, 40), bits=4)]
    tensors = {}
    for layer in layers:
        kept = rng.random(layer.shape) < density
        indices = (rng.integers(1, 2**layer.bits, layer.shape) * kept).astype(np.uint8)
        codebook = np.concatenate(([0], rng.standard_normal(2**layer.bits - 1))).astype(np.float32)
        bias = rng.standard_normal(layer.shape[0]).astype(np.float32)
        tensors[f"{layer.name}.weight"] = QuantizedTensor(indices, codebook)
        tensors[f"{layer.name}.bias"] = RawTensor("float32", bias.shape, bias.view(np.uint8))
    path = tmp_path / "two.net"
    assert write_net(tensors, path, layers) == path.stat().st_size
    for name, tensor in read_net(path, layers).items():
        original = tensors[name]
        if isinstance(tensor, QuantizedTensor):
            assert tensor.dequantize().tobytes() == original.dequantize().tobytes()
        else:
            assert tensor.data.tobytes() == original.data.tobytes()


def test_value_order_drops_unused_values_and_joins_equal_ones():
    indices = np.array([3, 1, 1, 0, 4], np.uint8)
    ordered = in_value_order(QuantizedTensor(indices, np.float32([0, 2, 7, -1, 2])))
    np.testing.assert_array_equal(ordered.codebook, np.float32([0, -1, 2]))
    np.testing.assert_array_equal(ordered.indices, [1, 2, 2, 0, 2])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "stored entries would take 4 bytes, 0 are left"),
        (laid_out([1], [2], [0, 1], [1, 2])[:-1], "relative indices would take 1 bytes, 0 are left"),
        (laid_out([1], [2], [0, 1], [1, 2]) + b"x", "1 bytes are left over"),
        (laid_out([1, 1, 1], [15, 15, 15], [0, 1], [1, 2]), "stands at 47 of 40 weights"),
        (laid_out([1], [2], [5, 1], [1, 2]), "first value is 0"),
        (laid_out([1], [2], [0, np.nan], [1, 2]), "first value is 0"),
    ],
    ids=["empty", "truncated", "trailing", "past the end", "no zero", "NaN"],
)
def test_wrong_layers_and_damage_are_named(tmp_path, data, reason):
    path = tmp_path / "bad.net"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=reason):
        read_net(path, [LAYER])


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_net(tmp_path, [LAYER])


def test_what_does_not_fit_is_refused(tmp_path):
    bias = RawTensor("float32", (2,), np.zeros(8, np.uint8))
    many = QuantizedTensor(np.arange(40, dtype=np.uint8).reshape(2, 20), np.arange(40, dtype=np.float32))
    path = tmp_path / "out.net"
    with pytest.raises(TensorError, match="40 values do not fit 4 bits"):
        write_net({"fc.weight": many, "fc.bias": bias}, path, [NARROW])
    with pytest.raises(TensorError, match=r"fc\.bias: .*2 float32 biases"):
        write_net({"fc.weight": many}, path, [LAYER])
    with pytest.raises(TensorError, match=r"fc\.weight: .*shared weights of shape \(2, 20\)"):
        write_net({"fc.weight": bias, "fc.bias": bias}, path, [LAYER])
    assert not path.exists()
    path.write_bytes(b"kept")
    with pytest.raises(OutputError, match="--force"):
        write_net({"fc.weight": many, "fc.bias": bias}, path, [LAYER])
    assert path.read_bytes() == b"kept"


def test_built_in_layers_are_those_of_the_papers():
    def weights(name):
        return sum(int(np.prod(layer.shape)) for layer in LAYERS[name])

    assert weights("squeezenet") == 1_244_448
    assert weights("alexnet") == 60_954_656
