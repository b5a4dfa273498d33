"""Rules for checkpoints of which only names, shapes and types are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import featherweight as fw
from featherweight.default_recipe import default_recipe, inputs_first
from featherweight.lazy import TensorSpec
from featherweight.quantization.output_aware import output_error, prior_covariance
from featherweight.sharing import quantize


def specs(**shapes):
    return {name.replace("__", "."): TensorSpec("float32", shape) for name, shape in shapes.items()}


GPT2 = specs(
    h__0__attn__c_attn__weight=(32, 96),
    h__0__attn__c_attn__bias=(96,),
    h__0__attn__c_proj__weight=(32, 32),
    h__0__attn__c_proj__bias=(32,),
    h__0__mlp__c_proj__weight=(128, 32),
    h__0__mlp__c_proj__bias=(32,),
    score__weight=(2, 32),
    score__bias=(2,),
    pooler__weight=(32, 32),
    pooler__bias=(32,),
    wte__weight=(50, 32),
)


def test_biases_tell_the_orientation_of_matrices():
    assert inputs_first(GPT2) == {
        "h.0.attn.c_attn.weight",
        "h.0.attn.c_proj.weight",  # square, as its namesake in the MLP
        "h.0.mlp.c_proj.weight",
    }


def test_linear_layers_are_not_turned():
    linear = specs(
        a__query__weight=(32, 32),
        a__query__bias=(32,),
        a__up__weight=(64, 32),
        a__up__bias=(64,),
        b__weight=(3, 5),
    )
    assert inputs_first(linear) == set()


def test_rules_of_gpt2():
    rules = default_recipe(Path("gpt2"), GPT2).rules
    by_name = {name: rule.quantize for rule, names in fw.Recipe(rules).assign(GPT2).items() for name in names}
    assert by_name["wte.weight"] == fw.Quantize("kmeans", 6, init="density")
    for name in inputs_first(GPT2):
        assert by_name[name] == fw.Quantize("optimal", 5, fix_zeros=None, rounding="outputs", transposed=True)
    assert not by_name["pooler.weight"].transposed


def test_patches_are_convolutions_and_single_rows_stay():
    vit = specs(
        embeddings__cls_token=(1, 1, 32),
        embeddings__position_embeddings=(1, 17, 32),
        embeddings__patch_embeddings__projection__weight=(32, 3, 4, 4),
        classifier__weight=(5, 32),
    )
    assigned = fw.Recipe(default_recipe(Path("vit"), vit).rules).assign(vit)
    bits = {name: rule.quantize.bits for rule, names in assigned.items() for name in names}
    assert bits == {
        "embeddings.position_embeddings": 6,
        "embeddings.patch_embeddings.projection.weight": 8,
        "classifier.weight": 5,
    }


@pytest.mark.parametrize("per_channel", [False, True])
def test_transposed_is_the_transpose_of_the_transpose(per_channel):
    torch.manual_seed(0)
    weight = torch.randn(12, 40) * torch.rand(12, 1)
    spec = fw.Quantize("optimal", 3, fix_zeros=False, rounding="outputs", per_channel=per_channel)
    turned = fw.Quantize(
        "optimal", 3, fix_zeros=False, rounding="outputs", per_channel=per_channel, transposed=True
    )
    straight = quantize("w", weight, spec)
    flipped = quantize("w", weight.T.contiguous(), turned)
    assert np.array_equal(flipped.dequantize(), straight.dequantize().T)
    assert flipped.shape == (40, 12)


def test_outputs_of_a_turned_matrix_change_less_than_if_taken_for_rows():
    torch.manual_seed(0)
    weight = torch.randn(64, 48)  # (in, out)
    errors = {}
    for transposed in (False, True):
        spec = fw.Quantize("optimal", 3, fix_zeros=False, rounding="outputs", transposed=transposed)
        rounded = quantize("w", weight, spec).dequantize()
        errors[transposed] = output_error(weight.numpy().T, rounded.T, prior_covariance((48, 64)))
    assert errors[True] < 0.8 * errors[False]


def test_transposed_reads_from_yaml_and_not_with_other_methods(tmp_path):
    recipe = fw.Recipe((fw.Rule("type:Conv1D", None, fw.Quantize("optimal", 4, transposed=True)),))
    recipe.save(tmp_path / "r.yaml")
    assert fw.Recipe.load(tmp_path / "r.yaml") == recipe
    with pytest.raises(fw.RecipeError, match="transposed is an option of"):
        fw.Quantize("ttq", transposed=True)
