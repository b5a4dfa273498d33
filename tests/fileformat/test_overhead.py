"""What a file takes beyond its payloads: at most 64 bytes and 12 a tensor, for common networks far less."""

import numpy as np
import pytest
from forge import split
from samples import raw

from featherweight.fileformat import FileReader, write_file
from featherweight.fileformat.directory import MAX_JOINT_BYTES
from featherweight.tensors import QuantizedTensor

LENET_300 = {"fc1": (300, 784), "fc2": (100, 300), "fc3": (10, 100)}
LENET_5 = {"conv1": (20, 1, 5, 5), "conv2": (50, 20, 5, 5), "fc1": (500, 800), "fc2": (10, 500)}
UNUSUAL = {f"{word}.{word[::-1]}": (7 + i, 11) for i, word in enumerate(("quixotic", "jukebox", "gazpacho"))}


def network(layers):
    generator = np.random.default_rng(0)
    tensors = {}
    for name, shape in layers.items():
        indices = (generator.random(shape) < 0.1) * generator.integers(1, 5, shape)
        codebook = np.array([0, -0.5, -0.123, 0.25, 1.3], np.float32)
        tensors[f"{name}.weight"] = QuantizedTensor(indices.astype(np.uint8), codebook)
        tensors[f"{name}.bias"] = raw(generator.normal(size=shape[0]).astype(np.float32))
    return tensors


def overhead(path, tensors, **options):
    size = write_file(path, tensors, **options)
    assert size == path.stat().st_size
    with FileReader(path) as reader:
        reader.verify()
        return size - sum(reader.info(name).bytes for name in reader.names)


@pytest.mark.parametrize(("layers", "most"), [(LENET_300, 56), (LENET_5, 72), (UNUSUAL, 64 + 12 * 6)])
@pytest.mark.parametrize("coder", ["huffman", "rans"])
def test_networks(tmp_path, layers, most, coder):
    assert overhead(tmp_path / "f.fwt", network(layers), coder=coder) <= most <= 64 + 12 * 2 * len(layers)


def test_no_tensors(tmp_path):
    assert overhead(tmp_path / "f.fwt", {}) <= 16


@pytest.mark.parametrize(("count", "most"), [(200, 64 + 12 * 200), (1000, 64 + 16 * 1000)])
def test_many_tensors(tmp_path, count, most):
    """A directory of more than 4 KiB is not coded."""
    tensors = {f"layers.{i}.weight": raw(np.ones(1, np.int8)) for i in range(count)}
    assert overhead(tmp_path / "f.fwt", tensors) <= most


def test_large_payloads_have_checksums_of_their_own(tmp_path):
    path = tmp_path / "f.fwt"
    noise = np.random.default_rng(0).integers(0, 256, MAX_JOINT_BYTES, np.uint8)
    with_one_more = {"a": raw(noise), "b": raw(np.ones(1, np.int8))}
    small = overhead(path, {"a": raw(noise)})
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(Exception, match="content that does not match its checksum"):
        FileReader(path)
    assert overhead(path, with_one_more) <= small + 2 * 4 + 12
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    with FileReader(path) as reader:
        assert reader.read("b").data.tolist() == [1]
        with pytest.raises(Exception, match="tensor 'a': does not match its checksum"):
            reader.read("a")


def test_a_small_file_that_changes_while_it_is_open_does_not_matter(tmp_path):
    path = tmp_path / "f.fwt"
    write_file(path, {"a": raw(np.arange(9))})
    payloads, _ = split(path.read_bytes())
    with FileReader(path) as reader:
        with path.open("r+b") as file:
            file.seek(5)
            file.write(bytes(len(payloads)))
        assert reader.read("a").data.tobytes() == np.arange(9).tobytes()
