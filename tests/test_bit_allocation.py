"""``bits: auto``: against every choice there is on a small network, written to a file each."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import featherweight as fw

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BITS = (2, 3, 4)
AUTO = (fw.Rule("*.weight", quantize=fw.Quantize(bits="auto")),)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 5))
    with torch.no_grad():
        layers[2].weight *= torch.linspace(0.1, 3, 20)[:, None]
    return layers


@pytest.fixture
def data() -> list[tuple[torch.Tensor, torch.Tensor]]:
    draw = torch.Generator().manual_seed(1)
    return [
        (torch.randn(32, 12, generator=draw), torch.randint(0, 5, (32,), generator=draw)) for _ in range(3)
    ]


def recipe(**budget: object) -> fw.Recipe:
    limits = {"min_bits": BITS[0], "max_bits": BITS[-1], **budget}
    return fw.Recipe(AUTO, budget=fw.Budget(**limits))  # type: ignore[arg-type]


def every_choice(model: nn.Module) -> list[dict[str, int]]:
    names = [name for name, _ in model.named_parameters() if name.endswith("weight")]
    return [dict(zip(names, bits, strict=True)) for bits in product(BITS, repeat=len(names))]


def file_bytes(model: nn.Module, bits: Mapping[str, int], path: Path) -> int:
    chosen = fw.Recipe(AUTO, bits=dict(bits))
    return fw.save_file(fw.compress(model, chosen), path)


def relative_error(model: nn.Module, bits: Mapping[str, int]) -> float:
    total = 0.0
    for name, weight in model.named_parameters():
        if name in bits:
            rule = fw.Recipe((fw.Rule(name, quantize=fw.Quantize(bits=bits[name])),))
            shared = fw.compress({name: weight}, rule)[name]
            assert isinstance(shared, fw.QuantizedTensor)
            exact = weight.detach().double().numpy()
            error = float(np.square(exact - shared.dequantize()).sum())
            total += error / (float(np.square(exact).sum()) - error)
    return total


def test_no_file_of_that_size_has_less_error(model: nn.Module, tmp_path: Path) -> None:
    sizes = [(file_bytes(model, bits, tmp_path / "f.fwt"), bits) for bits in every_choice(model)]
    smallest, largest = min(size for size, _ in sizes), max(size for size, _ in sizes)
    for target in (smallest, (2 * smallest + largest) // 3, (smallest + largest) // 2, largest):
        chosen = fw.choose_bits(model, recipe(size=target))
        assert file_bytes(model, chosen.bits, tmp_path / "f.fwt") <= target
        best = min(relative_error(model, bits) for size, bits in sizes if size <= target)
        assert relative_error(model, chosen.bits) == pytest.approx(best, rel=1e-6)


def test_coded_bits_a_weight_keep_to_the_mean(model: nn.Module, tmp_path: Path) -> None:
    def mean(bits: Mapping[str, int]) -> float:
        file_bytes(model, bits, tmp_path / "f.fwt")
        with fw.open_file(tmp_path / "f.fwt") as file:
            coded = sum(file.info(name).bytes for name in bits)
        return 8 * coded / sum(w.numel() for name, w in model.named_parameters() if name in bits)

    for target in (2.9, 3.4):
        chosen = fw.choose_bits(model, recipe(mean_bits=target))
        within = [bits for bits in every_choice(model) if mean(bits) <= target]
        best = min(relative_error(model, bits) for bits in within)
        assert mean(chosen.bits) <= target
        assert relative_error(model, chosen.bits) == pytest.approx(best, rel=1e-6)


def test_a_target_out_of_reach_names_the_range(model: nn.Module, tmp_path: Path) -> None:
    low, high = (
        file_bytes(model, dict.fromkeys(every_choice(model)[0], b), tmp_path / "f.fwt") for b in (2, 4)
    )
    with pytest.raises(fw.RecipeError, match=f"100 bytes is out of reach.* give {low:,} to {high:,} bytes"):
        fw.choose_bits(model, recipe(size=100))
    with pytest.raises(
        fw.RecipeError, match=r"0.5 bits a weight is out of reach: .* give 1\.\d+ to 4\.\d+ bits"
    ):
        fw.choose_bits(model, recipe(mean_bits=0.5))
    assert set(fw.choose_bits(model, recipe(size="1MB")).bits.values()) == {4}


def test_fisher_gives_bits_to_what_the_loss_feels(
    model: nn.Module, data: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    # The first layer's outputs reach the loss through tiny weights: its errors cost next to nothing.
    with torch.no_grad():
        model[2].weight *= 1e-3  # type: ignore[index]
    for how in ("fisher", "loss"):
        chosen = fw.choose_bits(model, recipe(mean_bits=2.8, sensitivity=how), data=data, loss=cross_entropy)
        assert chosen.bits["0.weight"] == 2
        assert chosen.bits["4.weight"] > 2 or chosen.bits["2.weight"] > 2
    assert all(p.grad is None for p in model.parameters())
    assert model.training


def test_compress_and_share_choose_by_themselves(
    model: nn.Module, data: list[tuple[torch.Tensor, torch.Tensor]], tmp_path: Path
) -> None:
    with_budget = recipe(size=1200)
    assert fw.save_file(fw.compress(model, with_budget), tmp_path / "a.fwt") <= 1200
    assert fw.save_file(fw.compress_lazily(model.state_dict(), with_budget), tmp_path / "b.fwt") <= 1200
    assert (tmp_path / "a.fwt").read_bytes() == (tmp_path / "b.fwt").read_bytes()
    fw.share(model, with_budget, data=iter(data), loss=cross_entropy)
    assert fw.save_model(model, tmp_path / "c.fwt") <= 1200


def test_pruned_weights_are_pruned_before_bits_are_chosen(model: nn.Module, tmp_path: Path) -> None:
    rules = (replace(AUTO[0], prune=fw.Prune(sparsity=0.8)),)
    target = 900
    chosen = fw.choose_bits(model, fw.Recipe(rules, budget=fw.Budget(size=target)))
    tensors = fw.compress(model, chosen)
    assert fw.save_file(tensors, tmp_path / "a.fwt") <= target
    for name, number in chosen.bits.items():
        shared = tensors[name]
        assert isinstance(shared, fw.QuantizedTensor)
        assert (shared.indices == 0).mean() == pytest.approx(0.8, abs=0.01)
        assert shared.codebook.size <= 2**number


def test_tied_tensors_count_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weight = torch.randn(20, 30)
    state = {"b": weight, "a": weight, "c": torch.randn(10, 10), "d": torch.randn(7)}
    rules = (fw.Rule("*", quantize=fw.Quantize(bits="auto")),)
    chosen = fw.choose_bits(state, fw.Recipe(rules, budget=fw.Budget(size=500)))
    assert set(chosen.bits) == {"b", "c", "d"}
    assert fw.save_file(fw.compress(state, chosen), tmp_path / "t.fwt") <= 500


def test_what_cannot_be_chosen(model: nn.Module, data: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    with pytest.raises(fw.RecipeError, match="sensitivity: loss needs a network and training data"):
        fw.choose_bits(model, recipe(mean_bits=3.0, sensitivity="loss"))
    with pytest.raises(fw.RecipeError, match="sensitivity: fisher needs a network"):
        fw.choose_bits(
            model.state_dict(), recipe(mean_bits=3.0, sensitivity="fisher"), data=data, loss=cross_entropy
        )
    with pytest.raises(fw.RecipeError, match="hold no batch"):
        fw.choose_bits(model, recipe(mean_bits=3.0), data=iter(()), loss=cross_entropy)
    with pytest.raises(fw.RecipeError, match="and a budget"):
        fw.choose_bits(model, fw.Recipe())
    with pytest.raises(fw.RecipeError, match="match no tensor of floating-point"):
        fw.choose_bits({"a.weight": torch.arange(4)}, recipe(mean_bits=3.0))
    only = fw.Recipe(
        (fw.Rule("*.weight", quantize=fw.Quantize(method="fixed_point", bits="auto")),),
        budget=fw.Budget(mean_bits=4.0, min_bits=1, max_bits=1),
    )
    with pytest.raises(fw.RecipeError, match=r"0.weight: fixed_point has 2 to 16 bits"):
        fw.choose_bits(model, only)


def test_progress_counts_tensors(model: nn.Module) -> None:
    seen: list[tuple[str, int, int]] = []
    fw.choose_bits(model, recipe(mean_bits=3.4), progress=lambda *step: seen.append(step))
    assert seen == [("choosing bits", i, 3) for i in (1, 2, 3)]
