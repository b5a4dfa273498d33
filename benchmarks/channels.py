"""What removing half the channels of every prunable convolution does to VGG-16 and ResNet-20.

Multiply-accumulates, parameters and latency before and after, the two networks timed in turn; then greedy
selection of 256 of 512 channels, and on a smaller layer against its plain form, a forward pass of the next
layer for every candidate. Weights are random: neither cost depends on their values.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from common import alternate, median_ratio, parser, write_json
from featherweight.models import VGG16, ResNet20
from featherweight.pruning.channels import ChannelGroup, channel_group, gram, greedy, prune_channels
from featherweight.pruning.channels.samples import Sample, collect

#: Latency at batch 1 and 8 has to fall at least so far for VGG-16.
VGG_SPEEDUP = 2.2

#: Seconds for 256 of 512 channels, and how much faster than a pass for each candidate.
GREEDY_SECONDS, GREEDY_SPEEDUP = 10.0, 50.0

BATCHES = (1, 8)

#: Times that either way of selecting is measured.
REPEATS = 5


def macs(network: nn.Module, images: Tensor) -> int:
    """Multiply-accumulates of convolutions and linear layers for one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images[:1])
    return int(counter.get_total_flops()) // 2


def halved(network: nn.Module, images: Tensor, names: Sequence[str]) -> nn.Module:
    """The network with half the channels of some layers removed, those with the smallest norms."""
    smaller = copy.deepcopy(network)
    prune_channels(smaller, dict.fromkeys(names, 0.5), method="l1norm", example=images[:1])
    return smaller


def compare(
    name: str, network: nn.Module, size: int, layers: Sequence[str], args: argparse.Namespace
) -> dict[str, Any]:
    """Cost of a network before and after, and its latency in turn."""
    images = torch.randn(max(BATCHES), 3, size, size)
    networks = {"before": network.eval(), "after": halved(network.eval(), images, layers)}
    figures: dict[str, Any] = {
        key: {"macs": macs(each, images), "parameters": sum(p.numel() for p in each.parameters())}
        for key, each in networks.items()
    }
    print(f"{name}, half the channels of {len(layers)} convolutions removed, {args.threads} thread(s)")
    for what in ("macs", "parameters"):
        before, after = figures["before"][what], figures["after"][what]
        print(f"  {what:<18}{before:>15,} → {after:>13,}   {before / after:5.2f} times fewer")
    clock = time.process_time if args.cpu_time else time.perf_counter
    for batch in BATCHES:
        inputs = images[:batch]
        sides = {key: lambda each=each, inputs=inputs: each(inputs) for key, each in networks.items()}
        with torch.no_grad():
            seconds = alternate(sides, args.rounds, clock=clock)
        speedup = median_ratio(seconds, "before", "after")
        before, after = (1000 * statistics.median(seconds[key]) for key in networks)
        print(
            f"  {'CPU time' if args.cpu_time else 'latency'}, batch {batch:<2} {before:>12.1f} ms → "
            f"{after:>10.1f} ms   {speedup:5.2f} times lower"
        )
        figures[f"batch {batch}"] = {"before_ms": before, "after_ms": after, "speedup": speedup}
    return figures


def prunable(network: nn.Module, example: Tensor) -> list[str]:
    """Convolutions whose channels can leave, one of each group."""
    names, covered = [], set()
    for name, module in network.named_modules():
        if not isinstance(module, nn.Conv2d) or name in covered:
            continue
        try:
            group = channel_group(network, name, example)
        except ValueError:
            continue
        covered.update(member.name for member in group.producers)
        names.append(name)
    return names


def a_pass_for_each_candidate(group: ChannelGroup, features: Tensor, count: int) -> list[int]:
    """Greedy in its plain form: run the next layer with each candidate in the removed set."""
    (successor,) = group.successors
    layer = successor.layer
    assert isinstance(layer, nn.Conv2d)
    removed: list[int] = []
    for _ in range(count):
        costs = {}
        for channel in range(group.channels):
            if channel in removed:
                continue
            only = torch.zeros_like(features)
            chosen = [*removed, channel]
            only[:, chosen] = features[:, chosen]
            out = F.conv2d(only, layer.weight, None, layer.stride, layer.padding)
            costs[channel] = float(out.double().square().sum())
        removed.append(min(costs, key=lambda channel: costs[channel]))
    return removed


