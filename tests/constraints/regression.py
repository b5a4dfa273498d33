"""A small regression that the tests of weights with a shadow train on."""

import torch
from torch import nn
from torch.nn import functional as F


def problem(seed=0):
    """A linear layer, inputs and targets."""
    torch.manual_seed(seed)
    return nn.Linear(12, 5), torch.randn(40, 12), torch.randn(40, 5)


def closure_of(model, optimizer, inputs, targets):
    """The closure that LBFGS asks for: gradients and the loss."""

    def closure():
        optimizer.zero_grad()
        loss = F.mse_loss(model(inputs), targets)
        loss.backward()
        return loss

    return closure


def step(model, optimizer, inputs, targets):
    """One step on all of the data."""
    closure_of(model, optimizer, inputs, targets)()
    optimizer.step()
