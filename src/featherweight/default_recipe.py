"""What ``featherweight compress`` does to a checkpoint of which only names, shapes and types are known."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from featherweight.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from featherweight.lazy import TensorSpec
    from featherweight.recipe import Budget, Quantize, Recipe

#: Bits that the paper gives to convolutions and to fully connected layers, by their number of dimensions.
CONVOLUTION_BITS, MATRIX_BITS = 8, 5

#: Bits of embeddings at least.
EMBEDDING_BITS = 6

#: Weights of so many bits at most are rounded by what layers give.
OUTPUT_AWARE_BITS = 6

#: What names of embeddings (and of heads tied to them) and of normalisation layers have in them.
_EMBEDDING = re.compile(r"embed|(^|[._])emb([._]|$)|(^|\.)(wte|wpe|shared)\.weight$", re.IGNORECASE)
_NORM = re.compile(r"norm|(^|[._])(ln|bn)(\d|_|\.)", re.IGNORECASE)


def default_recipe(
    path: Path,
    specs: Mapping[str, TensorSpec],
    sparsity: float | None = None,
    bits: str | int | None = None,
    budget: Budget | None = None,
) -> Recipe:
    """Prune and share float tensors of two dimensions or more; biases, norms and single rows stay.

    Embeddings are looked up rather than multiplied, so that no error averages out: they are not pruned and
    get at least 6 bits, and so does a head that is tied to one.

    Args:
        path: of the checkpoint, for errors.
        specs: of its tensors.
        sparsity: of each of them.
        bits: of each of them, or ``auto``.
        budget: with ``auto``.

    Raises:
        CheckpointError: if there is no such tensor.
    """
    # Recipes need PyTorch, which help and completion, who ask for the bits above, do without.
    from featherweight.recipe import Prune, Quantize, Recipe, Rule

    floats = [(name, spec) for name, spec in specs.items() if spec.dtype.startswith(("float", "bfloat"))]
    layers = [(name, spec) for name, spec in floats if len(spec.shape) > 1 and not _NORM.search(name)]
    embeddings = [name for name, spec in layers if _EMBEDDING.search(name) and _is_looked_up(spec)]
    layers = [(name, spec) for name, spec in layers if name not in embeddings and spec.shape[0] > 1]
    turned = inputs_first(specs)
    matrices = [name for name, spec in layers if len(spec.shape) == 2 and name not in turned]
    convolutions = [name for name, spec in layers if len(spec.shape) > 2]
    prune = Prune(sparsity=sparsity) if sparsity is not None else None
    looked_up = bits if isinstance(bits, str) else max(bits or MATRIX_BITS, EMBEDDING_BITS)
    usual = _usual(bits or MATRIX_BITS)
    chosen = (
        (embeddings, None, Quantize("kmeans", looked_up, init="density")),
        (convolutions, prune, _usual(bits or CONVOLUTION_BITS)),
        (matrices, prune, usual),
        ([name for name, _ in layers if name in turned], prune, replace(usual, transposed=True)),
    )
    rules = tuple(Rule(_just(names), how, quantize) for names, how, quantize in chosen if names)
    if not rules:
        raise CheckpointError(
            f"{path}: has no float tensor of two dimensions or more to compress; name others in a --recipe"
        )
    return Recipe(rules, budget=budget)


def inputs_first(specs: Mapping[str, TensorSpec]) -> set[str]:
    """Names of matrices that are stored ``(in, out)``, as transformers' ``Conv1D`` of GPT-2 does.

    A layer's bias has as many values as it has outputs. Where a matrix is square, those of the same name in
    other blocks or layers tell.

    Args:
        specs: of a checkpoint's tensors, by name.
    """
    votes: dict[str, set[bool]] = {}
    square: list[tuple[str, str]] = []
    found = set()
    for name, spec in specs.items():
        bias = specs.get(f"{name.removesuffix('.weight')}.bias")
        if not name.endswith(".weight") or len(spec.shape) != 2 or bias is None or len(bias.shape) != 1:
            continue
        layer = name.split(".")[-2] if "." in name.removesuffix(".weight") else name.removesuffix(".weight")
        rows, columns = spec.shape
        if rows == columns == bias.shape[0]:
            square.append((name, layer))
        elif bias.shape[0] in (rows, columns):
            turned = bias.shape[0] == columns
            votes.setdefault(layer, set()).add(turned)
            if turned:
                found.add(name)
    return found | {name for name, layer in square if votes.get(layer) == {True}}


def _is_looked_up(spec: TensorSpec) -> bool:
    """Whether a tensor has rows to look up, ``(n, d)`` or ``(1, n, d)``; a patch embedding has filters."""
    rows = math.prod(spec.shape[:-1])
    return len(spec.shape) == 2 or (spec.shape[0] == 1 and len(spec.shape) == 3 and rows > 1)


def _usual(bits: str | int) -> Quantize:
    """Few bits rounded so that outputs change least; with many there is nothing to gain."""
    from featherweight.recipe import Quantize

    if isinstance(bits, str) or bits > OUTPUT_AWARE_BITS:
        return Quantize(bits=bits)
    return Quantize("optimal", bits, fix_zeros=None, rounding="outputs")


def _just(names: list[str]) -> str:
    """A pattern that matches these names and no other."""
    return "re:" + "|".join(map(re.escape, names))
