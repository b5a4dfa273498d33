"""The comparison of a network with other means: which runs it takes, and which rows they get."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from featherweight.analysis.results import load_record
from featherweight.data import Digits
from featherweight.errors import RecipeError
from featherweight.models import LeNet300
from featherweight.training.spec import ClassSpec

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def compare(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import compare

    return compare


def test_what_a_run_lacks_is_named(compare, tmp_path):
    with pytest.raises(RecipeError, match=r"holds no fit\.safetensors; give the directory of a finished run"):
        compare.record_of(tmp_path, ROOT)
    save_file({"w": torch.zeros(1)}, tmp_path / "fit.safetensors")
    with pytest.raises(RecipeError, match=r"holds no result\.json"):
        compare.record_of(tmp_path, ROOT)
    record = load_record(ROOT / "results" / "lenet300-mnist.json")
    result = {"name": record.name, "bytes": record.bytes}
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert compare.record_of(tmp_path, ROOT) == record
    (tmp_path / "result.json").write_text(json.dumps({**result, "bytes": 10}))
    with pytest.raises(RecipeError, match="its file has 10 bytes, that of the record"):
        compare.record_of(tmp_path, ROOT)


@pytest.mark.parametrize("pruned", [True, False])
def test_a_run_that_was_not_pruned_has_no_pruned_rows(compare, tmp_path, monkeypatch, pruned):
    monkeypatch.setattr(compare.Comparer, "nncodec", lambda *_: compare.ComparedRow("→ NNCodec", 1, 1.0))
    torch.manual_seed(0)
    init_args = {"in_features": 784}
    state = LeNet300(**init_args).state_dict()
    save_file(state, tmp_path / "fit.safetensors")
    if pruned:
        save_file({name: t * (t.abs() > 0.05) for name, t in state.items()}, tmp_path / "prune.safetensors")
    record = load_record(ROOT / "results" / "lenet300-mnist.json")
    spec = ClassSpec("featherweight.models.LeNet300", init_args)
    rows = {row.what: row for row in compare.Comparer(spec, Digits(), record).compare(tmp_path).rows}
    assert ("pruned, `zip -9`" in rows) == pruned
    numbers = 4 * sum(t.numel() for t in state.values())
    assert numbers < rows["float32, safetensors"].bytes < numbers + 1000
    assert rows["float32 → int8, PyTorch"].bytes < rows["float32, `zip -9`"].bytes
    assert rows["Featherweight"].bytes == record.bytes
