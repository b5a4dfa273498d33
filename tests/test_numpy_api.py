"""featherweight.numpy: arrays to files and back without torch."""

import subprocess
import sys

import numpy as np
import pytest

import featherweight.numpy as fwn
from featherweight.coding import CODERS
from featherweight.errors import FormatError, OutputError, TensorError
from featherweight.fileformat import write_file
from featherweight.tensors import Alias, QuantizedTensor, RawTensor

DTYPES = ["float64", "float32", "float16", "complex64", "complex128", "bool"]
DTYPES += [sign + str(bits) for sign in ("int", "uint") for bits in (8, 16, 32, 64)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "f.fwt"


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (7, 5)])
def test_dtypes_and_shapes(path, dtype, shape):
    generator = np.random.default_rng(0)
    arrays = {
        "random": generator.integers(0, 100, shape).astype(dtype),
        "zero": np.zeros(shape, dtype),
        "one": np.ones(shape, dtype),
    }
    fwn.save_file(arrays, path)
    loaded = fwn.load_file(path)
    assert all(same_bits(loaded[name], array) for name, array in arrays.items())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_kind_of_float_is_exact(path, dtype):
    info = np.finfo(dtype)
    values = np.array(
        [0.0, -0.0, np.inf, -np.inf, np.nan, info.max, info.tiny, info.smallest_subnormal], dtype
    )
    unsigned = f"u{values.itemsize}"
    payload_nan = (values[4:5].view(unsigned) | np.array([5], unsigned)).view(dtype)
    array = np.concatenate([values, -values, payload_nan])
    many = np.tile(array, 100)
    finite = np.tile(np.concatenate([values[:2], values[5:]]), 100)
    arrays = {"few": array, "many": many, "finite": finite}
    fwn.save_file(arrays, path)
    loaded = fwn.load_file(path)
    assert all(same_bits(loaded[name], array) for name, array in arrays.items())
    with fwn.open_file(path) as file:
        assert file.info("finite").quantized
        assert not file.info("many").quantized


def test_strides_byte_order_and_read_only_give_the_same_bytes(tmp_path):
    dense = np.arange(600, dtype=np.float32).reshape(20, 30)
    wide = np.zeros((20, 60), np.float32)
    wide[:, ::2] = dense
    read_only = dense.copy()
    read_only.flags.writeable = False
    variants = [
        dense,
        np.asfortranarray(dense),
        wide[:, ::2],
        dense.astype(">f4"),
        read_only,
        dense[::-1][::-1],
    ]
    files = set()
    for array in variants:
        order = array.dtype.byteorder
        fwn.save_file({"w": array, "i": (array > 3).astype(order + "i4")}, tmp_path / "f.fwt")
        files.add((tmp_path / "f.fwt").read_bytes())
    assert len(files) == 1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.array([object()]), "tensor 'w': dtype object"),
        (np.array(["text"]), "tensor 'w': dtype <U4"),
        (np.array(["2020-01-01"], "datetime64[D]"), "tensor 'w': dtype datetime64"),
        (np.zeros(2, [("x", "f4")]), "tensor 'w': dtype"),
        (np.zeros(2, np.longdouble), "tensor 'w': dtype"),
        ([1.0, 2.0], "tensor 'w': expected a NumPy array or a QuantizedTensor, got list"),
    ],
)
def test_what_cannot_be_stored_is_named(path, value, reason):
    with pytest.raises(TensorError, match=reason):
        fwn.save_file({"w": value}, path)
    assert not path.exists()


def test_pruned_and_shared_floats_make_small_files(path):
    generator = np.random.default_rng(0)
    mask = generator.random((300, 784)) < 0.08
    pruned = np.where(mask, generator.normal(size=mask.shape), 0).astype(np.float32)
    fwn.save_file({"w": pruned}, path)
    assert path.stat().st_size < pruned.nbytes * 0.10
    assert same_bits(fwn.load_file(path)["w"], pruned)
    shared = np.where(mask, np.round(pruned * 4) / 4, 0).astype(np.float32)
    fwn.save_file({"w": shared}, path)
    assert path.stat().st_size < pruned.nbytes * 0.03
    assert same_bits(fwn.load_file(path)["w"], shared)


def test_open_file(path):
    quantized = QuantizedTensor(
        np.array([[0, 1, 2]], np.uint8), np.array([0, 0.5, 2], np.float16), coder="fixed"
    )
    fwn.save_file({"q": quantized, "r": np.arange(1, 4, dtype=np.int8)}, path, metadata={"epoch": "3"})
    with fwn.open_file(path) as file:
        assert file.keys() == ["q", "r"]
        assert file.metadata == {"epoch": "3"}
        assert file.get_tensor("q").tolist() == [[0, 0.5, 2]]
        assert file.get_quantized("q").indices.tolist() == [[0, 1, 2]]
        assert file.get_quantized("q").codebook.dtype == np.float16
        assert (file.info("q").coder, file.info("r").coder) == ("fixed", "plain")
        with pytest.raises(TensorError, match="'r' is stored raw"):
            file.get_quantized("r")
        with pytest.raises(KeyError):
            file.get_tensor("x")


@pytest.mark.parametrize("coder", CODERS)
def test_quantized_scalars_are_arrays(path, coder):
    fwn.save_file(
        {"w": QuantizedTensor(np.array(1, np.uint8), np.array([0, 1.5], np.float32))}, path, coder=coder
    )
    loaded = fwn.load_file(path)["w"]
    assert isinstance(loaded, np.ndarray)
    assert same_bits(loaded, np.array(1.5, np.float32))


def test_max_bytes_and_overwrite(path):
    fwn.save_file({"a": np.ones(100, np.int8), "b": np.ones(100, np.int8)}, path)
    assert len(fwn.load_file(path, max_bytes=200)) == 2
    with pytest.raises(FormatError, match="decodes to 200 bytes, over the limit of 199; raise max_bytes"):
        fwn.load_file(path, max_bytes=199)
    with fwn.open_file(path, max_bytes=100) as file:
        assert file.get_tensor("a").sum() == 100
    with pytest.raises(OutputError, match="--force"):
        fwn.save_file({}, path, overwrite=False)


def test_tied_tensors_share_one_array(path):
    data = RawTensor("int8", (2,), np.array([1, 2], np.uint8))
    write_file(path, {"a": Alias("b"), "b": data, "c": Alias("b")})
    loaded = fwn.load_file(path, max_bytes=2)
    assert list(loaded) == ["a", "b", "c"]
    assert loaded["a"] is loaded["b"] is loaded["c"]


def test_types_that_numpy_lacks_are_widened(path):
    every_byte = np.arange(256, dtype=np.uint8)
    tensors = {
        "bfloat16": RawTensor("bfloat16", (2,), np.array([0x3FC0, 0xFF80], np.uint16).view(np.uint8)),
        "float8_e4m3fn": RawTensor("float8_e4m3fn", (256,), every_byte),
        "float8_e5m2": RawTensor("float8_e5m2", (256,), every_byte),
    }
    write_file(path, tensors)
    loaded = fwn.load_file(path)
    assert {array.dtype for array in loaded.values()} == {np.dtype("float32")}
    assert loaded["bfloat16"].tolist() == [1.5, -np.inf]
    import torch

    for name in ("float8_e4m3fn", "float8_e5m2"):
        expected = torch.from_numpy(every_byte).view(getattr(torch, name)).float().numpy()
        assert np.array_equal(loaded[name], expected, equal_nan=True)
        assert np.array_equal(np.signbit(loaded[name]), np.signbit(expected))


def test_torch_is_not_imported():
    script = "import sys, featherweight.numpy; sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
