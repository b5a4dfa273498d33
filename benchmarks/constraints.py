"""What training under constraint costs, against a bare step and against the usual ways.

Each side takes whole training steps (forward, backward, optimizer) of the same network on the same batch:

- ``bare``: no constraint;
- ``mask``: pruned with ``fw.prune``;
- ``share``: pruned, then shared with ``fw.share``;
- ``torch prune``: masks by ``torch.nn.utils.prune``, multiplied in every forward pass;
- ``prune+lookup``: the same, and a codebook looked up by ``torch.nn.functional.embedding``.

The large layer is AlexNet's fc6: its input takes a gradient, as within the network.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize, prune

import featherweight as fw
from common import alternate, median_ratio, parser, write_json
from featherweight.models import LeNet5


@dataclass(frozen=True)
class Case:
    """A network and a batch for it."""

    name: str
    make: Callable[[], nn.Module]
    inputs: torch.Tensor
    targets: torch.Tensor
    sparsity: float
    bits: int


class Lookup(nn.Module):
    """A weight as ``codebook[indices] * mask``, trained through the look-up."""

    def __init__(self, shared: fw.QuantizedTensor) -> None:
        super().__init__()
        self.register_buffer("indices", torch.from_numpy(shared.indices).long())
        self.register_buffer("mask", (self.indices != 0).float())
        self.values = torch.from_numpy(shared.codebook)

    def forward(self, codebook: torch.Tensor) -> torch.Tensor:
        """The dense weight."""
        return nn.functional.embedding(self.indices, codebook.unsqueeze(1)).squeeze(-1) * self.mask

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        """What is trained in place of the weight."""
        return self.values


def stepper(model: nn.Module, optimizer: torch.optim.Optimizer, case: Case) -> Callable[[], None]:
    """One training step."""

    def step() -> None:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(case.inputs), case.targets)
        loss.backward()
        optimizer.step()

    return step


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of all sides."""
    return torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)


def sides(case: Case) -> dict[str, Callable[[], None]]:
    """A training step of each kind."""
    recipe = fw.Recipe(
        rules=(fw.Rule("*weight", fw.Prune(sparsity=case.sparsity), fw.Quantize(bits=case.bits)),)
    )
    result = {}
    bare = case.make()
    result["bare"] = stepper(bare, sgd(bare), case)

    masked = case.make()
    optimizer = sgd(masked)
    fw.prune(masked, recipe, optimizer=optimizer)
    result["mask"] = stepper(masked, optimizer, case)

    shared = case.make()
    optimizer = sgd(shared)
    fw.prune(shared, recipe, optimizer=optimizer)
    constraints = fw.share(shared, recipe, optimizer=optimizer)
    result["share"] = stepper(shared, optimizer, case)

    pruned, looked_up = case.make(), case.make()
    for name in constraints:
        path, _, attribute = name.rpartition(".")
        values = constraints.quantized(name)
        assert values is not None
        prune.custom_from_mask(pruned.get_submodule(path), attribute, torch.from_numpy(values.indices != 0))
        parametrize.register_parametrization(
            looked_up.get_submodule(path), attribute, Lookup(values), unsafe=True
        )
    result["torch prune"] = stepper(pruned, sgd(pruned), case)
    result["prune+lookup"] = stepper(looked_up, sgd(looked_up), case)
    return result


def cases() -> list[Case]:
    """LeNet-5, and a layer as large as AlexNet's fc6 at 9 % density with 32 shared values."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 1, 28, 28, generator=generator)
    features = torch.randn(128, 9216, generator=generator).requires_grad_()
    return [
        Case("LeNet-5, batch 64", LeNet5, images, torch.arange(64) % 10, 0.92, 5),
        Case(
            "9216×4096 layer, batch 128",
            lambda: nn.Linear(9216, 4096, bias=False),
            features,
            torch.arange(128),
            0.91,
            5,
        ),
    ]


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Time all sides of one case and print a table."""
    torch.manual_seed(0)
    seconds = alternate(sides(case), rounds)
    figures: dict[str, Any] = {}
    print(f"\n{case.name}: median of {rounds} steps")
    for name, times in seconds.items():
        ratio = median_ratio(seconds, name, "bare")
        figures[name] = {"milliseconds": 1e3 * statistics.median(times), "ratio": ratio}
        print(f"  {name:<13}{1e3 * statistics.median(times):9.2f} ms   {ratio:6.3f} × bare")
    # Sharing may cost less than the noise: then say at least, from one percent of a step.
    lookup, share = figures["prune+lookup"]["ratio"] - 1, max(figures["share"]["ratio"] - 1, 0.01)
    figures["lookup_over_share"] = lookup / share
    print(f"  the look-up adds {lookup / share:.1f} times what sharing adds")
    return figures


def main() -> None:
    """Measure both cases."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--threads", type=int, default=2)
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    write_json(args.json, {case.name: measure(case, args.rounds) for case in cases()})


if __name__ == "__main__":
    main()
