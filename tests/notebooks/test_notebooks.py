"""The notebooks run from top to bottom, and are stored without outputs."""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

#: Lines of a cell at most: what a reader takes in at a glance.
LONGEST_CELL = 30

#: Seconds that a cell may take on a busy machine; together they take half a minute on an idle core.
CELL_SECONDS = 240


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_all_four_are_there() -> None:
    assert {path.stem for path in NOTEBOOKS} == {"lenet300", "lenet5", "sensitivity", "compress-your-own"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_stored(path: Path) -> None:
    notebook = read(path)
    for cell in notebook["cells"]:
        assert not cell.get("outputs"), "run nbstripout, or install the hooks with pre-commit install"
        assert cell.get("execution_count") is None
        assert cell["metadata"] == {}
        assert len(cell["source"]) <= LONGEST_CELL
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_use_the_public_names_alone(path: Path) -> None:
    for cell in read(path)["cells"]:
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(line for line in cell["source"] if not line.startswith("%")))
        for node in ast.walk(tree):
            private = isinstance(node, ast.Attribute) and re.match(r"_(?!_)", node.attr)
            assert not private, f"{path.name}: {node.attr}"  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")  # of the notebook client and of ZeroMQ, which are not ours
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbclient
    import nbformat

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    work = tmp_path / "work"
    work.mkdir()
    client = nbclient.NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        startup_timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(work)}},
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 1 + (path.stem != "compress-your-own")
