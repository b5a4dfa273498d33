"""The README's Python runs as it stands, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from featherweight.cli.registry import VERBS
from featherweight.models import LeNet300

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_example_gives_back_the_trained_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model, fresh_model = LeNet300(), LeNet300()
    images, labels = torch.randn(32, 1, 28, 28), torch.arange(32) % 10

    def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(3):
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            optimizer.step()

    code = re.search(r"run by tests.*?```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {
        "model": model,
        "fresh_model": fresh_model,
        "optimizer": torch.optim.Adam(model.parameters(), lr=1e-3),
        "train": train,
    }
    exec(code.group(1), names)  # noqa: S102

    for name, weight in model.state_dict().items():
        assert torch.equal(fresh_model.state_dict()[name], weight), name
    assert (model.fc1.weight == 0).float().mean() == pytest.approx(0.9, abs=1e-4)
    assert len(model.fc1.weight.unique()) <= 32
    assert (tmp_path / "model.fwt").stat().st_size < 266_610 * 4 / 20


def test_every_command_exists() -> None:
    verbs = set(re.findall(r"^featherweight ([a-z-]+)", README, re.MULTILINE))
    assert verbs
    assert verbs <= set(VERBS)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README))
def test_links_lead_to_files(link: str) -> None:
    assert (ROOT / link).exists(), link
