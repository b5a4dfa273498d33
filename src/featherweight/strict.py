"""Building frozen dataclasses from YAML or JSON, refusing what cannot be meant."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import math
import types
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from featherweight.errors import RecipeError

T = TypeVar("T")


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Read a YAML or JSON file that holds a mapping.

    Raises:
        RecipeError: where the file is missing, cannot be parsed or holds something else.
    """
    path = Path(path)
    try:
        data = _parse(path.read_text(encoding="utf-8"), is_json=path.suffix == ".json")
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = " ".join(str(error).split())
        raise RecipeError(f"{path}: not valid YAML or JSON: {where}") from None
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: expected a mapping of keys to values, got {type(data).__name__}")
    return data


def _parse(text: str, *, is_json: bool) -> Any:
    # YAML takes in most of JSON, but neither tabs nor characters escaped as two surrogates.
    if is_json:
        return json.loads(text, object_pairs_hook=_without_repeats)
    return yaml.load(text, _Loader)  # noqa: S506  (a SafeLoader)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for i, (key, _) in enumerate(pairs):
        if any(key == earlier for earlier, _ in pairs[:i]):
            raise ValueError(f"the key {key!r} is given twice")
    return dict(pairs)


class _Loader(yaml.SafeLoader):
    """YAML as PyYAML reads it, but a key given twice is an error, not overwritten."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for i, key in enumerate(keys):
            if any(key.value == earlier.value for earlier in keys[:i]):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice", key.start_mark
                )
        return super().construct_mapping(node, deep)


def write_mapping(data: dict[str, Any], path: str | Path) -> None:
    """Write a mapping as JSON where the path ends in ``.json``, else as YAML."""
    path = Path(path)
    if path.suffix == ".json":
        text = json.dumps(data, indent=2) + "\n"
    else:
        # In ASCII: PyYAML does not read back every line break of Unicode that it writes.
        text = yaml.safe_dump(data, sort_keys=False)
    path.write_text(text, encoding="utf-8")


def build(cls: type[T], data: Any, where: str) -> T:
    """Make a dataclass from a mapping, nested ones and tuples of them included.

    Args:
        cls: a dataclass whose fields are plain values, dataclasses, tuples or unions of these.
        data: the mapping.
        where: what to call it in an error, such as ``rules[0].prune``.

    Raises:
        RecipeError: for a key that the class does not have (with the nearest one), a key that is
            missing, or a value of the wrong type.
    """
    if not isinstance(data, dict):
        raise RecipeError(f"{where}: expected a mapping, got {_show(data)}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(fields)}"
            raise RecipeError(f"{where}: unknown key {key!r}; {hint}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in data:
            raise RecipeError(f"{where}: {name} is missing")
    hints = get_type_hints(cls)
    values = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in data.items()}
    try:
        return cls(**values)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None


def plain(value: Any) -> Any:
    """The inverse of :func:`build`: dataclasses as mappings, without the keys that have their default."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        result = {}
        for field in dataclasses.fields(value):
            item = getattr(value, field.name)
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            if item != default or default is dataclasses.MISSING:
                result[field.name] = plain(item)
        return result
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(get_args(hint), value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise RecipeError(f"{where}: expected a list, got {_show(value)}")
        inner = get_args(hint)[0]
        return tuple(_convert(inner, item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise RecipeError(f"{where}: expected a mapping, got {_show(value)}")
        return value
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]
    return _convert_plain(hint, value, where)


def _convert_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    is_list = isinstance(value, list | tuple)
    options = tuple(o for o in options if o is not type(None))
    fitting = [o for o in options if (get_origin(o) is tuple) == is_list] or list(options)
    if isinstance(value, dict):
        fitting = [o for o in fitting if dataclasses.is_dataclass(o) or get_origin(o) is dict] or fitting
    # A whole number is an int where there is a choice, whatever stands first.
    fitting = [o for o in fitting if o is type(value)] or fitting
    for option in fitting[:-1]:
        with contextlib.suppress(RecipeError):
            return _convert(option, value, where)
    return _convert(fitting[-1], value, where)


def _convert_plain(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        # YAML 1.1 reads 1e-3, without a point, as a string.
        with contextlib.suppress(ValueError, OverflowError):
            if math.isfinite(number := float(value)):
                return number
    elif hint is Any or (isinstance(value, hint) and not (hint is int and isinstance(value, bool))):
        return value
    raise RecipeError(f"{where}: expected {_TYPE_NAMES.get(hint, hint.__name__)}, got {_show(value)}")


_TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
}


def _show(value: Any) -> str:
    return "nothing" if value is None else repr(value)


def one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a value that is not among those known.

    Raises:
        RecipeError: naming them.
    """
    if value not in known:
        raise RecipeError(f"unknown {what} {value!r}; known: {', '.join(known)}")
