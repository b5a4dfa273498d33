"""Every recipe of the record: built, its shapes checked, trained for a step on files of the true layout."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from featherweight.data import CIFAR100, ImagenetteAsImageNet
from featherweight.rule_targets import rules_to_prune
from featherweight.strict import read_mapping
from featherweight.training.phases import check_phases, make_optimizer
from featherweight.training.run import check_shapes
from featherweight.training.spec import RunSpec

RECIPES = [
    path
    for path in sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
    if {"fit", "recipe"} <= read_mapping(path).keys()
]
#: What the smallest runs on these files need.
SMALL = {"batch_size": 2, "validation_split": 2, "eval_batch_size": 2}


def write_cifar100(root):
    rng = np.random.default_rng(0)
    (root / CIFAR100.folder).mkdir()
    with tarfile.open(root / CIFAR100.folder / CIFAR100.archive.name, "w:gz") as archive:
        for name in (*CIFAR100.train_files, *CIFAR100.test_files):
            records = rng.integers(0, 100, (8, 2 + 3072), dtype=np.uint8)
            member = tarfile.TarInfo(f"{CIFAR100.inner}/{name}")
            member.size = records.size
            archive.addfile(member, io.BytesIO(records.tobytes()))


def write_images(path, classes, suffix, parts, size):
    rng = np.random.default_rng(0)
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for part in parts:
            for name in classes:
                data = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(data, "JPEG")
                archive.writestr(f"{part}/{name}/0{suffix}", data.getvalue())


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """All data sets that the recipes name, with a handful of images each."""
    from featherweight.data import CIFAR10JPEG

    sys.path.insert(0, str(Path(__file__).parent / "data"))
    try:
        from idx_files import write_mnist
    finally:
        sys.path.pop(0)
    root = tmp_path_factory.mktemp("data")
    write_mnist(root / "mnist")
    write_cifar100(root)
    cifar10, imagenette = root / "cifar10-jpeg/cifar10-jpeg.zip", root / "imagenette/imagenette-128.zip"
    write_images(cifar10, CIFAR10JPEG.CLASSES, ".jpg", ("train", "test"), 32)
    write_images(imagenette, ImagenetteAsImageNet.LABELS, ".JPEG", ("train", "val"), 128)
    return root


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_one_step_on_files_of_the_same_layout(path, data_root):
    spec = RunSpec.load(path)
    assert spec.name == path.stem
    images = replace(
        spec.data, init_args={**spec.data.init_args, **SMALL, "data_root": str(data_root)}
    ).create()
    torch.manual_seed(0)
    network = spec.model.create()
    check_shapes(network, images)
    rules_to_prune(network, spec.recipe)
    check_phases(replace(spec, trainer={**spec.trainer, "accelerator": "cpu"}), network)
    weights = [name for name, p in network.named_parameters() if p.ndim > 1]
    assert all(spec.recipe.rule_for(name) is not None for name in weights)

    before = network.get_parameter(weights[0]).detach().clone()
    inputs, labels = next(iter(images.train_batches()))
    optimizer = make_optimizer(spec, spec.fit, network)
    loss = cross_entropy(network.train()(inputs), labels)
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert not torch.equal(network.get_parameter(weights[0]), before)
