"""Strict YAML: YAML 1.2 scalars, no duplicate keys, no tags; and `a.b=c` overrides."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_type_hints

import yaml

from peftrec.config.error import RecipeError
from peftrec.config.section import choice_registry


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 scalars and no tags: `3e-4` is a number, `no` and `012` are text."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise yaml.composer.ComposerError(None, None, f"tag {tag} is not read; leave it out", event.start_mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back, in block style."""


_Loader.yaml_implicit_resolvers = {}
_Dumper.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), ["" if c == "\0" else c for c in _first]
        )


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # YAML takes these for ends of lines, which it folds into spaces everywhere but in an escape.
    style = '"' if any(mark in value for mark in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool):
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not a plain name", key_node.start_mark)
        if key in result:
            raise yaml.constructor.ConstructorError(None, None, f"key '{key}' stands twice", key_node.start_mark)
        result[key] = loader.construct_object(value_node, deep=True)
    return result


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node)).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


# Of a whole file; recipes have some hundreds.
_MOST_VALUES: Final = 100_000
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def parse_yaml(text: str, *, source: str) -> Any:
    """Read YAML text strictly; `source` names it in messages.

    Raises:
        RecipeError: if it is not valid YAML or a key stands twice, with line and column.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        _values(node, {}, source)
        return None if node is None else loader.construct_document(node)
    except RecursionError:
        raise RecipeError(f"{source}: is nested too deep") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}, line {mark.line + 1}, column {mark.column + 1}" if mark else source
        raise RecipeError(f"{place}: {getattr(error, 'problem', None) or error}") from None


def _values(node: yaml.Node | None, known: dict[int, int], source: str) -> int:
    """Count what a node stands for, each alias written out: a few lines of them can stand for more than fits memory."""
    if node is None or isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        # For one that holds itself, which is refused when it is made.
        known[id(node)] = 0
        below = node.value if isinstance(node, yaml.SequenceNode) else [one for pair in node.value for one in pair]
        known[id(node)] = 1 + sum(_values(one, known, source) for one in below)
    if known[id(node)] >= _MOST_VALUES:
        raise RecipeError(f"{source}: holds {_MOST_VALUES:,} values or more, with its aliases written out")
    return known[id(node)]


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read one YAML file that holds key: value pairs.

    Raises:
        RecipeError: if the file is missing, is not UTF-8, is not valid YAML, or holds something else.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{path}: there is no such file (looked from {Path.cwd()})") from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: is a folder; a recipe is a YAML file") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    values = parse_yaml(text, source=str(path))
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: expected key: value pairs at the top, found {type(values).__name__}")
    return values


def dump_yaml(values: dict[str, Any]) -> str:
    """Return YAML that `parse_yaml` reads back to equal values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)


def apply_overrides(section: type[Any], values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the mapping with `a.b=c` overrides applied; the right side is read as YAML.

    Another `kind` drops the rest of its section, so that the new kind starts from its own defaults; `kind` overrides
    are applied before all others. Unknown keys are left to `parse_section` to name.

    Raises:
        RecipeError: if an override is not of the form `a.b=c`, or leads through a value that is no section.
    """
    pairs = [_split_override(override) for override in overrides]
    pairs.sort(key=lambda pair: (pair[0][-1] != "kind", len(pair[0]) if pair[0][-1] == "kind" else 0))
    result: dict[str, Any] = _copy(values)
    for keys, value in pairs:
        target = result
        for depth, key in enumerate(keys[:-1]):
            if target.get(key) is None:
                target[key] = _default_choice(section, result, keys[: depth + 1])
            if not isinstance(target[key], dict):
                raise RecipeError(f"{'.'.join(keys)}: '{'.'.join(keys[: depth + 1])}' is a value, not a section")
            target = target[key]
        if keys[-1] == "kind" and target.get("kind") != value:
            target.clear()
        target[keys[-1]] = value
    return result


def _split_override(override: str) -> tuple[list[str], Any]:
    name, equals, text = override.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(f"override {override!r}: expected key=value, such as optimizer.learning_rate=1e-3")
    return keys, parse_yaml(text, source=f"override {override!r}")


def _copy(values: Any) -> Any:
    return {key: _copy(value) for key, value in values.items()} if isinstance(values, dict) else values


def _default_choice(section: type[Any], values: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    """Return `{kind: ...}` where a section left out of the file is a choice with a default, else an empty section."""
    current: Any = section
    default: Any = None
    given: Any = values
    for key in keys:
        field = {field.name: field for field in dataclasses.fields(current)}.get(key)
        if field is None:
            return {}
        registry = choice_registry(get_type_hints(current, include_extras=True)[key])
        factory = field.default_factory
        default = factory() if factory is not dataclasses.MISSING else field.default
        current = type(default)
        given = given.get(key) if isinstance(given, dict) else None
        kind = given.get("kind") if registry is not None and isinstance(given, dict) else None
        if registry is not None and kind in registry.kinds():
            current = registry.load(kind)
        if registry is None:
            default = None
        if not dataclasses.is_dataclass(current):
            return {}
    return {"kind": type(default).kind} if hasattr(type(default), "kind") else {}
