"""Data sets that live in memory: batches are cut from tensors, with no worker processes."""

from featherweight.data.base import ImageData
from featherweight.data.batches import Batches, Split
from featherweight.data.cifar import CIFAR10, CIFAR10JPEG, CIFAR100
from featherweight.data.digits import Digits
from featherweight.data.image_folder import ImageFolder, Imagenette, ImagenetteAsImageNet
from featherweight.data.mnist import MNIST
from featherweight.data.root import resolve_data_root

__all__ = [
    "CIFAR10",
    "CIFAR10JPEG",
    "CIFAR100",
    "MNIST",
    "Batches",
    "Digits",
    "ImageData",
    "ImageFolder",
    "Imagenette",
    "ImagenetteAsImageNet",
    "Split",
    "resolve_data_root",
]
