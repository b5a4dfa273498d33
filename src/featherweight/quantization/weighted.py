"""Hessian-weighted k-means: squared errors count by what they cost the loss.

Near a minimum of the loss, moving a weight by e costs about ½ h e², h the Hessian's diagonal; so clusters are
to minimise Σ h (w − c)² in place of Σ (w − c)² (Y. Choi, M. El-Khamy & J. Lee, "Towards the limit of network
quantization", 2017, sections 3.3 and 3.5). Two stand-ins for h that cost little:

- the diagonal of the empirical Fisher matrix, the mean of squared gradients of single samples
  (:func:`fisher_diagonal`);
- the second moments that Adam keeps of its gradients anyway (:func:`adam_second_moments`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from featherweight.errors import RecipeError, TensorError
from featherweight.quantization.kmeans import quantize_kmeans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from featherweight.tensors import QuantizedTensor

#: Gradients of so many samples are held at a time.
_SAMPLES_AT_ONCE = 16

#: What is added to the importance of every weight, as a fraction of the mean.
_FLOOR = 0.1


def quantize_weighted(
    weights: NDArray[Any],
    sample_weights: NDArray[Any],
    bits: int,
    init: str = "density",
    fix_zeros: bool = True,
    seed: int = 0,
) -> QuantizedTensor:
    """Share the weights of one tensor by Hessian-weighted k-means.

    Args:
        weights: float16, float32 or float64, any shape.
        sample_weights: h, in the shape of ``weights``, finite and not negative. A cluster whose h are all
            zero keeps the centroid that it had; if all are zero, each counts the same.
        bits: the codebook holds at most 2^bits values, 1 to 8.
        init: a name in :data:`~featherweight.quantization.INITIALIZATIONS`.
        fix_zeros: keep zeros at index 0 with the value 0, and cluster the others with 2^bits − 1 centroids.
        seed: for the random initializations.

    Returns:
        Indices and a codebook in the dtype of ``weights``, ascending behind the fixed zero.

    Raises:
        TensorError: where weights are not finite, or ``sample_weights`` do not fit them.
    """
    return quantize_kmeans(weights, bits, init, fix_zeros, seed, sample_weights)


def fisher_diagonal(
    model: torch.nn.Module,
    data: Iterable[tuple[torch.Tensor, torch.Tensor]],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    names: Iterable[str] | None = None,
) -> dict[str, torch.Tensor]:
    """The mean over samples of each parameter's squared gradient.

    Args:
        model: evaluated in evaluation mode, so that samples do not mix in batch normalisation; its mode,
            weights and gradients are left as they are.
        data: batches of inputs and targets.
        loss: ``loss(model(inputs), targets)``, of batches of one sample.
        names: parameters wanted; all unless given.

    Returns:
        By parameter name, float32 in the parameter's shape.

    Raises:
        TensorError: where there is no sample.
    """
    wanted = None if names is None else set(names)
    held = {name: p.detach() for name, p in model.named_parameters()}
    chosen = {name: p for name, p in held.items() if wanted is None or name in wanted}
    rest = {**{n: p for n, p in held.items() if n not in chosen}, **dict(model.named_buffers())}

    def sample_loss(
        parameters: dict[str, torch.Tensor], inputs: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        outputs = torch.func.functional_call(model, {**rest, **parameters}, (inputs[None],))
        return loss(outputs, target[None])

    gradients = torch.func.vmap(
        torch.func.grad(sample_loss),
        in_dims=(None, 0, 0),
        chunk_size=_SAMPLES_AT_ONCE,
        randomness="different",
    )
    sums = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in chosen.items()}
    samples, training = 0, model.training
    model.eval()
    try:
        for inputs, targets in data:
            for start in range(0, len(targets), _SAMPLES_AT_ONCE):
                part = slice(start, start + _SAMPLES_AT_ONCE)
                for name, gradient in gradients(chosen, inputs[part], targets[part]).items():
                    sums[name] += gradient.float().square().sum(dim=0)
            samples += len(targets)
    finally:
        model.train(training)
    if not samples:
        raise TensorError("the data hold no sample; the Fisher diagonal needs at least one")
    return {name: total / samples for name, total in sums.items()}


def adam_second_moments(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, torch.nn.Parameter]
) -> dict[str, torch.Tensor]:
    """What an Adam-like optimizer knows of the mean squared gradient of each parameter.

    Args:
        optimizer: has taken steps and keeps ``exp_avg_sq`` (Adam, AdamW, NAdam, RAdam) or ``square_avg``
            (RMSprop).
        parameters: by name.

    Raises:
        RecipeError: where it has none for one of the parameters, naming it.
    """
    moments = {}
    for name, parameter in parameters.items():
        state = optimizer.state.get(parameter, {})
        moment = state.get("exp_avg_sq", state.get("square_avg"))
        if not isinstance(moment, torch.Tensor) or moment.shape != parameter.shape:
            raise RecipeError(
                f"{name}: {type(optimizer).__name__} has no second moments of it; take steps with Adam "
                f"before sharing, or quantize with weights: fisher"
            )
        moments[name] = moment.detach().clone()
    return moments


def with_floor(importance: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Importance plus a tenth of its mean over the weights that are not zero, float64 on the CPU.

    Estimates from few samples are zero for many weights, which could then move anywhere.
    """
    wide = importance.detach().double().cpu()
    kept = wide[weight.detach().cpu() != 0]
    return wide + _FLOOR * (kept.mean() if kept.numel() else 0.0)
