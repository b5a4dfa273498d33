from __future__ import annotations

import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featherweight import Code, Prune, Quantize, Recipe, RecipeError, Rule, Schedule
from featherweight.coding import CODER_CHOICES

# -- recipes drawn at random -----------------------------------------------------------------------

fractions = st.floats(0, 1)
rising = st.lists(st.floats(0, 100), min_size=1, max_size=4).map(lambda items: tuple(sorted(items)))
plain_schedules = st.one_of(
    st.builds(Schedule, start_epoch=st.floats(0, 100)),
    st.builds(
        Schedule,
        kind=st.just("iterative"),
        prune_every=st.floats(1e-3, 10),
        target_sparsity=fractions,
        every_steps=st.integers(1, 99),
    ),
    st.builds(Schedule, kind=st.just("epochs"), epochs=rising, target_sparsity=st.none() | fractions),
)
cubic = st.builds(
    Schedule, kind=st.just("cubic"), epochs=st.floats(1e-3, 1e3), every_steps=st.integers(1, 999)
)
scopes = st.sampled_from(["layer", "global"])


@st.composite
def staged(draw):
    stages = tuple(sorted(draw(st.lists(fractions, min_size=1, max_size=4))))
    epochs = tuple(sorted(draw(st.lists(st.floats(0, 9), min_size=len(stages), max_size=len(stages)))))
    return Prune(sparsity=stages, schedule=Schedule("stages", epochs=draw(st.sampled_from([None, epochs]))))


prunes = st.one_of(
    st.builds(Prune, sparsity=fractions, scope=scopes, schedule=plain_schedules | cubic),
    st.builds(Prune, std=st.floats(0, 10), scope=scopes, schedule=plain_schedules),
    staged(),
)
quantizes = st.builds(
    Quantize,
    bits=st.integers(1, 8),
    init=st.sampled_from(["linear", "density", "forgy"]),
    fix_zeros=st.booleans(),
    seed=st.integers(-(2**70), 2**70),
)
codes = st.builds(Code, coder=st.sampled_from(CODER_CHOICES))
characters = st.characters(exclude_categories=["Cs"])  # no lone surrogates: they are no text
matches = st.one_of(
    st.text(characters, max_size=12).filter(lambda text: not text.startswith("re:")),
    st.text(string.ascii_letters + "._1*", max_size=9).map(
        lambda text: f"re:{text.lstrip('*').replace('**', '')}"
    ),
)
rules = st.builds(
    Rule, match=matches, prune=st.none() | prunes, quantize=st.none() | quantizes, code=st.none() | codes
)
recipes = st.builds(Recipe, rules=st.lists(rules, max_size=4).map(tuple), code=codes)


@pytest.mark.parametrize("suffix", ["yaml", "json"])
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recipe=recipes)
def test_recipes_are_written_and_read_unchanged(tmp_path, suffix, recipe):
    first, second = tmp_path / f"first.{suffix}", tmp_path / f"second.{suffix}"
    recipe.save(first)
    loaded = Recipe.load(first)
    assert loaded == recipe
    loaded.save(second)
    assert first.read_bytes() == second.read_bytes()
    assert Recipe.from_dict(recipe.to_dict()) == recipe


RECIPE = """
rules:
  - match: "conv*.weight"
    prune:
      importance: magnitude
      granularity: element
      sparsity: 0.66
      scope: layer
      schedule: {kind: cubic, epochs: 10}
    quantize: {method: kmeans, bits: 8, init: linear, fix_zeros: true}
  - match: "re:fc[12]\\\\.weight"
    prune: {std: 1e-1, schedule: {kind: iterative, start_epoch: 0, prune_every: 2, target_sparsity: 92e-2}}
    code: {coder: fixed}
  - match: "fc*"
    prune: {sparsity: [0.5, 0.9], schedule: {kind: stages, epochs: [0, 3]}}
code: {coder: huffman}
"""


def test_a_recipe_in_yaml(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    assert Recipe.load(tmp_path / "recipe.yaml") == Recipe(
        (
            Rule(
                "conv*.weight", Prune(sparsity=0.66, schedule=Schedule("cubic", epochs=10)), Quantize(bits=8)
            ),
            Rule(
                "re:fc[12]\\.weight",
                Prune(std=0.1, schedule=Schedule("iterative", prune_every=2, target_sparsity=0.92)),
                code=Code("fixed"),
            ),
            Rule("fc*", Prune(sparsity=(0.5, 0.9), schedule=Schedule("stages", epochs=(0, 3)))),
        ),
        Code("huffman"),
    )


# -- matching --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("match", "name", "expected"),
    [
        ("fc*.weight", "fc1.weight", True),
        ("fc*.weight", "block.fc1.weight", False),
        ("*.weight", "block.fc1.weight", True),
        ("fc?.weight", "fc12.weight", False),
        ("fc[13].weight", "fc2.weight", False),
        ("FC1.weight", "fc1.weight", False),
        ("re:fc.", "fc1", True),
        ("re:fc.", "fc1.weight", False),
        (r"re:.*\.(q|k)_proj\.weight", "layers.3.q_proj.weight", True),
        ("re:", "", True),
        ("re:", "a", False),
    ],
)
def test_globs_and_regular_expressions(match, name, expected):
    assert Rule(match).matches(name) is expected


def test_the_first_rule_that_matches_holds():
    recipe = Recipe((Rule("fc1.weight"), Rule("re:fc.*"), Rule("*.bias", code=Code("fixed"))))
    assert recipe.rule_for("fc1.weight") is recipe.rules[0]
    assert recipe.rule_for("fc1.bias") is recipe.rules[1]
    assert recipe.rule_for("conv.bias") is recipe.rules[2]
    assert recipe.rule_for("conv.weight") is None
    assigned = recipe.assign(["conv.weight", "conv.bias", "fc1.bias", "fc1.weight", "fc2.weight"])
    assert list(assigned.values()) == [["fc1.weight"], ["fc1.bias", "fc2.weight"], ["conv.bias"]]


