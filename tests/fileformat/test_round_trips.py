"""What is written is read back, here and by a decoder written from the specification alone."""

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import plain_decoder
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import as_bytes, raw, small_tensors

from featherweight.coding import CODERS, UnknownCoderError
from featherweight.errors import TensorError
from featherweight.fileformat import FileReader, TensorInfo, write_file
from featherweight.tensors import ITEM_SIZES, Alias, QuantizedTensor, RawTensor


def write_and_read(path, tensors, **options):
    size = write_file(path, tensors, **options)
    assert size == path.stat().st_size
    with FileReader(path) as reader:
        reader.verify()
        stored = {name: reader.read(name) for name in reader.names}
        for name, tensor in stored.items():
            values = reader.read_values(name)
            if isinstance(tensor, QuantizedTensor):
                assert values.shape == tensor.shape
                assert values.dtype == tensor.codebook.dtype
                assert values.tobytes() == tensor.dequantize().tobytes()
            else:
                assert values.data.tobytes() == tensor.data.tobytes()
        return stored


def test_small_file_round_trips_and_follows_the_specification(tmp_path):
    path = tmp_path / "small.fwt"
    tensors = small_tensors()
    read_back = write_and_read(path, tensors, metadata={"b": "2", "a": "é"})
    metadata, plain = plain_decoder.decode(path.read_bytes())
    assert metadata == {"a": "é", "b": "2"}
    assert list(plain) == list(read_back) == sorted(tensors)
    for name, tensor in tensors.items():
        original = tensors[tensor.target] if isinstance(tensor, Alias) else tensor
        assert as_bytes(read_back[name]) == as_bytes(original) == plain[name]
    assert read_back["fc2.weight"].coder == "fixed"


def test_every_coder_is_specified():
    assert {coder.id for coder in CODERS.values()} == plain_decoder.CODERS


@pytest.mark.parametrize("coder", ["fixed", "huffman", "rans"])
def test_specification_with_four_bit_streams(tmp_path, coder):
    generator = np.random.default_rng(3)
    indices = np.minimum(generator.geometric(0.3, 66_001) - 1, 40).astype(np.uint16)
    codebook = np.linspace(0, 1, 41)
    path = tmp_path / "large.fwt"
    write_file(path, {"w": QuantizedTensor(indices, codebook)}, coder=coder)
    assert plain_decoder.decode(path.read_bytes())[1]["w"][2] == codebook[indices].tobytes()


def test_specification_with_two_blocks(tmp_path):
    indices = (np.random.default_rng(0).random((1 << 20) + 700) < 0.3).astype(np.uint8)
    path = tmp_path / "blocks.fwt"
    write_file(path, {"w": QuantizedTensor(indices, np.array([1, 2], np.float16))}, coder="rans")
    decoded = plain_decoder.decode(path.read_bytes())[1]["w"][2]
    assert np.array_equal(np.frombuffer(decoded, np.float16) - 1, indices)


def smallest(tensor):
    sizes = {name: len(coder.encode(tensor.indices, tensor.codebook.size)) for name, coder in CODERS.items()}
    return min(sizes, key=lambda name: sizes[name])


def test_auto_records_the_coder_of_each_tensor(tmp_path):
    generator = np.random.default_rng(0)
    codebook = np.arange(16, dtype=np.float32)
    tensors = {
        "even": QuantizedTensor(generator.integers(0, 16, 9000).astype(np.uint8), codebook),
        "skewed": QuantizedTensor((generator.random(9000) < 0.9).astype(np.uint8), codebook),
        "named": QuantizedTensor(generator.integers(0, 16, 9000).astype(np.uint8), codebook, coder="huffman"),
    }
    path = tmp_path / "auto.fwt"
    write_and_read(path, tensors, coder="auto")
    with FileReader(path) as reader:
        coders = [reader.info(name).coder for name in ("even", "skewed", "named")]
    assert coders == ["fixed", smallest(tensors["skewed"]), "huffman"]


@st.composite
def raw_tensors(draw):
    dtype = draw(st.sampled_from(sorted(ITEM_SIZES)))
    shape = draw(st.sampled_from([(), (0,), (3, 0, 2), (1,), (5,), (2, 3, 4), (1, 1, 1, 1, 1, 7)]))
    size = ITEM_SIZES[dtype] * math.prod(shape)
    data = draw(st.sampled_from([bytes(size), bytes([1]) * size]) | st.binary(min_size=size, max_size=size))
    array = np.frombuffer(data, np.uint8)
    return RawTensor(dtype, shape, array & 1 if dtype == "bool" else array)


@st.composite
def quantized_tensors(draw):
    dtype = draw(st.sampled_from(["float64", "float32", "float16", "bfloat16"]))
    width = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16}[dtype]
    values = draw(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=width), min_size=1))
    codebook = np.array(values, "float32" if dtype == "bfloat16" else dtype)
    if dtype == "bfloat16":
        codebook = (codebook.view(np.uint32) & 0xFFFF0000).view(np.float32)
    shape = draw(st.sampled_from([(), (0, 3), (7,), (4, 5)]))
    index = st.integers(0, len(values) - 1)
    indices = draw(st.lists(index, min_size=math.prod(shape), max_size=math.prod(shape)))
    coder = draw(st.sampled_from([None, *CODERS]))
    return QuantizedTensor(np.array(indices, np.uint8).reshape(shape), codebook, dtype, coder)


