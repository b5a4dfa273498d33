"""What a kept weight costs in the file, so that pruning can ask for accuracy per bit instead of per weight.

An adaptive coder spends about log₂((1 − p) / p) bits more on a weight that is there than on one that is
pruned, p being how often weights are there around that place. A weight in a row and a column that are full
anyway costs three or four bits, one all alone ten. Where the choice is between two weights of equal
importance, the cheaper one should stay; so rows and columns that are nearly empty empty out, and what is
left gathers where it is cheap. This is the rate–distortion rule of entropy-constrained quantization (P. A.
Chou, T. Lookabaugh, R. M. Gray, 1989; for networks Y. Choi, M. El-Khamy, J. Lee, 2017) applied to masks.
"""

from __future__ import annotations

import torch

#: Bits of a kept weight's value: a sign and about two of magnitude.
VALUE_BITS = 2.5

#: Weights that a row, a column or a kernel is taken to have beside its own, at the tensor's own density.
PRIOR = 2.0


def weight_bits(mask: torch.Tensor) -> torch.Tensor:
    """Estimate the bits that each weight costs, or would cost, where these are kept.

    The density at a place is that of its row times that of its column over that of the tensor; where
    weights stand in kernels of several elements (convolutions), that of its kernel counts with it.

    Args:
        mask: bool, true where kept; the first dimension is the layer's outputs, the second its inputs.

    Returns:
        float32 in the mask's shape, at least :data:`VALUE_BITS`.
    """
    if mask.ndim < 2 or not mask.numel():
        return torch.full(mask.shape, VALUE_BITS, dtype=torch.float32, device=mask.device)
    kernels = mask.flatten(2) if mask.ndim > 2 else mask.unsqueeze(2)  # (outputs, inputs, elements)
    counts = kernels.sum(2, dtype=torch.float32)  # (outputs, inputs)
    outputs, inputs, elements = kernels.shape
    mean = (counts.sum() + 1) / (mask.numel() + 2)
    rows = (counts.sum(1, keepdim=True) + PRIOR * mean) / (inputs * elements + PRIOR)
    columns = (counts.sum(0, keepdim=True) + PRIOR * mean) / (outputs * elements + PRIOR)
    density = rows * columns / mean
    if elements > 1 and inputs > 1:
        density = 0.7 * density + 0.3 * (counts + PRIOR * mean) / (elements + PRIOR)
    density = density.clamp(1e-5, 0.9)
    bits = VALUE_BITS + torch.log2((1 - density) / density).clamp(min=0)
    return bits.unsqueeze(2).expand(kernels.shape).reshape(mask.shape)


def per_bit(scores: torch.Tensor, mask: torch.Tensor, rate: float) -> torch.Tensor:
    """Scores that count what a weight costs: score / bits^(rate / 2).

    The loss that removing a weight brings grows with its square, so at ``rate`` 1 magnitudes are compared
    by loss per bit.

    Args:
        scores: what an importance gave, not negative.
        mask: the weights that are kept so far, in the same shape.
        rate: 0 leaves the scores as they are.
    """
    if not rate:
        return scores
    return scores * weight_bits(mask).pow(-rate / 2)
