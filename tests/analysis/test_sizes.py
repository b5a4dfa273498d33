import math

import numpy as np
import pytest

from featherweight.analysis.sizes import ModelSizes, measure_file
from featherweight.fileformat import FileReader, write_file
from featherweight.tensors import Alias, QuantizedTensor, RawTensor


def raw(array):
    return RawTensor(array.dtype.name, array.shape, np.frombuffer(array.tobytes(), np.uint8))


@pytest.fixture
def sizes(tmp_path):
    generator = np.random.default_rng(0)
    indices = generator.integers(1, 8, (40, 50)).astype(np.uint8)
    indices[generator.random(indices.shape) < 0.9] = 0
    codebook = np.linspace(0, 1, 8, dtype=np.float32)
    tensors = {
        "fc.weight": QuantizedTensor(indices, codebook),
        "fc.bias": raw(generator.normal(size=40).astype(np.float32)),
        "again.weight": Alias("fc.weight"),
        "steps": raw(np.array([7], np.int64)),
    }
    path = tmp_path / "model.fwt"
    size = write_file(path, tensors, coder="huffman")
    with FileReader(path) as reader:
        measured = measure_file(reader)
    assert measured.file_bytes == size == path.stat().st_size
    return measured


def by_name(sizes):
    return {tensor.name: tensor for tensor in sizes.tensors}


def test_counts_every_tensor_once_at_its_own_dtype(sizes):
    assert sizes.dense_bytes == 4 * (2000 + 40) + 8
    assert sizes.ratio == sizes.dense_bytes / sizes.file_bytes
    assert [tensor.name for tensor in sizes.stored] == ["fc.bias", "fc.weight", "steps"]


def test_alias_has_the_figures_of_its_target_but_no_bytes(sizes):
    tied, owner = by_name(sizes)["again.weight"], by_name(sizes)["fc.weight"]
    assert tied.alias_of == "fc.weight"
    assert tied.bytes == 0
    assert (tied.nonzero, tied.shape, tied.codebook_size) == (owner.nonzero, (40, 50), 8)


def test_han_accounting_adds_raw_tensors_at_their_own_size(sizes):
    weight = by_name(sizes)["fc.weight"]
    after = weight.paper.total_bits_pqh + 40 * 32 + 64
    assert sizes.ratio_h == pytest.approx(8 * sizes.dense_bytes / after)
    assert sizes.ratio_n == pytest.approx(2000 / weight.nonzero)
    assert weight.bits_pqh < weight.bits_pq < 8 * weight.dense_bytes


def test_payloads_fit_in_the_file(sizes):
    assert sum(tensor.bytes for tensor in sizes.tensors) < sizes.file_bytes
    weight = by_name(sizes)["fc.weight"]
    assert weight.bits_per_weight == 8 * weight.bytes / 2000


def test_to_dict_has_the_documented_keys(sizes):
    data = sizes.to_dict()
    assert list(data) == ["bytes", "dense_bytes", "ratio", "coder", "tensors"]
    assert data["coder"] == "huffman"
    weight = next(tensor for tensor in data["tensors"] if tensor["name"] == "fc.weight")
    assert list(weight) == [
        "name",
        "shape",
        "dtype",
        "numel",
        "nonzero",
        "codebook_size",
        "coder",
        "bytes",
        "bits_per_weight",
    ]
    assert weight["shape"] == [40, 50]
    bias = next(tensor for tensor in data["tensors"] if tensor["name"] == "fc.bias")
    assert bias["codebook_size"] is None
    assert bias["numel"] == bias["nonzero"] == 40


def test_model_of_nothing():
    empty = ModelSizes(17, "none", ())
    assert (empty.dense_bytes, empty.ratio, empty.ratio_h, empty.ratio_n) == (0, 0.0, 1.0, 1.0)


def test_weights_pruned_and_not_quantized_count_as_pruned(tmp_path):
    path = tmp_path / "pruned.fwt"
    weight = np.zeros((4, 5), np.float32)
    weight[0] = 1.5
    write_file(path, {"weight": raw(weight), "bias": raw(np.ones(9, np.float32))})
    with FileReader(path) as reader:
        assert measure_file(reader).ratio_n == 4.0


def test_all_pruned_has_an_infinite_ratio(tmp_path):
    path = tmp_path / "zeros.fwt"
    zeros = QuantizedTensor(np.zeros((8, 8), np.uint8), np.zeros(1, np.float32))
    write_file(path, {"w": zeros, "empty": raw(np.zeros((0, 3), np.float32))})
    with FileReader(path) as reader:
        sizes = measure_file(reader)
    assert sizes.ratio_n == math.inf
    assert by_name(sizes)["empty"].bits_per_weight == 0.0
