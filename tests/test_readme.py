"""The README's Python runs as it stands, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from example_names import example_names
from featherweight.cli.registry import VERBS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_example_gives_back_the_trained_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = re.search(r"run by tests.*?```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    names = example_names()
    exec(code.group(1), names)  # noqa: S102

    model, fresh_model = names["model"], names["fresh_model"]
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