@pytest.mark.parametrize("dtype", sorted(ITEM_SIZES))
@pytest.mark.parametrize("fill", ["zero", "equal", "random"])
def test_a_million_elements(fast_folder, dtype, fill):
    size = ITEM_SIZES[dtype]
    data = np.zeros(1_000_000 * size, np.uint8)
    if fill == "equal":
        data.reshape(-1, size)[:, 0] = 1
    elif fill == "random":
        data = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 256, data.size, np.uint8)
    tensor = RawTensor(dtype, (1000, 1000), data)
    assert as_bytes(write_and_read(fast_folder / "f.fwt", {"w": tensor})["w"]) == as_bytes(tensor)


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@settings(deadline=None, max_examples=250)
@given(
    tensors=st.dictionaries(names, st.one_of(raw_tensors(), quantized_tensors()), max_size=5),
    metadata=st.dictionaries(names, st.text(st.characters(exclude_categories=["Cs"])), max_size=3),
)
def test_any_mapping_round_trips(tmp_path_factory, tensors, metadata):
    path = tmp_path_factory.getbasetemp() / "any.fwt"
    read_back = write_and_read(path, tensors, metadata=metadata)
    expected = {name: as_bytes(tensor) for name, tensor in tensors.items()}
    assert {name: as_bytes(tensor) for name, tensor in read_back.items()} == expected
    assert plain_decoder.decode(path.read_bytes()) == (metadata, expected)


@pytest.mark.parametrize("name", ["../x", "a\0b", "e\u0301", "é", "/", " ", "x" * 65535, "💾", "a\nb"])
def test_names_come_back_as_they_were(tmp_path, name):
    assert list(write_and_read(tmp_path / "f.fwt", {name: raw(np.ones(2))})) == [name]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "1 to 65535 bytes"),
        ("é" * 32768, "65536 bytes"),
        ("\ud800", "lone surrogate"),
        (3, "must be strings"),
    ],
)
def test_names_that_cannot_be_stored_are_refused(tmp_path, name, reason):
    with pytest.raises(TensorError, match=reason):
        write_file(tmp_path / "f.fwt", {name: raw(np.ones(2))})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"x": Alias("nothing")}, "'x' is tied to 'nothing'"),
        ({"x": Alias("tied")}, "'x' is tied to 'tied'"),
        ({"x": Alias("x")}, "'x' is tied to 'x'"),
        ({"x": RawTensor("bool", (1,), np.array([2], np.uint8))}, "'x' .* bytes other than 0 and 1"),
        ({"x": RawTensor("int8", (0, 2**62, 2), np.zeros(0, np.uint8))}, r"'x' .* more than 2\^63"),
        ({"x": RawTensor("int8", (1,) * 33, np.zeros(1, np.uint8))}, "'x' .* 33 dimensions"),
    ],
)
def test_tensors_that_cannot_be_stored_are_refused(tmp_path, changes, reason):
    with pytest.raises(TensorError, match=reason):
        write_file(tmp_path / "f.fwt", small_tensors(**changes))


def test_bad_metadata_and_unknown_coders_are_refused(tmp_path):
    with pytest.raises(TensorError, match="strings to strings, got 'epoch': 3"):
        write_file(tmp_path / "f.fwt", {}, metadata={"epoch": 3})
    with pytest.raises(TensorError, match=r"metadata value .* surrogate"):
        write_file(tmp_path / "f.fwt", {}, metadata={"epoch": "\udfff"})
    with pytest.raises(TensorError, match="at most 16777216 can be stored"):
        write_file(tmp_path / "f.fwt", {}, metadata={"log": "x" * (1 << 24)})
    with pytest.raises(UnknownCoderError, match="unknown coder 'zip'"):
        write_file(tmp_path / "f.fwt", {}, coder="zip")


@pytest.mark.parametrize(
    ("values", "dtype", "bytes_a_value"),
    [
        ([0, 0.5, -0.0, 65504], "float32", 2),
        ([1e30, 0], "float32", 4),
        (np.array([0x7F000000, 0x00010000], np.uint32).view(np.float32), "float32", 2),
        ([0.1, 0], "float32", 4),
        ([0.5, 0], "float64", 2),
        ([np.float32(0.1), 0], "float64", 4),
        ([0.1, 0], "float64", 8),
        ([0.5, 0], "float16", 2),
    ],
)
def test_codebooks_that_do_not_ascend_take_the_smallest_exact_type(tmp_path, values, dtype, bytes_a_value):
    assert _codebook_bytes(tmp_path / "f.fwt", np.array(values, dtype)) == 2 + len(values) * bytes_a_value


