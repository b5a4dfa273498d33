"""Hidden units: which of them are dead, and in which order they stand.

A hidden unit is a row of one layer and the input of that number of the next. A unit that nothing feeds or
nothing reads does nothing, so its other weights can go as well. And units can change places, rows with
inputs, without any change of what the network computes; a coder that learns as it goes spends fewer bits
where full rows stand together and empty ones at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featherweight.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch


def check_units(shapes: Mapping[str, tuple[int, ...]], pairs: Iterable[tuple[str, str]]) -> None:
    """Make sure that one layer's units are the next one's inputs.

    Args:
        shapes: of all the network's tensors, by name.
        pairs: names of a layer and of the one that alone reads it, such as ``("fc1", "fc2")``.

    Raises:
        RecipeError: where a layer is missing or the shapes do not fit, naming it.
    """
    for layer, reader in pairs:
        for name in (layer, reader):
            if len(shapes.get(f"{name}.weight", ())) < 2:
                raise RecipeError(
                    f"units: there is no layer {name!r} with a weight of two dimensions or more"
                )
        units, inputs = shapes[f"{layer}.weight"][0], shapes[f"{reader}.weight"][1]
        if not units or inputs % units:
            raise RecipeError(
                f"units: {reader} has {inputs} inputs, which {units} units of {layer} cannot feed"
            )


def without_dead_units(
    masks: Mapping[str, torch.Tensor], pairs: Iterable[tuple[str, str]]
) -> dict[str, torch.Tensor]:
    """Prune what feeds units that nothing reads, and what reads units that nothing feeds.

    A unit that nothing feeds still puts out its bias; training has to make up for that.

    Args:
        masks: bool by parameter name, true where kept. A layer without a mask is taken for unpruned.
        pairs: names of layers, as for :func:`check_units`; a unit of a convolution feeds as many inputs
            of a linear layer as its map has pixels.

    Returns:
        New masks of the same names.
    """
    result = {name: mask.clone() for name, mask in masks.items()}
    pairs = [pair for pair in pairs if all(f"{name}.weight" in result for name in pair)]
    changed = True
    while changed:  # a unit that dies may take its neighbours with it
        changed = False
        for layer, reader in pairs:
            rows, inputs = result[f"{layer}.weight"], result[f"{reader}.weight"]
            fed = rows.flatten(1).any(1)
            read = _inputs_per_unit(inputs, len(rows)).any(1)
            changed |= bool((fed != read).any())
            rows[~read] = False
            inputs[:, (~fed).repeat_interleave(inputs.shape[1] // len(rows))] = False
    return result


def arrange_units(
    state: Mapping[str, torch.Tensor], pairs: Iterable[tuple[str, str]]
) -> dict[str, torch.Tensor]:
    """Put the units with the most weights first and dead ones last, without the biases of the dead.

    What the network computes stays the same, but for the order in which sums are taken.

    Args:
        state: a network's tensors by name; not changed.
        pairs: names of layers, as for :func:`check_units`, from the input on.
    """
    result = {name: tensor.clone() for name, tensor in state.items()}
    for layer, reader in pairs:
        rows, inputs = result[f"{layer}.weight"], result[f"{reader}.weight"]
        fed = (rows != 0).flatten(1).sum(1).tolist()
        read = _inputs_per_unit(inputs != 0, len(rows)).sum(1)
        order = sorted(range(len(rows)), key=lambda i: (-fed[i], -int(read[i]), i))
        bias = result.get(f"{layer}.bias")
        if bias is not None:
            result[f"{layer}.bias"] = bias.masked_fill(read == 0, 0)[order]
        result[f"{layer}.weight"] = rows[order]
        each = inputs.shape[1] // len(rows)  # inputs that one unit feeds
        result[f"{reader}.weight"] = inputs[:, [each * unit + i for unit in order for i in range(each)]]
    return result


def _inputs_per_unit(inputs: torch.Tensor, units: int) -> torch.Tensor:
    """What reads each unit, ``(units, weights)``."""
    return inputs.transpose(0, 1).reshape(units, -1)
