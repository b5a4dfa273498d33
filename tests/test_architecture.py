"""Each floor imports only from floors below it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import featherweight

PACKAGE = Path(featherweight.__file__).parent

#: From the ground up; what stands on one line may import from each other.
FLOORS = [
    {"errors", "tensors"},
    {"coding"},
    {"fileformat"},
    {"numpy"},
    {"strict", "pruning", "quantization"},
    {"constraints"},
    {"recipe"},
    {"lazy", "channel_rules"},
    {"sharing", "output_correction"},
    {"selection", "accuracy_bounded", "rule_targets", "unit_rules", "default_recipe"},
    {"compression", "training_steps", "bit_allocation", "files", "models", "data"},
    {"analysis", "interop"},
    {"hf"},
    {"training"},
    {"cli", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
WITHOUT_TORCH = {"errors", "tensors", "coding", "fileformat", "numpy", "analysis"}
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """All modules that a file imports at run time, within functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    modules = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            modules.add(str(node.module))
    return modules


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_come_from_floors_below(path: Path) -> None:
    here = room(path)
    rooms = {m.split(".")[1] for m in imported_modules(path) if m.startswith("featherweight.")}
    above = {other for other in rooms if LEVEL[other] > LEVEL[here]}
    assert not above, f"{here} imports from {above}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_lightning_stays_upstairs_and_torch_out_of_the_decoder(path: Path) -> None:
    tops = {module.split(".")[0] for module in imported_modules(path)}
    if LEVEL[room(path)] < LEVEL["training"]:
        assert not tops & {"lightning", "torchmetrics"}
    if room(path) in WITHOUT_TORCH:
        assert not tops & {"torch", "safetensors", "sklearn"}
    assert not tops & {"pickle", "torchvision"}


def test_every_room_has_a_floor() -> None:
    assert {room(path) for path in SOURCES} <= set(LEVEL)