@pytest.mark.parametrize(
    ("values", "dtype", "size"),
    [
        ([0, 1e30], "float32", 4),  # a float out of 2^31
        ([0, 0.1], "float32", 4),
        ([0, 0.5], "float64", 2),  # the exponent of a step, and that it is taken once
        ([0, np.float32(0.1)], "float64", 5),  # 34 bits: those of the mantissa that are 0 are left out
        ([0, 0.1], "float64", 8),
        ([0, 0.5], "float16", 1),  # all but the exponent is left out
    ],
)
def test_codebooks_that_ascend_take_fewer_bytes_than_any_type(tmp_path, values, dtype, size):
    # Size, storage, the size of what is range-coded.
    assert _codebook_bytes(tmp_path / "f.fwt", np.array(values, dtype)) == 3 + size


def _codebook_bytes(path, codebook):
    """Bytes that a codebook takes in a file, which gives it back; two indices of 0 take two beside it."""
    tensor = QuantizedTensor(np.zeros(2, np.uint8), codebook)
    assert write_and_read(path, {"w": tensor})["w"].codebook.tobytes() == codebook.tobytes()
    with FileReader(path) as reader:
        return reader.info("w").bytes - 2


def test_info(tmp_path):
    path = tmp_path / "f.fwt"
    write_file(path, small_tensors(), metadata={"k": "v"})
    with FileReader(path) as reader:
        assert reader.metadata == {"k": "v"}
        assert reader.file_bytes == path.stat().st_size
        assert reader.coder == "mixed"
        assert reader.info("step") == TensorInfo("step", (), "int64", 1, "plain", 8, None, False)
        tied, target = reader.info("tied"), reader.info("fc1.weight")
        assert (tied.bytes, tied.alias_of, tied.coder, tied.quantized) == (0, "fc1.weight", "huffman", True)
        assert (target.shape, target.numel, target.alias_of) == ((6, 20), 120, None)
        assert reader.describe("tied") == reader.describe("fc1.weight")
        assert reader.describe("fc1.weight").nonzero == np.count_nonzero(reader.read("tied").indices)
        assert reader.describe("step") is None
        with pytest.raises(KeyError):
            reader.read("nothing")
    write_file(path, {"step": small_tensors()["step"]})
    with FileReader(path) as reader:
        assert reader.coder == "none"


def lenet_300_100():
    generator = np.random.default_rng(0)
    tensors = {}
    for name, shape, density in [
        ("fc1", (300, 784), 0.08),
        ("fc2", (100, 300), 0.09),
        ("fc3", (10, 100), 0.26),
    ]:
        indices = np.where(generator.random(shape) < density, generator.integers(1, 64, shape), 0)
        codebook = generator.normal(size=64).astype(np.float32)
        codebook[0] = 0
        tensors[name + ".weight"] = QuantizedTensor(indices.astype(np.uint8), codebook)
        tensors[name + ".bias"] = raw(generator.normal(size=shape[0]).astype(np.float32))
    return tensors


def test_container_overhead(tmp_path):
    path = tmp_path / "lenet.fwt"
    size = write_file(path, lenet_300_100())
    with FileReader(path) as reader:
        payloads = sum(reader.info(name).bytes for name in reader.names)
    assert size - payloads <= 64 + 12 * 6


def test_order_of_the_mapping_does_not_matter(tmp_path):
    tensors = small_tensors()
    metadata = {"one": "1", "two": "2", "three": "3"}
    first, second = tmp_path / "1.fwt", tmp_path / "2.fwt"
    write_file(first, tensors, metadata=metadata)
    shuffled = dict(reversed(tensors.items()))
    write_file(second, shuffled, metadata=dict(reversed(metadata.items())))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("coder", CODERS)
def test_threads_write_the_same_bytes_at_once(tmp_path, coder):
    def write(number):
        path = tmp_path / f"{number}.fwt"
        write_file(path, lenet_300_100(), coder=coder)
        return path.read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(write, range(8)))) == 1


def test_other_processes_and_hash_seeds_write_the_same_bytes(tmp_path):
    """Every coder, in processes of other seeds and thread counts, two of them at once."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from make_golden import make\n"
        "make(Path(sys.argv[2]))\n"
    )
    golden = Path(__file__).parent.parent / "golden"
    processes = []
    for seed, threads in (("0", "1"), ("1234", "2"), ("random", "1")):
        folder = tmp_path / seed
        folder.mkdir()
        environment = os.environ | {"PYTHONHASHSEED": seed, "NUMBA_NUM_THREADS": threads}
        command = [sys.executable, "-c", script, str(golden), str(folder)]
        processes.append(subprocess.Popen(command, env=environment))
    assert [process.wait() for process in processes] == [0, 0, 0]
    first, *others = (
        {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.fwt"))}
        for folder in tmp_path.iterdir()
    )
    assert len(first) > 20
    assert all(other == first for other in others)


def test_tensors_are_fetched_one_at_a_time_in_order(tmp_path):
    fetched = []

    class Lazy(dict):
        def __getitem__(self, name):
            fetched.append(name)
            return super().__getitem__(name)

    write_file(tmp_path / "f.fwt", Lazy(small_tensors()))
    assert fetched == sorted(small_tensors())
