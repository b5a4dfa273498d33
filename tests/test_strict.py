from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from featherweight.errors import RecipeError
from featherweight.strict import build, plain, read_mapping, write_mapping


@dataclass(frozen=True)
class Inner:
    size: int = 1
    rate: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    flag: bool = False
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    amount: float | tuple[float, ...] | None = None
    parts: tuple[Inner, ...] = ()
    options: dict[str, int] = field(default_factory=dict)


def test_build_and_plain_are_inverse():
    data = {
        "name": "x",
        "flag": True,
        "inner": {"size": 3},
        "maybe": {"rate": 0.25},
        "amount": [0.1, 0.2],
        "parts": [{"size": 2}, {}],
        "options": {"a": 1},
    }
    built = build(Outer, data, "here")
    assert built == Outer("x", True, Inner(3), Inner(rate=0.25), (0.1, 0.2), (Inner(2), Inner()), {"a": 1})
    assert plain(built) == data
    assert plain(Outer("x")) == {"name": "x"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2, 2.0), (0.5, 0.5), ("1e-3", 0.001), ("-2E4", -20_000.0), (None, None), ([1, "1e1"], (1, 10))],
)
def test_numbers(value, expected):
    built = build(Outer, {"name": "x", "amount": value}, "here").amount
    assert built == expected
    assert not isinstance(built, int)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], r"here: expected a mapping, got \[\]"),
        ({}, "here: name is missing"),
        ({"name": "x", "flg": True}, "here: unknown key 'flg'; did you mean 'flag'?"),
        ({"name": "x", "zzz": True}, "here: unknown key 'zzz'; known: name, flag, inner"),
        ({"name": "x", 3: True}, "here: unknown key 3; known"),
        ({"name": 3}, "here.name: expected a text, got 3"),
        ({"name": "x", "flag": 1}, "here.flag: expected true or false, got 1"),
        ({"name": "x", "inner": {"size": True}}, "here.inner.size: expected a whole number, got True"),
        ({"name": "x", "inner": {"size": 2.0}}, "here.inner.size: expected a whole number, got 2.0"),
        ({"name": "x", "inner": {"rate": True}}, "here.inner.rate: expected a number, got True"),
        ({"name": "x", "inner": {"rate": "fast"}}, "here.inner.rate: expected a number, got 'fast'"),
        ({"name": "x", "inner": {"rate": "nan"}}, "here.inner.rate: expected a number, got 'nan'"),
        ({"name": "x", "inner": {"rate": float("inf")}}, "here.inner.rate: expected a number, got inf"),
        ({"name": "x", "inner": {"rate": 10**400}}, "here.inner.rate: expected a number, got 1000"),
        ({"name": "x", "inner": None}, "here.inner: expected a mapping, got nothing"),
        ({"name": "x", "maybe": [1]}, r"here.maybe: expected a mapping, got \[1\]"),
        ({"name": "x", "amount": {}}, r"here.amount: expected a number, got \{\}"),
        ({"name": "x", "amount": [[]]}, r"here.amount\[0\]: expected a number, got \[\]"),
        ({"name": "x", "parts": {"size": 2}}, "here.parts: expected a list"),
        (
            {"name": "x", "parts": [{}, {"sise": 2}]},
            r"here.parts\[1\]: unknown key 'sise'; did you mean 'size'?",
        ),
        ({"name": "x", "options": [1]}, r"here.options: expected a mapping, got \[1\]"),
    ],
)
def test_what_cannot_be_meant(data, message):
    with pytest.raises(RecipeError, match=message) as caught:
        build(Outer, data, "here")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "", "expected a mapping of keys to values, got NoneType"),
        ("a.yaml", "- 1", "expected a mapping of keys to values, got list"),
        ("a.json", "[1]", "expected a mapping of keys to values, got list"),
        ("a.yaml", "a: [1,\nb: 2", "not valid YAML or JSON"),
        ("a.json", '{"a": }', "not valid YAML or JSON"),
        ("a.yaml", "a: 2020-13-45", "not valid YAML or JSON: month must be"),
        ("a.yaml", "a: !!python/object/apply:os.getcwd []", "not valid YAML or JSON: could not determine"),
        ("a.yaml", "a: 1\nb: 2\na: 3", "the key 'a' is given twice"),
        ("a.yaml", "b: {c: 1, c: 2}", "the key 'c' is given twice"),
        ("a.json", '{"b": {"c": 1, "c": 2}}', "the key 'c' is given twice"),
        ("a.json", "[" * 100_000, "not valid YAML or JSON"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        read_mapping(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(caught.value)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(RecipeError, match=r"none\.yaml: cannot be read: No such file"):
        read_mapping(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="cannot be read"):
        read_mapping(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(RecipeError, match=r"binary\.yaml: not valid YAML or JSON"):
        read_mapping(tmp_path / "binary.yaml")


@pytest.mark.parametrize("name", ["a.yaml", "a.json"])
def test_any_text_is_written_and_read_unchanged(tmp_path, name):
    texts = ["", " ", "1e-3", "yes", "null", "re:^a.*$", "ü × 😀", "\x85\u2028", "a: b", "#", "'\"", "\t"]
    data = {"texts": texts, "numbers": [1e-5, 1e16, 0.1, -3, 2.5e-300], "flags": [True, None]}
    write_mapping(data, tmp_path / name)
    assert read_mapping(tmp_path / name) == data


def test_json_may_be_indented_by_tabs(tmp_path):
    (tmp_path / "a.json").write_text('{\n\t"a": [\n\t\t1\n\t]\n}')
    assert read_mapping(tmp_path / "a.json") == {"a": [1]}


def test_json_in_a_yaml_file_and_merged_keys(tmp_path):
    (tmp_path / "a.yaml").write_text('{"a": [1, 2.5e-3], "b": null}')
    assert read_mapping(tmp_path / "a.yaml") == {"a": [1, 0.0025], "b": None}
    (tmp_path / "b.yaml").write_text("base: &base {x: 1, y: 2}\nother:\n  <<: *base\n  y: 3\n")
    assert read_mapping(tmp_path / "b.yaml") == {"base": {"x": 1, "y": 2}, "other": {"x": 1, "y": 3}}
