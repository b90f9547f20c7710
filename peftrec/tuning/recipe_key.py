"""Dotted keys of a recipe: which of them may be searched over, and what types they take."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from peftrec.config import RecipeError, nearest
from peftrec.recipe import Recipe

_TUNABLE_DATA = ("data.template", "data.user_template")
_OTHER_EVENTS = "trials would be measured on other data; only data.template and data.user_template may be searched over"
# Why a key may not be searched over: it and all that lies below it.
_BANNED = {
    "data": _OTHER_EVENTS,
    "evaluation": "trials would be measured by other rules, and their values could not be compared",
    "training.metric": "trials would be measured by other metrics, and their values could not be compared",
    "training.seed": "the best seed is the luckiest one; train the best recipe with several seeds instead",
    "baseline.seed": "the best seed is the luckiest one; fit the best recipe with several seeds instead",
    "training.trackers": "it decides nothing, and trials are not tracked",
    "output_dir": "trials keep no run folder",
}


def check_tunable(key: str) -> None:
    """See that a key may be searched over: not what decides on which cases, and how, trials are measured.

    Raises:
        RecipeError: that begins with the key and says why not.
    """
    if key in _TUNABLE_DATA:
        return
    for banned, why in _BANNED.items():
        if key == banned or key.startswith(f"{banned}."):
            raise RecipeError(f"{key}: may not be searched over: {why}")
    if key == "training":
        raise RecipeError(f"{key}: holds training.metric and training.seed; name the keys below it, one by one")


def scalar_types(recipe: Recipe, key: str) -> frozenset[type] | None:
    """Return the types of the plain values that a key of a recipe takes.

    Args:
        recipe: whose kinds decide which keys there are.
        key: dotted, such as `optimizer.learning_rate`.
    Returns:
        Some of int, float, bool, str; none where the key takes sections or lists alone; None where another library
        checks the value and any may stand.
    Raises:
        RecipeError: that begins with the key, if the recipe has no such key.
    """
    *parents, last = key.split(".")
    section: Any = recipe
    for depth, name in enumerate(parents):
        if isinstance(section, Mapping):
            return None
        _check_field(section, name, key)
        section = getattr(section, name)
        if section is None:
            place = ".".join(parents[: depth + 1])
            raise RecipeError(f"{key}: the recipe leaves {place} out; write that section into it first")
    if isinstance(section, Mapping):
        return None
    if last == "kind" and hasattr(type(section), "kind"):
        return frozenset({str})
    _check_field(section, last, key)
    return frozenset(_scalars(get_type_hints(type(section), include_extras=True)[last]))


def _check_field(section: Any, name: str, key: str) -> None:
    if not dataclasses.is_dataclass(section):
        raise RecipeError(f"{key}: leads through a value that is no section")
    known = [field.name for field in dataclasses.fields(section)]
    known += ["kind"] if hasattr(type(section), "kind") else []
    if name not in known:
        raise RecipeError(f"{key}: the recipe has no such key.{nearest(name, known)} Known there: {', '.join(known)}")


def _scalars(annotation: Any) -> Iterator[type]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _scalars(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _scalars(part)
    elif origin is Literal:
        yield from (type(choice) for choice in get_args(annotation))
    elif annotation in (int, float, bool, str):
        yield annotation
