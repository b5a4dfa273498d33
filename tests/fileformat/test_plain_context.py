"""What the ``context`` coder writes is read by a decoder written from the specification alone."""

import numpy as np
import plain_context_decoder
import plain_decoder
import pytest

from featherweight.coding import CODERS, context

CODER = CODERS["context"]

FLAGS = {"constant": 1, "transposed": 2, "digits": 4, "many digits": 4, "digits in a convolution": 4}
LAGS = {"lag": (20, 1), "convolution": (9, 3), "large kernel": (81, 9), "pointwise convolution": (1, 1)}


def arrays():
    generator = np.random.default_rng(8)

    def sparse(shape, k, density):
        return generator.integers(1, k, shape) * (generator.random(shape) < density)

    def gaussian(shape, spread):
        levels = np.rint(spread * generator.standard_normal(shape)).astype(int)
        return np.where(levels == 0, 0, levels - levels.min() + (levels < 0))

    images = np.zeros((25, 20, 20), int)
    for image in images:
        y, x = generator.integers(0, 15, 2)
        image[y : y + 5, x : x + 5] = sparse((5, 5), 6, 0.8)
    far = np.full(2000, 4500)
    far[[100, 700, 1500]] = 5, 8990, 4530
    far[::3] = 0
    far[::7] = 4501
    yield "dense", generator.integers(0, 5, (20, 31)), 5
    yield "sparse", sparse((50, 60), 8, 0.05), 8
    yield "vector", sparse(2500, 4, 0.3), 4
    yield "short vector", np.array([1, 0, 2]), 3
    yield "lag", images.reshape(25, 400), 6
    yield "convolution", sparse((12, 10, 3, 3), 9, 0.4), 9
    yield "large kernel", sparse((3, 2, 9, 9), 6, 0.4), 6
    yield "pointwise convolution", sparse((9, 20, 1, 1), 6, 0.4), 6
    yield "transposed", np.repeat(generator.integers(0, 6, (6, 30)), 10, axis=0), 6
    yield "one sign", sparse((20, 30), 2, 0.2), 2
    yield "only positive", np.minimum(generator.geometric(0.8, (20, 30)) - 1, 5), 6
    yield "unary", gaussian((20, 30), 4.0), None
    yield "unary with far levels", far, 9000
    yield "digits", gaussian((20, 30), 30.0), None
    yield "many digits", generator.integers(0, 65536, (12, 30)), 65536
    yield "digits in a convolution", gaussian((5, 10, 3, 2), 30.0), None
    yield "constant", np.full((7, 9), 3), 4
    yield "nothing", np.zeros((0, 9), int), 1


ARRAYS = {name: (indices, k or int(indices.max()) + 1) for name, indices, k in arrays()}


def check(indices, k):
    payload = CODER.encode(indices.astype(np.uint16), k)
    source = plain_decoder.Bytes(payload)
    assert plain_decoder.context_array(source, indices.shape, k) == indices.reshape(-1).tolist()
    assert source.at == len(payload)
    return payload


@pytest.mark.parametrize("name", ARRAYS)
def test_specification(name):
    payload = check(*ARRAYS[name])
    if payload:
        assert payload[0] & 5 == FLAGS.get(name, 0) & 5
    if name == "transposed":
        assert payload[0] == 2
    if name in LAGS:
        assert payload[2:4] == bytes(LAGS[name])


@pytest.mark.parametrize("name", ["dense", "sparse", "vector", "lag", "convolution", "transposed", "digits"])
def test_specification_with_many_blocks(monkeypatch, name):
    monkeypatch.setattr(context, "BLOCK_SIZE", 500)
    monkeypatch.setattr(plain_context_decoder, "BLOCK", 500)
    check(*ARRAYS[name])


def test_specification_of_wide_matrices():
    indices = np.zeros((1, 65_537), np.uint8)
    indices[:, ::5001] = 1
    check(indices, 2)
