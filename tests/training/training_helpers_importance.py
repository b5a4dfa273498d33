"""An importance that users might write, found by its import path."""


def reversed_magnitude(name, weight, gradient=None):
    """Prune the largest first."""
    return -weight.detach().abs()
