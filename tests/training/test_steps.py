"""What each step of a run gave, from its directory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file as load_safetensors
from training_helpers import LIGHTNING_WARNINGS, Small, digits

from featherweight import load_model, save_model
from featherweight.analysis.steps_table import Ablation, Step, ablation_page
from featherweight.errors import RecipeError
from featherweight.strict import build
from featherweight.training.evaluate import evaluate
from featherweight.training.run import Run
from featherweight.training.spec import RunSpec
from featherweight.training.steps import ablation_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.filterwarnings(text) for text in LIGHTNING_WARNINGS]

RULE = {
    "match": "fc*.weight",
    "prune": {"sparsity": 0.9, "schedule": {"kind": "cubic", "epochs": 1, "every_steps": 2}},
    "quantize": {"bits": 3},
}


def finished(directory: Path, **changes: Any) -> Run:
    data = {
        "name": "small",
        "model": {"class_path": "training_helpers.Small"},
        "data": {"class_path": "featherweight.data.Digits"},
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}},
        "fit": {"epochs": 2, "lr": 0.05},
        "prune": {"epochs": 2, "lr": 0.05},
        "share": {"epochs": 1, "lr": 0.0001},
        "recipe": {
            "rules": [RULE],
            "code": {"coder": "context"},
            "units": [{"layer": "fc1", "reader": "fc2"}],
        },
        **changes,
    }
    run = Run.create(build(RunSpec, {k: v for k, v in data.items() if v is not None}, "run"), directory)
    run.execute_without_test()
    return run


def test_each_step_has_the_bytes_and_the_error_of_its_network(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    found = ablation_of(run.directory, "Small.")
    assert (found.name, found.about, found.images) == (
        "small",
        "Small.",
        digits().validation_batches().num_images,
    )
    assert [step.what for step in found.steps] == [
        "dense, float32",
        "pruned; float32 values, without the zeros",
        "shared and trained; coder fixed",
        "coder huffman",
        "coder context",
        "coder context, units in order: the file",
    ]
    dense, pruned, *coded = found.steps
    network, batches = Small(), digits().validation_batches()
    for step, phase in ((dense, "fit"), (pruned, "prune")):
        network.load_state_dict(load_safetensors(run.directory / f"{phase}.safetensors"))
        assert step.error_percent == evaluate(network, batches).error_percent
    assert save_model(network, tmp_path / "pruned.fwt") == pruned.bytes
    assert dense.bytes == found.dense_bytes == 4 * (784 * 16 + 16 + 16 * 10 + 10)
    error = evaluate(load_model(network, run.file), batches).error_percent
    assert {step.error_percent for step in coded} == {error}
    sizes = [step.bytes for step in found.steps]
    assert sizes[:4] == sorted(sizes[:4], reverse=True)
    assert sizes[-1] == run.file.stat().st_size
    network.load_state_dict(load_safetensors(run.directory / "share.safetensors"))
    assert save_model(network, tmp_path / "huffman.fwt", coder="huffman") == sizes[3]
    seconds = json.loads((run.directory / "state.json").read_text())["seconds"]
    assert (dense.seconds, pruned.seconds) == (seconds["fit"], seconds["prune"])
    assert coded[0].seconds == pytest.approx(seconds["share"], abs=2)
    assert found.test_error_percent is None
    tested = run.execute()
    assert ablation_of(run.directory).test_error_percent == tested.error_percent


def test_phases_and_units_that_a_run_has_not_are_no_steps(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", share=None, recipe={"rules": [RULE], "code": {"coder": "huffman"}})
    found = ablation_of(run.directory)
    assert [step.what for step in found.steps[2:]] == ["coder fixed", "coder huffman: the file"]
    assert found.steps[-1].bytes == run.file.stat().st_size


def test_a_directory_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="holds no finished run"):
        ablation_of(tmp_path)


def test_the_page_has_a_table_a_run() -> None:
    steps = (Step("dense, float32", 4000, 1.0, 12.3), Step("coder context: the file", 40, 1.25, 0.2))
    page = ablation_page(
        "LeNet", [Ablation("a", "First.", 5000, steps, 4000, 1.5), Ablation("b", "", 9, steps, 4000)]
    )
    assert page.startswith("# LeNet: what each step gave\n")
    assert "## a\n\nFirst. 5,000 validation images. Test error of the file: 1.50 %.\n" in page
    assert "| coder context: the file | 40 | 100× | 1.25 % | under 1 |" in page
    assert "| dense, float32 | 4,000 | 1.0× | 1.00 % | 12 |" in page
    assert page.count("Test error") == 1
    assert page.count("| step |") == 2
