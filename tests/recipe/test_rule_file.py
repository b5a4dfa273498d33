"""Rule files of one tensor a line."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file as save_safetensors

import featherweight as fw
from featherweight import Prune, Recipe, RecipeError, Rule, Schedule
from featherweight.cli import main

RULES = """# what is pruned, and how far
0.weight element 0.3, 0.5

1.weight kernel 0.4,0.6 default   # by L1 norm
2.weight filter 0.5,0.5,0.7 l2norm
3.weight element .25 abs
fc*.weight channel 1e-1
"""


def test_a_rule_file(tmp_path):
    path = tmp_path / "prune.rule"
    path.write_text(RULES)
    stages = Schedule("stages")
    assert Recipe.load(path) == Recipe(
        (
            Rule("0.weight", Prune("magnitude", "element", (0.3, 0.5), schedule=stages)),
            Rule("1.weight", Prune("l1norm", "kernel", (0.4, 0.6), schedule=stages)),
            Rule("2.weight", Prune("l2norm", "filter", (0.5, 0.5, 0.7), schedule=stages)),
            Rule("3.weight", Prune("magnitude", "element", 0.25)),
            Rule("fc*.weight", Prune("l1norm", "channel", 0.1)),
        )
    )
    Recipe.load(path).save(tmp_path / "recipe.yaml")
    assert Recipe.load(tmp_path / "recipe.yaml") == Recipe.load(path)


@pytest.mark.parametrize("name", ["prune.rule", "prune.txt", "prune"])
def test_whatever_the_name_but_that_of_yaml(tmp_path, name):
    (tmp_path / name).write_text("fc.weight element 0.5")
    assert Recipe.load(tmp_path / name).rules[0].prune.sparsity == 0.5
    (tmp_path / name).write_text("rules: [{match: fc.weight, prune: {sparsity: 0.25}}]")
    assert Recipe.load(tmp_path / name).rules[0].prune.sparsity == 0.25
    (tmp_path / "prune.yaml").write_text("fc.weight element 0.5")
    with pytest.raises(RecipeError, match=r"prune\.yaml: expected a mapping"):
        Recipe.load(tmp_path / "prune.yaml")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0.weight", "expected name granularity sparsity[, sparsity …] [importance], got '0.weight'"),
        ("0.weight element", "expected name granularity sparsity"),
        ("0.weight elements 0.5", "unknown granularity 'elements'; known: element, kernel, filter, channel"),
        ("0.weight element 1.5", "expected a sparsity between 0 and 1, got '1.5'"),
        ("0.weight element 0.5, 50%, 0.6", "expected a sparsity between 0 and 1, got '50%'"),
        ("0.weight element nan", "expected a sparsity between 0 and 1, got 'nan'"),
        (
            "0.weight element 0.5 l3norm",
            "expected a sparsity or an importance (abs, l1norm, l2norm, default)",
        ),
        ("0.weight element l1norm", "expected name granularity sparsity"),
        ("0.weight element 0.5, 0.3", "a list of sparsities must rise, got [0.5, 0.3]"),
        ("re:( element 0.5", "is not a regular expression"),
        ("fc.weight element 0.5", "fc.weight has a rule in line 2; keep one of them"),
    ],
)
def test_a_bad_line_is_told_with_file_line_and_remedy(tmp_path, line, message):
    path = tmp_path / "prune.rule"
    path.write_text(f"# a comment\nfc.weight kernel 0.5\n\n{line}\n")
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path)
    assert str(caught.value).startswith(f"{path}, line 4: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_compress_takes_one(tmp_path, capsys):
    state = {"0.weight": torch.randn(8, 3, 3, 3), "1.weight": torch.randn(10, 20), "1.bias": torch.randn(10)}
    save_safetensors(state, tmp_path / "model.safetensors")
    (tmp_path / "prune.rule").write_text("0.weight filter 0.25, 0.5\n1.weight element 0.9\n")
    arguments = ["compress", str(tmp_path / "model.safetensors"), "-o", str(tmp_path / "a.fwt")]
    assert main([*arguments, "--recipe", str(tmp_path / "prune.rule")]) == 0
    loaded = fw.load_file(tmp_path / "a.fwt")
    norms = state["0.weight"].abs().sum((1, 2, 3))
    gone = (loaded["0.weight"] == 0).all(3).all(2).all(1)
    assert set(gone.nonzero().reshape(-1).tolist()) == set(norms.argsort()[:4].tolist())
    assert int((loaded["1.weight"] == 0).sum()) == 180
    assert torch.equal(loaded["1.bias"], state["1.bias"])
    (tmp_path / "bad.rule").write_text("0.weight filter\n")
    capsys.readouterr()
    assert main([*arguments, "--force", "--recipe", str(tmp_path / "bad.rule")]) == 1
    told = capsys.readouterr().err
    assert "bad.rule, line 1: expected name granularity sparsity" in told.replace("\n", " ")
