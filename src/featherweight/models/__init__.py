"""The networks of the literature, as plain modules: no base class, nothing that compression needs."""

from featherweight.models.alexnet import AlexNet
from featherweight.models.lenet import LeNet5, LeNet300
from featherweight.models.lenet_variants import LeNet5Classic, LeNet5ThreeConvs, LeNet5Wide
from featherweight.models.resnet import CifarResNet, ResNet18, ResNet20, ResNet32, ResNet56
from featherweight.models.squeezenet import SqueezeNet
from featherweight.models.vgg import VGG16

__all__ = [
    "VGG16",
    "AlexNet",
    "CifarResNet",
    "LeNet5",
    "LeNet5Classic",
    "LeNet5ThreeConvs",
    "LeNet5Wide",
    "LeNet300",
    "ResNet18",
    "ResNet20",
    "ResNet32",
    "ResNet56",
    "SqueezeNet",
]
