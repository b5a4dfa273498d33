"""The networks of the literature, as plain modules: no base class, nothing that compression needs."""

from featherweight.models.lenet import LeNet5, LeNet300
from featherweight.models.lenet_wide import LeNet5Wide
from featherweight.models.squeezenet import SqueezeNet

__all__ = ["LeNet5", "LeNet5Wide", "LeNet300", "SqueezeNet"]
