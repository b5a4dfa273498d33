"""Images in folders and zip files, written by the tests themselves."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from featherweight.data import ImageFolder, ImagenetteAsImageNet
from featherweight.errors import DataError

COLOURS = {"cat": (250, 0, 0), "dog": (0, 240, 10), "owl": (10, 20, 230)}


def write_images(folder, part_names=("train", "test"), each=4, size=(12, 9)):
    """Images of one colour a class, as lossless PNG."""
    for part in part_names:
        for name, colour in COLOURS.items():
            (folder / part / name).mkdir(parents=True)
            for i in range(each):
                Image.new("RGB", size, colour).save(folder / part / name / f"{i}.png")


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path / "animals")
    return tmp_path / "animals"


def as_zip(folder):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder))
    return path


@pytest.mark.parametrize("zipped", [False, True], ids=["directory", "zip"])
def test_labels_follow_the_sorted_folders_and_pixels_are_kept(folder, zipped):
    path = as_zip(folder) if zipped else folder
    data = ImageFolder(str(path), size=8, validation_split=0)
    train, test = data.load()
    assert data.num_classes == 3
    assert train.images.shape == test.images.shape == (12, 3, 8, 8)
    assert train.images.dtype == torch.uint8
    for label, colour in enumerate(COLOURS.values()):
        mine = test.images[test.labels == label]
        assert len(mine) == 4
        np.testing.assert_array_equal(mine[0, :, 4, 4], colour)


def test_bgr_swaps_red_and_blue_and_val_counts_as_test(tmp_path):
    write_images(tmp_path / "set", ("train", "val"))
    data = ImageFolder("set", size=9, bgr=True, data_root=str(tmp_path))
    _, test = data.load()
    np.testing.assert_array_equal(test.images[0, :, 0, 0], COLOURS["cat"][::-1])


def test_given_classes_fix_the_labels(folder):
    data = ImageFolder(str(folder), size=4, classes=["owl", "cat", "dog"])
    train, _ = data.load()
    assert train.labels.tolist() == [1] * 4 + [2] * 4 + [0] * 4


def test_imagenet_labels_and_caffe_pixels(tmp_path):
    for name in ("n01440764", "n03888257"):
        (tmp_path / "nette" / "val" / name).mkdir(parents=True)
        Image.new("RGB", (227, 227), (30, 20, 10)).save(tmp_path / "nette" / "val" / name / "a.png")
    data = ImagenetteAsImageNet("nette", data_root=str(tmp_path))
    images, labels = next(iter(data.test_batches()))
    assert labels.tolist() == [0, 701]
    torch.testing.assert_close(images[0, :, 0, 0], torch.tensor([10.0 - 104, 20 - 117, 30 - 123]))


def test_what_is_missing_or_damaged_is_named(tmp_path, folder):
    with pytest.raises(DataError, match=r"nothing-here: .*--data-root"):
        ImageFolder("nothing-here", size=4, data_root=str(tmp_path)).load()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        ImageFolder("empty", size=4, data_root=str(tmp_path)).load()
    with pytest.raises(DataError, match="'cat' is none of the classes dog"):
        ImageFolder(str(folder), size=4, classes=["dog"]).load()
    (folder / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="an image of cat cannot be decoded"):
        ImageFolder(str(folder), size=4).load()
    broken = tmp_path / "broken.zip"
    broken.write_bytes(as_zip(folder).read_bytes()[:-30])
    with pytest.raises(DataError, match="no whole zip file"):
        ImageFolder(str(broken), size=4).load()
