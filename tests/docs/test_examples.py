"""Every example of the documentation is run, or says why it is not."""

from __future__ import annotations

import dataclasses
import importlib
import re
import shlex
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from doc_blocks import PAGES, ROOT, Block, blocks, name

from example_names import example_names
from featherweight.cli import main
from featherweight.cli.registry import VERBS
from featherweight.coding import CODER_CHOICES
from featherweight.pruning import IMPORTANCES, Schedule
from featherweight.pruning.channels import METHODS as CHANNEL_METHODS
from featherweight.pruning.schedules import KINDS
from featherweight.pruning.surgery import SurgeryOptions
from featherweight.quantization import INITIALIZATIONS
from featherweight.recipe import Budget, Recipe
from featherweight.recipe.quantize import METHODS
from featherweight.training.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Blocks whose lines are commands.
COMMANDS = re.compile(r"^\$? ?(featherweight|make|python) ", re.MULTILINE)

#: Another test runs these.
ELSEWHERE = re.compile(r"run by (tests/\S+\.py)")

RUN = [page for page in PAGES if any(block.mark.startswith("run") for block in blocks(page))]


def say(page: Path, block: Block) -> str:
    return f"{name(page)}:{block.line}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_example_says_whether_it_is_run(page: Path) -> None:
    for block in blocks(page):
        if block.language in ("python", "console") or COMMANDS.search(block.text):
            assert re.match(r"run|not run: \w+", block.mark), f"{say(page, block)}: say how it is run"
            if found := ELSEWHERE.match(block.mark):
                assert (ROOT / found[1]).is_file(), say(page, block)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A directory with the files that examples name, and what Python there finds under the usual names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    shutil.copy(ROOT / "results" / "lenet300-mnist.fwt", tmp_path)
    names = example_names()
    names["train"](names["model"], names["optimizer"])
    from safetensors.torch import save_file

    save_file(names["model"].state_dict(), tmp_path / "model.safetensors")
    before = set(sys.modules)
    yield names
    for module in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]


@pytest.mark.parametrize("page", RUN, ids=name)
def test_examples_run(page: Path, workplace: dict[str, Any], tmp_path: Path) -> None:
    for block in blocks(page):
        if not block.mark.startswith("run") or ELSEWHERE.match(block.mark):
            continue
        if saved := re.match(r"run: saved as (\S+)", block.mark):
            (tmp_path / saved[1]).write_text(block.text, encoding="utf-8")
            importlib.invalidate_caches()
        elif block.language == "python":
            exec(compile(block.text, say(page, block), "exec"), workplace)  # noqa: S102
        elif block.language == "yaml":
            (tmp_path / "run.yaml").write_text(block.text, encoding="utf-8")
            assert RunSpec.load(tmp_path / "run.yaml").recipe.rules
        else:
            run_commands(page, block)


def run_commands(page: Path, block: Block) -> None:
    assert block.commands, f"{say(page, block)}: no line begins with $"
    for command in block.commands:
        words = shlex.split(command)
        assert words[0] == "featherweight", command
        output = words[words.index("-o") + 1] if "-o" in words else None
        assert main([*words[1:], *(["--force"] if output else [])]) == 0, command


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_recipes_are_recipes(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.language != "yaml" or block.mark.startswith("run"):
            continue
        data = yaml.safe_load(block.text)
        if isinstance(data, dict) and "rules" in data:
            (tmp_path / "recipe.yaml").write_text(block.text, encoding="utf-8")
            assert Recipe.load(tmp_path / "recipe.yaml"), say(page, block)
        else:
            assert data, say(page, block)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    verbs = set(re.findall(r"^(?:\$ )?featherweight ([a-z-]+)", text, re.MULTILINE))
    verbs |= set(re.findall(r"`featherweight ([a-z-]+)", text))
    assert verbs - {"--help"} <= set(VERBS)


# -- the methods' pages ---------------------------------------------------------------------------------

INDEX = ROOT / "docs" / "methods" / "index.md"

#: The page of each method, and what has its options.
OPTIONS = {
    "norms": ("l1norm", "l2norm"),
    "taylor": ("taylor1", "taylor2", "taylor12"),
    "gates": ("l1gate", "l2gate"),
    "sss": ("sss",),
    "empirical": ("empirical",),
    "nisp": ("nisp",),
}
QUANTIZERS = {
    "kmeans": "kmeans",
    "optimal": "optimal",
    "ecsq": "ecsq",
    "uniform": "uniform",
    "ttq": "ttq",
}


def fields(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def test_every_method_has_its_line() -> None:
    text = INDEX.read_text(encoding="utf-8")
    for known in (IMPORTANCES, INITIALIZATIONS, METHODS, KINDS, CODER_CHOICES, CHANNEL_METHODS):
        for method in known:
            assert f"`{method}`" in text or f"{method}`" in text, method


@pytest.mark.parametrize(
    ("page", "options"),
    [
        *((page, set().union(*(fields(IMPORTANCES[n]) for n in names))) for page, names in OPTIONS.items()),
        *((page, set(METHODS[method].options)) for page, method in QUANTIZERS.items()),
        ("uniform", METHODS["fixed_point"].options),
        ("schedules", fields(Schedule)),
        ("surgery", fields(SurgeryOptions)),
        ("budget", fields(Budget)),
    ],
)
def test_every_option_is_on_its_page(page: str, options: set[str]) -> None:
    text = (ROOT / "docs" / "methods" / f"{page}.md").read_text(encoding="utf-8")
    missing = {option for option in options if f"`{option}`" not in text and f"`{option}:" not in text}
    assert not missing


@pytest.mark.parametrize("page", [p for p in INDEX.parent.glob("*.md") if p != INDEX], ids=name)
def test_a_methods_page_has_all_its_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for part in ("## Formula", "## Source", "## Options", "## When", "<picture>", "```yaml"):
        assert part in text, part
    for picture in re.findall(r'(?:src|srcset)="([^"]+)"', text):
        assert (page.parent / picture).is_file(), picture