def two_layers(channels: int) -> nn.Sequential:
    """Two convolutions with a ReLU between them."""
    return nn.Sequential(
        nn.Conv2d(16, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3)
    ).eval()


@torch.no_grad()
def all_windows(group: ChannelGroup, features: Tensor) -> list[Sample]:
    """Every window of the features, so that both sides see the same."""
    (successor,) = group.successors
    rows = F.unfold(features, 3).transpose(1, 2).flatten(0, 1)
    return [Sample(successor, rows, 9)]


def against_passes(channels: int, size: int, images: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Both ways on one layer and the same features: the same choice, and how long each takes."""
    torch.manual_seed(0)
    network = two_layers(channels)
    inputs = torch.randn(images, 16, size, size)
    group = channel_group(network, "0", inputs[:1])
    with torch.no_grad():
        features = network[1](network[0](inputs))
        ways: dict[str, Callable[[], list[int]]] = {
            "gram": lambda: greedy(gram(all_windows(group, features), channels), channels // 2),
            "passes": lambda: a_pass_for_each_candidate(group, features, channels // 2),
        }
        chosen, seconds = {}, defaultdict(list)
        for _ in range(REPEATS):  # in turn, and the first time of a process is not the usual one
            for way, choose in ways.items():
                began = clock()
                chosen[way] = choose()
                seconds[way].append(clock() - began)
    gram_seconds, passes_seconds = (statistics.median(seconds[way]) for way in ways)
    return {
        "channels": channels,
        "same_choice": chosen["gram"] == chosen["passes"],
        "gram_seconds": gram_seconds,
        "passes_seconds": passes_seconds,
        "speedup": passes_seconds / gram_seconds,
    }


def large_selection(clock: Callable[[], float]) -> float:
    """Seconds to choose 256 of 512 channels from the features: samples, Gram matrix and greedy steps."""
    torch.manual_seed(0)
    network = two_layers(512)
    inputs = [torch.randn(16, 16, 16, 16) for _ in range(4)]
    group = channel_group(network, "0", inputs[0][:1])
    began = clock()
    removed = greedy(gram(collect(network, group, inputs, 4096, seed=0), 512), 256)
    seconds = clock() - began
    assert len(set(removed)) == 256
    return seconds


def main() -> None:
    """Measure, print, and fail where a promise is broken."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--cpu-time", action="store_true", help="for a busy machine, with --threads 1")
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with torch.no_grad():
        vgg, resnets = VGG16(size=128), {s: ResNet20(shortcut=s) for s in ("A", "B")}
    figures: dict[str, Any] = {
        "VGG-16, 128×128": compare(
            "VGG-16 at 128×128", vgg, 128, prunable(vgg, torch.randn(1, 3, 128, 128)), args
        )
    }
    for shortcut, network in resnets.items():
        layers = prunable(network, torch.randn(1, 3, 32, 32))
        name = f"ResNet-20, shortcuts {shortcut}"
        figures[name] = compare(name, network, 32, layers, args)
    clock = time.process_time if args.cpu_time else time.perf_counter
    seconds = large_selection(clock)
    print(f"Greedy selection of 256 of 512 channels, 4,096 samples of 4,608 features: {seconds:.1f} s")
    passes = against_passes(48, 8, 4, clock)
    print(
        f"Greedy selection of 24 of 48 channels: {passes['gram_seconds'] * 1000:.1f} ms; with a forward pass "
        f"for each candidate {passes['passes_seconds']:.2f} s, {passes['speedup']:.0f} times as long; "
        f"{'the same' if passes['same_choice'] else 'ANOTHER'} choice"
    )
    write_json(args.json, {**figures, "greedy_512_seconds": seconds, "greedy_against_passes": passes})
    speedups = [figures["VGG-16, 128×128"][f"batch {batch}"]["speedup"] for batch in BATCHES]
    assert passes["same_choice"]
    assert min(speedups) >= VGG_SPEEDUP
    assert seconds < GREEDY_SECONDS
    assert passes["speedup"] >= GREEDY_SPEEDUP


if __name__ == "__main__":
    main()