def test_a_rule_that_matches_nothing_is_an_error():
    names = [f"layer{i}.weight" for i in range(10)]
    with pytest.raises(
        RecipeError, match=r"'fc\*' matches no tensor; there are: layer0.weight, .* and 2 more"
    ):
        Recipe((Rule("*0.weight"), Rule("fc*"))).assign(names)
    with pytest.raises(RecipeError, match=r"'layer3\.\*' matches only tensors that an earlier rule takes"):
        Recipe((Rule("*"), Rule("layer3.*"))).assign(names)


# -- what cannot be meant --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rule: []", "recipe.yaml: unknown key 'rule'; did you mean 'rules'?"),
        ("rules: {}", "recipe.yaml.rules: expected a list, got {}"),
        ("rules:", "recipe.yaml.rules: expected a list, got nothing"),
        ("rules: [a]", "recipe.yaml.rules[0]: expected a mapping, got 'a'"),
        ("rules: [{}]", "recipe.yaml.rules[0]: match is missing"),
        ("rules: [{match: 3}]", "recipe.yaml.rules[0].match: expected a text, got 3"),
        ("rules: [{match: 're:('}]", "recipe.yaml.rules[0]: match 're:(' is not a regular expression"),
        ("rules: [{match: 're:a{99999999999999}'}]", "recipe.yaml.rules[0]: match"),
        (
            "rules: [{match: a}, {match: b, prun: {}}]",
            "recipe.yaml.rules[1]: unknown key 'prun'; did you mean 'prune'?",
        ),
        (
            "rules: [{match: a, prune: {sparsty: 0.5}}]",
            "recipe.yaml.rules[0].prune: unknown key 'sparsty'; did you mean",
        ),
        ("rules: [{match: a, prune: {sparsity: 1.2}}]", "recipe.yaml.rules[0].prune: sparsity is a fraction"),
        (
            "rules: [{match: a, prune: {sparsity: 90%}}]",
            "recipe.yaml.rules[0].prune.sparsity: expected a number, got '90%'",
        ),
        (
            "rules: [{match: a, prune: {sparsity: .nan}}]",
            "recipe.yaml.rules[0].prune.sparsity: expected a number",
        ),
        ("rules: [{match: a, prune: {}}]", "recipe.yaml.rules[0].prune: give either sparsity or std"),
        (
            "rules: [{match: a, prune: {sparsity: [0.5, 0.9]}}]",
            "recipe.yaml.rules[0].prune: a list of sparsities goes with",
        ),
        (
            "rules: [{match: a, prune: {sparsity: 0.5, schedule: {kind: cubik}}}]",
            "recipe.yaml.rules[0].prune.schedule: unknown schedule 'cubik'",
        ),
        (
            "rules: [{match: a, prune: {sparsity: 0.5, schedule: {epochs: []}}}]",
            "recipe.yaml.rules[0].prune.schedule: the list of epochs is empty",
        ),
        (
            "rules: [{match: a, prune: {sparsity: 0.5, scope: all}}]",
            "recipe.yaml.rules[0].prune: unknown scope 'all'; known: layer, global",
        ),
        (
            "rules: [{match: a, prune: {sparsity: 0.5, granularity: f}}]",
            "unknown granularity 'f'; known: element",
        ),
        (
            "rules: [{match: a, prune: {sparsity: 0.5, importance: nope}}]",
            "recipe.yaml.rules[0].prune: unknown importance",
        ),
        (
            "rules: [{match: a, quantize: {bits: 0}}]",
            "recipe.yaml.rules[0].quantize: bits must be between 1 and 8, got 0",
        ),
        ("rules: [{match: a, quantize: {bits: 9}}]", "bits must be between 1 and 8, got 9"),
        ("rules: [{match: a, quantize: {bits: 33}}]", "bits must be between 1 and 8, got 33"),
        (
            "rules: [{match: a, quantize: {bits: 4.0}}]",
            "recipe.yaml.rules[0].quantize.bits: expected a whole number, got 4.0",
        ),
        ("rules: [{match: a, quantize: {bits: true}}]", "expected a whole number, got True"),
        ("rules: [{match: a, quantize: {fix_zeros: 1}}]", "expected true or false, got 1"),
        (
            "rules: [{match: a, quantize: {method: k}}]",
            "recipe.yaml.rules[0].quantize: unknown method 'k'; known: kmeans, optimal,",
        ),
        ("rules: [{match: a, quantize: {init: k}}]", "unknown init 'k'; known: linear, density, forgy"),
        (
            "rules: [{match: a, code: {coder: zip}}]",
            "recipe.yaml.rules[0].code: unknown coder 'zip'; known: ",
        ),
        ("code: fixed", "recipe.yaml.code: expected a mapping, got 'fixed'"),
        ("code:", "recipe.yaml.code: expected a mapping, got nothing"),
        ("- rules", "recipe.yaml: expected a mapping of keys to values, got list"),
        ("rules: [}", "recipe.yaml: not valid YAML or JSON"),
        ("rules: []\nrules: []", "recipe.yaml: not valid YAML or JSON"),
    ],
)
def test_every_mistake_is_one_line_with_file_and_key(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_recipes_are_frozen_and_rules_can_be_keys():
    rule = Rule("a", Prune(sparsity=(0.5, 0.9), schedule=Schedule("stages")), Quantize(), Code())
    assert len({rule, Rule("a", rule.prune, Quantize(), Code())}) == 1
    with pytest.raises(AttributeError):
        rule.match = "b"
