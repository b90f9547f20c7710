"""Strict reading of plain mappings into frozen dataclasses, and the way back."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from peftrec.config.error import RecipeError
from peftrec.config.registry import Registry, nearest

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a number in a section: `Annotated[int, Range(ge=1)]`."""

    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None

    def check(self, value: float) -> str | None:
        """Return what would be right if the value lies outside, else None."""
        bounds = (("> ", self.gt, value), (">= ", self.ge, value), ("< ", self.lt, value), ("<= ", self.le, value))
        failed = (
            self.gt is not None and not value > self.gt,
            self.ge is not None and not value >= self.ge,
            self.lt is not None and not value < self.lt,
            self.le is not None and not value <= self.le,
        )
        if not any(failed):
            return None
        return " and ".join(f"{sign}{bound:g}" for sign, bound, _ in bounds if bound is not None)


def parse_section(section: type[T], values: Any, *, path: str = "", registry: Registry | None = None) -> T:
    """Build a section from a plain mapping; every key and value is checked.

    Args:
        section: a frozen keyword-only dataclass; ignored where a registry is given.
        values: the mapping as read from YAML.
        path: dotted path of this section, for messages.
        registry: where the section is a choice, the registry that its `kind` is looked up in.
    Raises:
        RecipeError: unknown key, wrong type, value out of range, unknown kind; the message starts with the dotted path.
    """
    if not isinstance(values, Mapping):
        raise RecipeError(f"{path or 'recipe'}: expected a section (key: value pairs), found {_show(values)}")
    values = dict(values)
    if registry is not None:
        section = _section_of_kind(values, path, registry)
    fields = {field.name: field for field in dataclasses.fields(section)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            known = [*fields, *(["kind"] if registry is not None else [])]
            hint = nearest(str(key), known)
            raise RecipeError(f"{_join(path, str(key))}: unknown key.{hint} Known here: {', '.join(known) or 'none'}")
    hints = get_type_hints(section, include_extras=True)
    arguments = {key: _parse(hints[key], value, _join(path, key)) for key, value in values.items()}
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in arguments:
            raise RecipeError(f"{_join(path, name)}: missing; it has no default")
    try:
        return section(**arguments)
    except RecipeError:
        raise
    except ValueError as error:
        # A message that begins with a field's name continues the dotted path.
        named = str(error).partition(":")[0].partition(".")[0] in fields
        raise RecipeError(f"{path}{'.' if named else ': '}{error}" if path else str(error)) from None


def section_to_dict(section: Any) -> dict[str, Any]:
    """Return the plain mapping that reads back as this section, `kind` first, every default written out."""
    result: dict[str, Any] = {}
    kind = getattr(type(section), "kind", None)
    if kind is not None:
        result["kind"] = kind
    for field in dataclasses.fields(section):
        result[field.name] = _plain(getattr(section, field.name))
    return result


def choice_registry(annotation: Any) -> Registry | None:
    """Return the registry in an annotation such as `Annotated[LossConfig, LOSSES] | None`."""
    if get_origin(annotation) is Annotated:
        return next((extra for extra in get_args(annotation)[1:] if isinstance(extra, Registry)), None)
    if get_origin(annotation) in (Union, types.UnionType):
        return next((found for part in get_args(annotation) if (found := choice_registry(part))), None)
    return None


def _section_of_kind(values: dict[str, Any], path: str, registry: Registry) -> type[Any]:
    kinds = ", ".join(registry.kinds())
    if "kind" not in values:
        raise RecipeError(f"{_join(path, 'kind')}: missing. One of: {kinds}")
    kind = values.pop("kind")
    try:
        return registry.load(kind)
    except RecipeError:
        hint = nearest(str(kind), registry.kinds())
        raise RecipeError(f"{_join(path, 'kind')}: unknown kind {_show(kind)}.{hint} One of: {kinds}") from None


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _show(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return section_to_dict(value)
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return value


def _parse(annotation: Any, value: Any, path: str) -> Any:
    if annotation is Any:  # the settings of another library, which checks them itself
        return value
    origin = get_origin(annotation)
    if origin is Annotated:
        return _parse_annotated(annotation, value, path)
    if origin in (Union, types.UnionType):
        return _parse_union(annotation, value, path)
    if origin is Literal:
        choices = get_args(annotation)
        if value in choices and any(type(value) is type(choice) for choice in choices):
            return value
        hint = nearest(str(value), [str(choice) for choice in choices])
        raise RecipeError(f"{path}: {_show(value)} is not allowed.{hint} One of: {', '.join(map(str, choices))}")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise RecipeError(f"{path}: expected a list, found {_show(value)}")
        return tuple(_parse(get_args(annotation)[0], entry, f"{path}[{row}]") for row, entry in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise RecipeError(f"{path}: expected key: value pairs, found {_show(value)}")
        key_type, value_type = get_args(annotation)
        return {_parse(key_type, k, path): _parse(value_type, v, _join(path, str(k))) for k, v in value.items()}
    if dataclasses.is_dataclass(annotation):
        return value if isinstance(value, annotation) else parse_section(annotation, value, path=path)  # type: ignore[arg-type]
    return _parse_scalar(annotation, value, path)


def _parse_annotated(annotation: Any, value: Any, path: str) -> Any:
    inner, *extras = get_args(annotation)
    registry = choice_registry(annotation)
    if registry is not None:
        return parse_section(inner, value, path=path, registry=registry)
    parsed = _parse(inner, value, path)
    for extra in extras:
        wanted = extra.check(parsed) if isinstance(extra, Range) else None
        if wanted:
            raise RecipeError(f"{path}: {parsed!r} is out of range; it must be {wanted}")
    return parsed


def _parse_union(annotation: Any, value: Any, path: str) -> Any:
    parts = get_args(annotation)
    if value is None and type(None) in parts:
        return None
    errors = []
    for part in (part for part in parts if part is not type(None)):
        try:
            return _parse(part, value, path)
        except RecipeError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    wanted = " or ".join(str(error).removeprefix(f"{path}: ") for error in errors)
    raise RecipeError(f"{path}: {wanted}")


def _parse_scalar(annotation: Any, value: Any, path: str) -> Any:
    if annotation is bool and isinstance(value, bool):
        return value
    if annotation is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if annotation is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise RecipeError(f"{path}: {value} is not a finite number")
        return float(value)
    if annotation is str and isinstance(value, str):
        return value
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text (put it in quotes)"}
    assert annotation in names, f"{path}: sections cannot hold {annotation}"
    raise RecipeError(f"{path}: expected {names[annotation]}, found {_show(value)}")
