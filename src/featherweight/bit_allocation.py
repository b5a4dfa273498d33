"""``bits: auto``: the bits of each tensor, chosen under a budget by what its errors cost the network."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from featherweight.compression import CompressedTensors, compressed_tensors
from featherweight.errors import RecipeError
from featherweight.fileformat.writer import describe, encode_entry, size_of_file
from featherweight.files import as_stored
from featherweight.pruning.importance.calibration import evaluating
from featherweight.quantization.allocation import allocate
from featherweight.quantization.weighted import fisher_diagonal, with_floor
from featherweight.sharing import importance_of, quantize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch.optim import Optimizer

    from featherweight.fileformat.directory import Entry
    from featherweight.pruning import Progress
    from featherweight.recipe import Budget, Quantize, Recipe, Rule
    from featherweight.sharing import Batches, Loss
    from featherweight.tensors import QuantizedTensor

logger = logging.getLogger(__name__)

#: Training samples that judge errors, where there are data.
SAMPLES = 1024

#: A shared value that is trained stands nowhere in particular; moved by up to this part of itself it does so.
_TRAINED = 1e-3


@dataclass(frozen=True)
class Candidate:
    """A tensor in so many bits.

    Attributes:
        bits: of an index.
        entry: as the file's directory tells of it; its length is that of the payload, in bytes.
        cost: of its error to the network; what it counts in depends on the sensitivity.
    """

    bits: int
    entry: Entry
    cost: float


#: By tensor name.
_Candidates: TypeAlias = "Mapping[str, Sequence[Candidate]]"

#: ``(name, tensor, quantized) -> cost``.
_Cost: TypeAlias = "Callable[[str, torch.Tensor, QuantizedTensor], float]"


def choose_bits(
    model: torch.nn.Module | Mapping[str, torch.Tensor],
    recipe: Recipe,
    *,
    data: Batches | None = None,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    trained: bool = False,
    progress: Progress | None = None,
) -> Recipe:
    """Choose the bits of each tensor whose rule says ``bits: auto``, under the recipe's budget.

    Every tensor is quantized and coded in every number of bits that its method has; the choice whose errors
    cost least within the budget, by the coder's own bytes, is found by dynamic programming.

    Args:
        model: a module or a state dict; it is not changed. Rules prune it first.
        recipe: with a budget.
        data: batches that judge what an error costs, of the training set; 1,024 samples are used.
        loss: ``loss(model(inputs), targets)``, with ``data``; a module is needed, too.
        optimizer: for rules with ``weights: adam``.
        trained: shared values will be trained: count their bytes as of values that stand nowhere in
            particular, for evenly spaced ones take fewer.
        progress: called with what is being done, how many tensors are done, and how many there are.

    Returns:
        The recipe with ``bits`` for every such tensor, by name.

    Raises:
        RecipeError: where the budget is out of reach, saying which is within; where the recipe has no
            ``bits: auto``, or asks for a sensitivity that needs data without any.
        TensorError: where weights are not finite, naming the tensor.
    """
    budget = recipe.budget
    if budget is None:
        raise RecipeError("choose_bits needs a rule with bits: auto and a budget")
    if (data is None) != (loss is None):
        raise TypeError("data and loss go together: gradients need both")
    tensors = compressed_tensors(model, recipe, tell=False)
    if not tensors.automatic:
        raise RecipeError(
            "bits: auto: its rules match no tensor of floating-point numbers that they quantize"
        )
    judge = _Judge(model, tensors, budget, _first_samples(data), loss, optimizer)
    found: dict[str, list[Candidate]] = {}
    for name, rule in tensors.automatic.items():
        found[name] = list(judge.candidates(name, rule, trained=trained))
        if progress is not None:
            progress("choosing bits", len(found), len(tensors.automatic))
    if budget.mean_bits is not None:
        weights = sum(math.prod(tensors.specs[name].shape) for name in found)
        chosen = _by_mean_bits(found, budget.mean_bits, weights)
    else:
        lowest = replace(recipe, bits={name: candidates[0].bits for name, candidates in found.items()})
        others = describe(as_stored(compressed_tensors(model, lowest, tell=False)), recipe.code.coder)
        chosen = _by_file_bytes(found, budget.file_bytes or 0, others)
    logger.info("bits chosen: %s", ", ".join(f"{name} {chosen[name].bits}" for name in found))
    return replace(recipe, bits={name: chosen[name].bits for name in found})


def _by_mean_bits(found: _Candidates, mean_bits: float, weights: int) -> dict[str, Candidate]:
    """The best choice whose payloads have so many bits a weight."""
    chosen = _allocate(found, int(mean_bits * weights / 8))
    least, most = (8 * sum(c.entry.length for c in end.values()) / weights for end in _ends(found))
    if chosen is None:
        raise RecipeError(_out_of_reach(f"{mean_bits:g} bits a weight", f"{least:.3f}", f"{most:.3f} bits"))
    return chosen


def _by_file_bytes(found: _Candidates, target: int, others: dict[str, Entry]) -> dict[str, Candidate]:
    """The best choice whose file has so many bytes.

    Args:
        found: by name.
        target: bytes of the file.
        others: directory entries of the whole file, those of the candidates at any choice.
    """

    def size(chosen: Mapping[str, Candidate]) -> int:
        return size_of_file({**others, **{c.entry.name: c.entry for c in chosen.values()}}.values())

    smallest, largest = _ends(found)
    capacity = target - size(smallest) + sum(c.entry.length for c in smallest.values())
    # The directory grows with the lengths that it tells; by a few bytes, so that few rounds will do.
    while (chosen := _allocate(found, capacity)) is not None:
        if (excess := size(chosen) - target) <= 0:
            return chosen
        capacity -= excess
    least, most = size(smallest), size(largest)
    raise RecipeError(_out_of_reach(f"a file of {target:,} bytes", f"{least:,}", f"{most:,} bytes"))


def _out_of_reach(target: str, least: str, most: str) -> str:
    return (
        f"budget: {target} is out of reach: bits from the fewest to the most give {least} to {most}; "
        f"raise the target, prune more, or allow fewer bits"
    )


def _allocate(found: _Candidates, capacity: int) -> dict[str, Candidate] | None:
    """The choice of least cost whose payloads fit into ``capacity`` bytes."""
    layers = list(found.values())
    chosen = allocate(
        [[c.entry.length for c in layer] for layer in layers],
        [[c.cost for c in layer] for layer in layers],
        capacity,
    )
    if chosen is None:
        return None
    return {name: layer[i] for (name, layer), i in zip(found.items(), chosen, strict=True)}


def _ends(found: _Candidates) -> tuple[dict[str, Candidate], dict[str, Candidate]]:
    """The smallest and the largest candidate of each tensor."""
    return (
        {name: min(layer, key=lambda c: c.entry.length) for name, layer in found.items()},
        {name: max(layer, key=lambda c: c.entry.length) for name, layer in found.items()},
    )


def _first_samples(data: Batches | None) -> list[tuple[torch.Tensor, torch.Tensor]] | None:
    if data is None:
        return None
    taken, left = [], SAMPLES
    for inputs, targets in data:
        taken.append((inputs[:left], targets[:left]))
        left -= len(targets)
        if left <= 0:
            break
    if not taken:
        raise RecipeError("the data that shall choose bits hold no batch; an iterator gives its batches once")
    return taken


class _Judge:
    """Makes candidates and says what their errors cost."""

    def __init__(
        self,
        model: torch.nn.Module | Mapping[str, torch.Tensor],
        tensors: CompressedTensors,
        budget: Budget,
        data: list[tuple[torch.Tensor, torch.Tensor]] | None,
        loss: Loss | None,
        optimizer: Optimizer | None,
    ) -> None:
        self._tensors, self._budget = tensors, budget
        network = model if isinstance(model, torch.nn.Module) else None
        seen = None if network is None or data is None or loss is None else (network, data, loss)
        how = budget.sensitivity or ("weights" if seen is None else "fisher")
        if how != "weights" and seen is None:
            raise RecipeError(
                f"sensitivity: {how} needs a network and training data; give choose_bits the module, "
                f"data and loss, or take sensitivity: weights"
            )
        asked = {n for n, r in tensors.automatic.items() if how == "fisher" or _weighed(r) == "fisher"}
        self._fisher = fisher_diagonal(*seen, asked) if seen is not None and asked else {}
        self._importance, self._power = self._importances(network, optimizer)
        self._cost: _Cost = _weight_error
        if how == "fisher":
            self._cost = self._fisher_error
        elif how == "loss" and seen is not None:
            self._cost = _LossRise(*seen)

    def _importances(
        self, network: torch.nn.Module | None, optimizer: Optimizer | None
    ) -> tuple[dict[str, torch.Tensor], dict[str, float | None]]:
        """Importance of weights and its power, as :func:`featherweight.share` takes them, by tensor."""
        importance: dict[str, torch.Tensor] = {}
        power: dict[str, float | None] = {}
        parameters = {} if network is None else dict(network.named_parameters(remove_duplicate=False))
        for rule in dict.fromkeys(self._tensors.automatic.values()):
            how = _weighed(rule)
            if rule.quantize is None or how is None or (how == "fisher" and not self._fisher):
                continue  # quantizing says that data are missing
            mine = {
                n: parameters[n] for n, r in self._tensors.automatic.items() if r == rule and n in parameters
            }
            of_rule, of_all = importance_of(rule.quantize, mine, self._fisher, optimizer)
            importance.update(of_rule)
            power.update(dict.fromkeys(mine, of_all))
        return importance, power

    def candidates(self, name: str, rule: Rule, *, trained: bool) -> Iterator[Candidate]:
        """A tensor in every number of bits, fewest first."""
        assert rule.quantize is not None  # noqa: S101  (rules of automatic tensors quantize)
        tensor, coder = self._tensors.pruned(name), self._tensors.coder(rule)
        for bits in self._widths(name, rule.quantize):
            spec = replace(rule.quantize, bits=bits)
            shared = quantize(name, tensor, spec, self._importance.get(name), self._power.get(name))
            stored = replace(_moved(shared) if trained else shared, coder=coder)
            entry, _ = encode_entry(self._tensors.file_name(name), stored, coder)
            yield Candidate(bits, entry, self._cost(name, tensor, shared))

    def _widths(self, name: str, spec: Quantize) -> list[int]:
        low, high = self._budget.min_bits, self._budget.max_bits
        widths = [bits for bits in spec.widths if low <= bits <= high]
        if not widths:
            raise RecipeError(
                f"{name}: {spec.method} has {spec.widths[0]} to {spec.widths[-1]} bits, none of them within "
                f"min_bits {low} and max_bits {high}"
            )
        return widths

    def _fisher_error(self, name: str, tensor: torch.Tensor, shared: QuantizedTensor) -> float:
        h = with_floor(self._fisher[name], tensor).numpy()
        return float(0.5 * (h * (_wide(tensor) - _values(shared)) ** 2).sum())


def _weighed(rule: Rule) -> str | None:
    return None if rule.quantize is None else rule.quantize.weights


class _LossRise:
    """How much a tensor that is quantized alone adds to the mean loss, 0 where it takes something away."""

    #: Where the loss cannot tell two candidates apart, errors of the weights do.
    SMALL = 1e-4

    def __init__(
        self, network: torch.nn.Module, data: list[tuple[torch.Tensor, torch.Tensor]], loss: Loss
    ) -> None:
        self._network, self._data, self._loss = network, data, loss
        self._before = self._mean({})

    def __call__(self, name: str, tensor: torch.Tensor, shared: QuantizedTensor) -> float:
        values = torch.from_numpy(_values(shared)).to(tensor)
        rise = max(0.0, self._mean({name: values}) - self._before)
        return rise + self.SMALL * _weight_error(name, tensor, shared)

    @torch.no_grad()
    def _mean(self, changed: dict[str, torch.Tensor]) -> float:
        with evaluating(self._network), torch.no_grad():
            total = sum(
                float(self._loss(torch.func.functional_call(self._network, changed, (x,)), y)) * len(y)
                for x, y in self._data
            )
        return total / sum(len(y) for _, y in self._data)


def _weight_error(name: str, tensor: torch.Tensor, shared: QuantizedTensor) -> float:
    """Squared error e over what it leaves of the power p, e / (p − e): noise over signal at the outputs.

    At most a hundred times e / p, so that a tensor that keeps nothing has a cost as well.
    """
    array = _wide(tensor)
    power = float((array**2).sum())
    error = float(((array - _values(shared)) ** 2).sum())
    return error / max(power - error, 0.01 * power) if power else 0.0


def _wide(tensor: torch.Tensor) -> NDArray[np.float64]:
    return tensor.detach().cpu().double().numpy()


def _values(shared: QuantizedTensor) -> NDArray[np.float64]:
    return shared.dequantize().astype(np.float64)


def _moved(shared: QuantizedTensor) -> QuantizedTensor:
    """The same indices with values that the file format has no short way to write."""
    if shared.dtype == "bfloat16":
        return shared
    away = 1 + _TRAINED * np.random.default_rng(0).uniform(-1, 1, shared.codebook.size)
    return replace(shared, codebook=(shared.codebook * away).astype(shared.codebook.dtype))
