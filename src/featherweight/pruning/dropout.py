"""Less dropout where less is left: D_r = D_o · √(C_ir / C_io).

C_io is how many connections layer i has, C_ir how many are left after pruning, and D the probability of
dropout before it. Source: S. Han et al., "Learning both weights and connections for efficient neural
networks" (2015), section 3.2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import fx, nn

from featherweight.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)

#: The layers that each dropout is before, by their names in the model.
Feeds: TypeAlias = "Mapping[str, Sequence[str]]"


def adjust_dropout(
    model: nn.Module, *, feeds: Feeds | None = None, original: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Set the probability of every dropout before pruned layers by the connections they have left.

    A weight of zero is a connection that is gone. A dropout before several layers takes the connections
    of all of them together, as does one that is called in several places. ``p`` is an attribute, no part
    of ``state_dict``: after loading a pruned state dict into a new model, call it again.

    Args:
        model: dropout modules get a new ``p``.
        feeds: the layers that each dropout is before, by name; found by ``torch.fx`` unless given.
        original: D_o by name, where the model's ``p`` has been adjusted before; the model's own unless given.

    Returns:
        The new ``p`` by the dropout's name.

    Raises:
        RecipeError: where the model cannot be traced and ``feeds`` is not given, or names what is not there.
    """
    modules = dict(model.named_modules())
    adjusted = {}
    for name, layers in dropout_feeds(model, feeds).items():
        weights = [_weight(modules[layer]) for layer in layers]
        total = sum(weight.numel() for weight in weights)
        left = sum(int(weight.count_nonzero()) for weight in weights)
        before = (original or {}).get(name, float(modules[name].p))
        adjusted[name] = before * math.sqrt(left / total) if total else before
        modules[name].p = adjusted[name]
    return adjusted


def dropout_feeds(model: nn.Module, feeds: Feeds | None = None) -> dict[str, list[str]]:
    """The layers of weights that come next after each dropout, by name, in the order of the model.

    Args:
        model: traced symbolically, and not run.
        feeds: the answer, which is then only checked.

    Raises:
        RecipeError: as for :func:`adjust_dropout`.
    """
    found = (
        _traced(model) if feeds is None else {name: _names(name, layers) for name, layers in feeds.items()}
    )
    modules = dict(model.named_modules())
    for name, layers in found.items():
        if not isinstance(modules.get(name), _DROPOUT):
            raise RecipeError(f"adjust_dropout: {name!r} is no dropout of the model; {_there(modules)}")
        for layer in layers:
            if layer not in modules or not _is_layer(modules[layer]):
                raise RecipeError(
                    f"adjust_dropout: {name} is before {layer!r}, which is no layer with weights"
                )
    return found


def _names(name: str, layers: object) -> list[str]:
    named = [layers] if isinstance(layers, str) else layers
    if not isinstance(named, list | tuple) or not named or not all(isinstance(one, str) for one in named):
        raise RecipeError(
            f"adjust_dropout[{name}]: expected a layer's name or a list of them, got {layers!r}"
        )
    return list(named)


def _there(modules: Mapping[str, nn.Module]) -> str:
    names = [name for name, module in modules.items() if isinstance(module, _DROPOUT)]
    return f"it has: {', '.join(names)}" if names else "it has none"


def _weight(layer: nn.Module) -> torch.Tensor:
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)  # noqa: S101  (checked in _is_layer)
    return weight.detach()


def _is_layer(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, torch.Tensor) and weight.ndim > 1


class _Tracer(fx.Tracer):
    """Keeps layers that own a weight whole, whoever wrote them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _is_layer(m) or super().is_leaf_module(m, module_qualified_name)


def _traced(model: nn.Module) -> dict[str, list[str]]:
    modules = dict(model.named_modules())
    if not any(isinstance(module, _DROPOUT) for module in modules.values()):
        return {}
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # the model's own code runs, on stand-ins for tensors
        why = " ".join(str(error).split())[:200]
        raise RecipeError(
            f"adjust_dropout: torch.fx cannot trace {type(model).__name__}: {why}; say which layers each "
            f"dropout is before, such as {{dropout: [fc2]}}"
        ) from error
    found: dict[str, set[str]] = {}
    for node in graph.nodes:
        if node.op == "call_module" and isinstance(modules[node.target], _DROPOUT):
            found.setdefault(node.target, set()).update(_next_layers(node, modules))
    order = {name: i for i, name in enumerate(modules)}
    return {name: sorted(layers, key=order.__getitem__) for name, layers in found.items() if layers}


def _next_layers(node: fx.Node, modules: Mapping[str, nn.Module]) -> set[str]:
    """Names of the layers that a node's value reaches without passing another one."""
    layers, seen, left = set(), {node}, list(node.users)
    while left:
        user = left.pop()
        if user in seen:
            continue
        seen.add(user)
        if user.op == "call_module" and _is_layer(modules[str(user.target)]):
            layers.add(str(user.target))
        else:
            left.extend(user.users)
    return layers
