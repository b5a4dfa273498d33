"""Options of Quantize and Store, and rule files that quantize."""

from __future__ import annotations

import pytest

from featherweight import Prune, Quantize, Recipe, RecipeError, Rule, Store
from featherweight.recipe import QUANTIZERS
from featherweight.recipe.rule_file import rule_lines


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "kmeans", "bits": 9}, "bits must be between 1 and 8, got 9"),
        ({"method": "uniform", "bits": 17}, "bits must be between 1 and 16, got 17"),
        ({"method": "fixed_point", "bits": 1}, "bits must be between 2 and 16, got 1"),
        (
            {"method": "fixed_point", "bits": 6, "integer_bits": 2, "fraction_bits": 5},
            "fraction_bits = 7, got 6",
        ),
        (
            {"method": "kmeans", "fraction_bits": 3},
            "fraction_bits is an option of fixed_point, not of kmeans",
        ),
        ({"method": "kmeans", "lagrangian": 0.1}, "lagrangian is an option of ecsq, not of kmeans"),
        ({"method": "uniform", "init": "density"}, "init is an option of kmeans and ecsq, not of uniform"),
        ({"method": "ecsq"}, "ecsq needs a lagrangian of at least 0, got None"),
        ({"method": "ecsq", "lagrangian": -1.0}, "ecsq needs a lagrangian of at least 0, got -1.0"),
        ({"method": "ecsq", "lagrangian": 0.1, "fix_zeros": False}, "fix_zeros cannot be false"),
        ({"method": "ecsq", "lagrangian": 0.1, "rate": "x"}, "unknown rate 'x'; known: context, entropy"),
        ({"method": "ttq", "bits": 3}, "ttq has three values, 2 bits, got 3 bits"),
        ({"method": "ttq", "threshold": 1.0}, "threshold is a fraction"),
        ({"method": "ttq", "scale_lr": 0.0}, "scale_lr must be above 0"),
        ({"weights": "hessian"}, "unknown weights 'hessian'; known: fisher, adam"),
        ({"weights": "adam", "per_channel": True}, "give either weights or per_channel"),
        ({"codebook_dtype": "float8"}, "unknown codebook_dtype 'float8'; known: float16, bfloat16"),
        ({"update_labels": True, "re_quantize": True}, "give either update_labels or re_quantize"),
        ({"incremental": (0.5, 0.4, 1.0)}, "fractions above 0 that ascend to 1, such as [0.5, 0.75, 0.9, 1]"),
        ({"incremental": (0.5, 0.9)}, "ascend to 1"),
        ({"incremental": (0.0, 1.0)}, "got [0.0, 1.0]"),
        ({"incremental": (1.0,), "re_quantize": True}, "give either incremental or re_quantize"),
        ({"incremental": (1.0,), "per_channel": True}, "give either incremental or per_channel"),
        ({"incremental": (1.0,), "rounding": "outputs"}, "leave out rounding: outputs"),
        (
            {"incremental": (1.0,), "method": "ecsq", "lagrangian": 0.01},
            "incremental is an option of kmeans and optimal and uniform, not of ecsq",
        ),
        ({"init": "middle"}, "unknown init 'middle'; known: linear, density, forgy, k-means++, optimal"),
    ],
)
def test_options_that_cannot_be_meant(options, message):
    with pytest.raises(RecipeError) as caught:
        Quantize(**options)
    assert message in str(caught.value)


def test_bits_follow_from_integer_and_fraction_bits():
    assert Quantize("fixed_point", integer_bits=2, fraction_bits=6).bits == 8
    assert Quantize("fixed_point", 8, fraction_bits=6).integer_bits == 2
    assert Quantize("ttq").bits == 2
    assert QUANTIZERS == ("kmeans", "optimal", "ecsq", "uniform", "fixed_point", "ttq")


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ({"bits": 12}, "16 or 8 bits, got 12"),
        (
            {"bits": 16, "dtype": "float8_e5m2"},
            "unknown dtype of 16 bits 'float8_e5m2'; known: float16, bfloat16",
        ),
    ],
)
def test_stores_that_cannot_be_meant(store, message):
    with pytest.raises(RecipeError, match=message):
        Store(**store)


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_recipes_with_every_option_are_written_and_read_unchanged(tmp_path, suffix):
    recipe = Recipe(
        (
            Rule("a", quantize=Quantize("ecsq", 4, lagrangian=0.02, weights="fisher", init="optimal")),
            Rule("b", quantize=Quantize("fixed_point", integer_bits=2, fraction_bits=6)),
            Rule("c", quantize=Quantize("ttq", threshold=0.1, float_ends=False, scale_lr=0.01)),
            Rule("d", quantize=Quantize(init="k-means++", codebook_dtype="bfloat16", update_labels=True)),
            Rule("d2", quantize=Quantize("optimal", 3, incremental=(0.5, 0.75, 1.0))),
            Rule("e", quantize=Quantize("uniform", 12, per_channel=True)),
            Rule("f", store=Store(8, "float8_e4m3fn")),
            Rule("g", store=Store()),
        )
    )
    recipe.save(tmp_path / f"r.{suffix}")
    assert Recipe.load(tmp_path / f"r.{suffix}") == recipe


RULE_FILE = """# a comment
0.weight k-means 4 k-means++
1.weight fixed_point 6 1   # one integer bit
2.*      uniform 10

3.weight k-means 5
4.weight fixed_point 8
"""


def test_a_rule_file(tmp_path):
    path = tmp_path / "quantize.rule"
    path.write_text(RULE_FILE)
    assert Recipe.load(path) == Recipe(
        (
            Rule("0.weight", quantize=Quantize(bits=4, init="k-means++")),
            Rule("1.weight", quantize=Quantize("fixed_point", 6, integer_bits=1)),
            Rule("2.*", quantize=Quantize("uniform", 10)),
            Rule("3.weight", quantize=Quantize(bits=5)),
            Rule("4.weight", quantize=Quantize("fixed_point", 8)),
        )
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a k-means", "expected name method bits"),
        ("a k-means 4 linear 5", "expected name method bits"),
        ("a kmedians 4 linear", "unknown method 'kmedians'; known: k-means"),
        ("a k-means four linear", "bits must be a whole number, got 'four'"),
        ("a k-means 9 linear", "bits must be between 1 and 8, got 9"),
        ("a k-means 4 middle", "unknown init 'middle'"),
        ("a fixed_point 6 x", "integer bits must be a whole number, got 'x'"),
        ("a uniform 6 linear", "uniform takes no fourth word"),
        ("b uniform 6", "b has a rule in line 1; keep one of them"),
    ],
)
def test_every_mistake_in_a_rule_file_is_one_line_with_file_and_line(tmp_path, line, message):
    path = tmp_path / "quantize.txt"
    path.write_text(f"b uniform 3\n{line}\n")
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.yaml", "0.weight k-means 4"), ("b.rules", "rules: []"), ("c.txt", ""), ("d.txt", "# nothing\n")],
)
def test_yaml_is_no_rule_file(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert rule_lines(tmp_path / name) is None
    assert rule_lines(tmp_path / "missing.txt") is None


def test_a_rule_file_may_begin_with_a_regular_expression(tmp_path):
    (tmp_path / "a.txt").write_text("re:fc[12].* k-means 4\n")
    (tmp_path / "b.txt").write_text("re:fc[12].* element 0.5\n")
    assert Recipe.load(tmp_path / "a.txt").rules == (Rule("re:fc[12].*", quantize=Quantize(bits=4)),)
    assert Recipe.load(tmp_path / "b.txt").rules == (Rule("re:fc[12].*", Prune(sparsity=0.5)),)
