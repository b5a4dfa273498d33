"""CIFAR-10 and CIFAR-100 in archives of the original layout, written by the tests themselves."""

from __future__ import annotations

import io
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from featherweight.data import CIFAR10, CIFAR10JPEG, CIFAR100, Imagenette, cifar
from featherweight.errors import DataError


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_args, **_more):
        raise DataError("a download was attempted")

    monkeypatch.setattr(cifar, "download", refuse)


def records(kind, count, seed):
    """Bytes of a file, and the images and labels in it."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(kind.num_classes, size=(count, kind.label_bytes), dtype=np.uint8)
    pixels = rng.integers(256, size=(count, 3, 32, 32), dtype=np.uint8)
    data = b"".join(label.tobytes() + image.tobytes() for label, image in zip(labels, pixels, strict=True))
    return data, pixels, labels[:, -1]


def write(root, kind, packed, contents):
    directory = root / kind.folder
    directory.mkdir()
    if not packed:
        (directory / kind.inner).mkdir()
        for name, data in contents.items():
            (directory / kind.inner / name).write_bytes(data)
        return
    with tarfile.open(directory / kind.archive.name, "w:gz") as archive:
        for name, data in contents.items():
            member = tarfile.TarInfo(f"{kind.inner}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "unpacked"])
@pytest.mark.parametrize("kind", [CIFAR10, CIFAR100])
def test_images_and_labels_come_back(tmp_path, kind, packed):
    files = {n: records(kind, 6, i) for i, n in enumerate((*kind.train_files, *kind.test_files))}
    files_and_more = {"batches.meta.txt": (b"airplane", None, None), **files}
    write(tmp_path, kind, packed, {name: data for name, (data, _, _) in files_and_more.items()})
    train, test = kind(data_root=str(tmp_path)).load()
    for split, names in ((train, kind.train_files), (test, kind.test_files)):
        np.testing.assert_array_equal(split.images, np.concatenate([files[n][1] for n in names]))
        np.testing.assert_array_equal(split.labels, np.concatenate([files[n][2] for n in names]))
    assert train.images.dtype == torch.uint8
    assert train.labels.dtype == torch.int64


def test_what_is_missing_or_damaged_is_named(tmp_path):
    data = CIFAR10(data_root=str(tmp_path))
    with pytest.raises(DataError, match="a download was attempted"):
        data.load()
    good = {name: records(CIFAR10, 3, 0)[0] for name in (*CIFAR10.train_files, *CIFAR10.test_files)}
    write(tmp_path, CIFAR10, True, {n: good[n] for n in CIFAR10.train_files})
    with pytest.raises(DataError, match=r"holds no cifar-10-batches-bin/test_batch.bin.*binary version"):
        data.load()
    archive = tmp_path / "cifar10" / "cifar-10-binary.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-400])
    with pytest.raises(DataError, match="no whole archive"):
        data.load()
    inner = tmp_path / "cifar10" / "cifar-10-batches-bin"
    inner.mkdir()
    (inner / "test_batch.bin").write_bytes(good["test_batch.bin"])
    with pytest.raises(DataError, match=r"data_batch_1.bin, .*data_batch_5.bin missing; unpack"):
        data.load()
    for name, contents in good.items():
        (inner / name).write_bytes(contents)
    (inner / "data_batch_3.bin").write_bytes(good["data_batch_3.bin"][:-1])
    with pytest.raises(DataError, match=r"data_batch_3.bin must hold records of 3,073 bytes, it holds 9,218"):
        data.load()
    (inner / "data_batch_3.bin").write_bytes(b"\x0a" + good["data_batch_3.bin"][1:])
    with pytest.raises(DataError, match="labels must be below 10, there is 10"):
        data.load()


def test_cifar10_as_jpeg_files_in_a_zip(tmp_path):
    (tmp_path / "cifar10-jpeg").mkdir()
    with zipfile.ZipFile(tmp_path / "cifar10-jpeg" / "cifar10-jpeg.zip", "w") as archive:
        for part in ("train", "test"):
            for i, name in enumerate(CIFAR10JPEG.CLASSES):
                data = io.BytesIO()
                Image.new("RGB", (32, 32), (20 * i, 200, 100)).save(data, "JPEG")
                archive.writestr(f"{part}/{name}/0000.jpg", data.getvalue())
    train, test = CIFAR10JPEG(data_root=str(tmp_path)).load()
    assert train.labels.tolist() == test.labels.tolist() == list(range(10))
    assert train.images.shape == (10, 3, 32, 32)
    for i in range(10):
        pixel = train.images[i, :, 16, 16].tolist()
        np.testing.assert_allclose(pixel, (20 * i, 200, 100), atol=4)


def test_imagenette_has_its_ten_classes(tmp_path):
    for part in ("train", "val"):
        for name in ("n01440764", "n03888257"):
            (tmp_path / "nette" / part / name).mkdir(parents=True)
            Image.new("RGB", (9, 12), (30, 20, 10)).save(tmp_path / "nette" / part / name / "a.png")
    data = Imagenette("nette", size=8, data_root=str(tmp_path))
    assert data.num_classes == 10
    images, labels = next(iter(data.test_batches()))
    assert labels.tolist() == [0, 9]
    expected = (torch.tensor([30, 20, 10]) / 255 - torch.tensor(data.mean)) / torch.tensor(data.std)
    torch.testing.assert_close(images[0, :, 4, 4], expected)
