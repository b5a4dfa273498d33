from __future__ import annotations

import os
from pathlib import Path

import idx_files
import numpy as np
import pytest
import torch

from featherweight.data import MNIST, mnist
from featherweight.errors import DataError


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DataError("a download was attempted")

    monkeypatch.setattr(mnist, "download", refuse)


@pytest.mark.parametrize("compress", [True, False])
def test_it_reads_its_four_files(tmp_path: Path, compress: bool) -> None:
    idx_files.write_mnist(tmp_path / "mnist", train=20, test=10, compress=compress)
    (images, labels), (test_images, test_labels) = MNIST(data_root=str(tmp_path)).load()
    assert images.shape == (20, 1, 28, 28)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert images[:, 0, 3, 5].tolist() == list(range(20))
    assert labels.tolist() == [i % 10 for i in range(20)]
    assert len(test_images) == len(test_labels) == 10


def test_the_environment_names_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idx_files.write_mnist(tmp_path / "mnist")
    monkeypatch.setenv("FEATHERWEIGHT_DATA", str(tmp_path))
    data = MNIST(validation_split=5)
    assert [len(split.labels) for split in data.splits] == [15, 5, 10]


def test_files_that_are_missing_are_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idx_files.write_mnist(tmp_path / "mnist", compress=False)
    gone = tmp_path / "mnist" / "t10k-labels-idx1-ubyte"
    contents = gone.read_bytes()
    gone.unlink()

    def fetch(files: list[object], mirrors: object, directory: Path, *, dataset: str) -> None:
        assert files == [mnist.TEST_LABELS]
        assert dataset == "MNIST"
        (directory / "t10k-labels-idx1-ubyte.gz").write_bytes(contents)

    monkeypatch.setattr(mnist, "download", fetch)
    assert len(MNIST(data_root=str(tmp_path)).test_batches()) == 1


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-images-idx3", np.zeros((20, 28, 27), np.uint8), "must hold uint8 images of 28×28"),
        ("train-images-idx3", np.zeros((20, 28, 28), np.int16), "must hold uint8 images of 28×28"),
        ("train-labels-idx1", np.zeros(19, np.uint8), "must hold 20 uint8 labels"),
        ("t10k-labels-idx1", np.full(10, 10, np.uint8), "must hold labels below 10, it holds 10"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, name: str, array: np.ndarray, message: str
) -> None:
    idx_files.write_mnist(tmp_path / "mnist", compress=False)
    (tmp_path / "mnist" / f"{name}-ubyte").write_bytes(idx_files.encode(array))
    with pytest.raises(DataError, match=f"{name}.*{message}"):
        MNIST(data_root=str(tmp_path)).load()


def test_real_mnist() -> None:
    if not os.environ.get("FEATHERWEIGHT_DATA"):
        pytest.skip("FEATHERWEIGHT_DATA is not set, so there is no real MNIST to read")
    if not list(Path(os.environ["FEATHERWEIGHT_DATA"]).glob("mnist/train-images-idx3-ubyte*")):
        pytest.skip("FEATHERWEIGHT_DATA has no mnist/train-images-idx3-ubyte")
    data = MNIST()
    assert [len(split.labels) for split in data.splits] == [54_000, 6_000, 10_000]
    pixels = torch.cat([data.splits.train.images, data.splits.validation.images]).float() / 255
    assert pixels.mean().item() == pytest.approx(MNIST.mean[0], abs=1e-4)
    assert pixels.std().item() == pytest.approx(MNIST.std[0], abs=1e-4)
    assert data.splits.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert data.splits.test.labels.bincount().tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
