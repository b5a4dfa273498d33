"""Neuron importance score propagation: how much of the last hidden response each unit feeds.

R. Yu et al., "NISP: Pruning networks using neuron importance score propagation" (2018). The units of the
last hidden response are scored, and scores are carried back by s_l = abs(W_{l+1})ᵀ s_{l+1}, activations and
biases left out; of a convolution, summed over kernel positions. Where the paper scores the last response by
Inf-FS, here it is by its own spread: mean(abs(a)) · Var(a) of each unit over the examples.

A backward pass through the network carries the scores, with abs(W) for W, no biases and no activations: it
goes through residual additions, concatenations and pooling as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from featherweight.errors import TensorError
from featherweight.pruning.granularity import sum_groups
from featherweight.pruning.importance.protocol import NetworkImportance, at_least

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from featherweight.pruning.importance.calibration import Batch, Calibration

_LAYERS = {F.linear, F.conv1d, F.conv2d, F.conv3d, torch.conv1d, torch.conv2d, torch.conv3d}
_TRANSPOSED = {F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d}
_NORMS = {F.batch_norm, torch.batch_norm}

#: Functions of one response that leave its units what they are, by name wherever they are defined.
_ACTIVATIONS = frozenset(
    [
        "celu",
        "elu",
        "gelu",
        "hardshrink",
        "hardsigmoid",
        "hardswish",
        "hardtanh",
        "leaky_relu",
        "logsigmoid",
        "mish",
        "prelu",
        "relu",
        "relu6",
        "rrelu",
        "selu",
        "sigmoid",
        "silu",
        "softplus",
        "softshrink",
        "softsign",
        "tanh",
        "tanhshrink",
        "threshold",
        "abs",
        "clamp",
        "clamp_min",
        "dropout",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "alpha_dropout",
        "feature_alpha_dropout",
    ]
)


@dataclass(frozen=True)
class NISP(NetworkImportance):
    """Scores of units, carried back from the last hidden response.

    A filter's score is its unit's s_o; a weight's or kernel's is s_o · Σ abs(w), its part in the score of its
    input; a channel's is that of its input, the sum of these. In the last layer, whose outputs are the
    network's, a weight's is s_c · abs(w), s_c of its input, and a filter has none. A tensor's scores are
    divided by their mean, so that scope ``global`` compares layers.

    Attributes:
        samples: examples over which the last hidden response is measured, at most.
    """

    samples: int = 1024

    def __post_init__(self) -> None:
        at_least("samples", self.samples, 1)

    def scores(
        self, weights: Mapping[str, torch.Tensor], granularity: str, calibration: Calibration
    ) -> dict[str, torch.Tensor]:
        """Score the groups of some weights.

        Raises:
            TensorError: for a tensor that is no weight of a linear or convolutional layer, and for the
                filters of the last layer.
        """
        batches = calibration.examples(self.samples)
        names = {id(p): name for name, p in calibration.network.named_parameters()}
        response = _last_response(calibration, batches)
        carried = _carry_back(calibration.network, batches[0][0][:1], response, names)
        result = {}
        for name, weight in weights.items():
            score = _group_scores(name, weight.detach().abs(), granularity, response, carried)
            result[name] = score / score.mean().clamp(min=torch.finfo(score.dtype).tiny)
        return result


@dataclass
class _Response:
    """The last hidden response.

    Attributes:
        scores: of its units, ``(units,)``.
        layer: how many layers are called before the last one, whose input it is.
        weight: the identity of that layer's weight.
    """

    scores: torch.Tensor
    layer: int
    weight: int


def _group_scores(
    name: str,
    weight: torch.Tensor,
    granularity: str,
    response: _Response,
    carried: dict[str, torch.Tensor | None],
) -> torch.Tensor:
    if name not in carried:
        raise TensorError(
            f"{name}: nisp scores the weights of linear layers and convolutions that feed the last hidden "
            f"response or the output; leave it out of the rule, or take another importance"
        )
    units = carried[name]
    if units is None:  # the last layer
        if granularity == "filter":
            raise TensorError(
                f"{name}: nisp has no scores for the units of the last layer, the network's outputs; "
                f"leave it out of the rule, or take another granularity"
            )
        of_inputs = response.scores.reshape(1, -1, *[1] * (weight.ndim - 2))
        if granularity == "channel":
            return response.scores
        return sum_groups(weight * of_inputs, granularity)
    if granularity == "filter":
        return units
    return sum_groups(weight * units.reshape(-1, *[1] * (weight.ndim - 1)), granularity)


# -- the last hidden response ------------------------------------------------------------------------


@dataclass
class _Calls(TorchFunctionMode):
    """Watch the layers that a network calls."""

    seen: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in _LAYERS:
            inputs, weight = _bind(args, kwargs or {})
            self.seen.append((inputs.detach(), weight))
        return func(*args, **(kwargs or {}))


def _bind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = args[0] if args else kwargs["input"]
    weight = args[1] if len(args) > 1 else kwargs["weight"]
    return inputs, weight


@torch.no_grad()
def _last_response(calibration: Calibration, batches: list[Batch]) -> _Response:
    """Score the units of the last hidden response: mean(abs(a)) · Var(a) over examples and positions."""
    parts, layer, weight = [], 0, 0
    for i, (inputs, _) in enumerate(batches):
        with _Calls() as calls:
            calibration.network(inputs)
        if len(calls.seen) < 2:
            raise TensorError("nisp needs a network of two linear or convolutional layers at least")
        response, last = calls.seen[-1]
        layer, weight = len(calls.seen) - 1, id(last)
        # Units first: (N, C, H, W) of a convolution, (N, ..., C) of a linear layer.
        units = response.movedim(1 if last.ndim > 2 else -1, 0)
        parts.append(units.reshape(len(units), -1))
        calibration.progress("last hidden response", i + 1, len(batches))
    response = torch.cat(parts, dim=1)
    scores = response.abs().mean(1) * response.var(1, correction=0)
    if not bool((scores > 0).any()):
        raise TensorError("nisp: the last hidden response is the same for all examples; give more of them")
    return _Response(scores, layer, weight)


# -- carrying back -----------------------------------------------------------------------------------


class _AbsoluteLinear(TorchFunctionMode):
    """Run a network with abs(W) for W, without biases and activations, and note each layer's output."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[torch.Tensor] = []
        self.outputs: list[torch.Tensor] = []
        self.weights: list[torch.Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if func in _LAYERS or func in _TRANSPOSED:
            return self._layer(func, args, kwargs)
        if func in _NORMS:
            return _scale(args, kwargs)
        if name.rstrip("_") in _ACTIVATIONS:
            return args[0] if args else kwargs["input"]
        return func(*args, **kwargs)

    def _layer(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        inputs, weight = _bind(args, kwargs)
        options = {k: v for k, v in kwargs.items() if k not in ("input", "weight", "bias")}
        output: torch.Tensor = func(inputs, weight.detach().abs(), None, *args[3:], **options)
        if func in _LAYERS:
            self.inputs.append(inputs)
            self.outputs.append(output)
            self.weights.append(weight)
        return output


def _scale(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """Batch normalisation as the factor abs(γ) / σ on each channel."""
    names = ("input", "running_mean", "running_var", "weight", "bias")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    inputs: torch.Tensor = given["input"]
    factor = torch.ones((), device=inputs.device, dtype=inputs.dtype)
    if given.get("running_var") is not None:
        factor = (given["running_var"] + kwargs.get("eps", args[7] if len(args) > 7 else 1e-5)).rsqrt()
    if given.get("weight") is not None:
        factor = factor * given["weight"].detach().abs()
    return inputs * factor.reshape(-1, *[1] * (inputs.ndim - 2)) if factor.ndim else inputs


def _carry_back(
    network: torch.nn.Module, example: torch.Tensor, response: _Response, names: dict[int, str]
) -> dict[str, torch.Tensor | None]:
    """Scores of each layer's output units, ``(out,)``, by the name of its weight; ``None`` for the last."""
    start = torch.ones_like(example).requires_grad_(example.is_floating_point())
    with _AbsoluteLinear() as run:
        network(start)
    last = run.inputs[response.layer]
    seed = torch.zeros_like(last)
    units = seed.movedim(1 if run.weights[response.layer].ndim > 2 else -1, 0)
    per_unit = response.scores / (seed.numel() / len(units))  # spread over positions, so that it adds up
    units += per_unit.reshape(-1, *[1] * (units.ndim - 1))
    earlier = run.outputs[: response.layer]
    arrived = torch.autograd.grad(last, earlier, grad_outputs=seed, allow_unused=True, materialize_grads=True)
    carried: dict[str, torch.Tensor | None] = {}
    for output, weight, score in zip(earlier, run.weights, arrived, strict=False):
        name = names.get(id(weight))
        if name is None:
            continue
        dim = 1 if weight.ndim > 2 else -1
        total = score.movedim(dim, 0).reshape(output.shape[dim], -1).sum(1)
        before = carried.get(name)
        carried[name] = total if before is None else total + before
    owner = names.get(response.weight)
    if owner is not None and owner not in carried:
        carried[owner] = None
    return carried
