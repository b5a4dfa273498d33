"""Data sets that live in memory: batches are cut from tensors, with no worker processes."""

from featherweight.data.base import ImageData
from featherweight.data.batches import Batches, Split
from featherweight.data.digits import Digits
from featherweight.data.image_folder import ImageFolder, ImagenetteAsImageNet
from featherweight.data.mnist import MNIST
from featherweight.data.root import resolve_data_root

__all__ = [
    "MNIST",
    "Batches",
    "Digits",
    "ImageData",
    "ImageFolder",
    "ImagenetteAsImageNet",
    "Split",
    "resolve_data_root",
]
