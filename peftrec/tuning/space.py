"""The search space: axes over keys of a recipe, read from YAML."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from peftrec.config import RecipeError, read_yaml
from peftrec.recipe import Recipe, recipe_with
from peftrec.tuning.axis import Axis, parse_axis
from peftrec.tuning.recipe_key import check_tunable, scalar_types
from peftrec.tuning.trial import overrides_of

# Settings of the other axes that a value is tried with before it is said to fit none of them.
_MAX_COMPANIONS = 200
_MAX_GRID = 10_000


@dataclasses.dataclass(frozen=True)
class Space:
    """Values of a recipe to choose among.

    Args:
        axes: one a key, in the order of the file.
        source: names the file in messages.
    """

    axes: tuple[Axis, ...]
    source: str = "space"

    def plain(self) -> dict[str, Any]:
        """Return what `read_space` reads back to an equal space."""
        return {axis.key: axis.plain() for axis in self.axes}

    def grid(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the points of the grid: every combination of values, the last axis changing fastest.

        Args:
            limit: the first so many; None for all.
        Raises:
            RecipeError: if an axis is a range without step, or there are too many points.
        """
        try:
            values = [axis.points() for axis in self.axes]
        except RecipeError as error:
            raise RecipeError(f"{self.source}: {error}") from None
        keys = [axis.key for axis in self.axes]
        points = (dict(zip(keys, point, strict=True)) for point in itertools.product(*values))
        found = list(itertools.islice(points, _MAX_GRID + 1 if limit is None else limit))
        if len(found) > _MAX_GRID:
            raise RecipeError(f"{self.source}: the grid has more than {_MAX_GRID:,} points; use sampler random or tpe")
        return found

    def check_points(self, recipe: Recipe, points: Sequence[Mapping[str, Any]]) -> None:
        """See that the recipe takes each of the points.

        Raises:
            RecipeError: naming the file, the point, and what the recipe says of it.
        """
        for point in points:
            try:
                recipe_with(recipe, overrides_of(point))
            except RecipeError as error:
                raise RecipeError(f"{self.source}: the point {' '.join(overrides_of(point))}: {error}") from None

    def edges(self, recipe: Recipe, values: Mapping[str, Any]) -> list[str]:
        """Return a warning for each value at the edge of its axis, where the recipe would take values beyond it.

        Args:
            recipe: that the space is of.
            values: of the best trial, by key.
        """
        warnings = []
        for axis in self.axes:
            value = values[axis.key]
            outside = axis.beyond(value)
            if any(_fits(recipe, {**values, axis.key: other}) is None for other in outside):
                side = "lowest" if outside[0] < value else "highest"
                warnings.append(
                    f"{axis.key}: the best value, {value:.6g}, lies at the {side} edge of the space; widen it there"
                )
        return warnings


def read_space(source: str | Path | Mapping[str, Any], recipe: Recipe, *, overridden: Sequence[str] = ()) -> Space:
    """Read a search space and check it against the recipe that it is for; nothing else is opened.

    Args:
        source: a YAML file, or its content: dotted keys of the recipe, each with a list of values or a range.
        recipe: resolved.
        overridden: overrides that were given beside the space; a key may stand in one of the two.
    Raises:
        RecipeError: unknown key, value of the wrong type or out of range, empty list, low that is not below high, a key
            that is overridden too or that decides on what trials are measured; with file, key, and what would be right.
    """
    given = dict(source) if isinstance(source, Mapping) else read_yaml(source)
    name = "space" if isinstance(source, Mapping) else str(source)
    try:
        if not given:
            raise RecipeError("names no key to search over, such as optimizer.learning_rate: [1e-4, 1e-3]")
        axes = tuple(_axis(key, values, recipe) for key, values in given.items())
        _check_keys([axis.key for axis in axes], overridden)
        _check_values(axes, recipe)
    except RecipeError as error:
        raise RecipeError(f"{name}: {error}") from None
    return Space(axes, name)


def _axis(key: Any, values: Any, recipe: Recipe) -> Axis:
    key = str(key)
    check_tunable(key)
    return parse_axis(key, values, scalar_types(recipe, key))


def _check_keys(keys: Sequence[str], overridden: Sequence[str]) -> None:
    for key, other in itertools.combinations(keys, 2):
        if _overlap(key, other):
            inner, outer = (key, other) if len(key) > len(other) else (other, key)
            raise RecipeError(f"{inner}: lies in {outer}, which is searched over too; name one of the two")
    for override in overridden:
        fixed = override.partition("=")[0].strip()
        for key in keys:
            if _overlap(key, fixed):
                raise RecipeError(
                    f"{key}: is searched over, but {override!r} sets it on the command line; leave one of the two out"
                )


def _overlap(key: str, other: str) -> bool:
    return key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.")


def _check_values(axes: Sequence[Axis], recipe: Recipe) -> None:
    """Refuse a value that the recipe takes neither alone nor beside any values of the other axes."""
    for axis in axes:
        for value in axis.samples():
            wrong = _fits(recipe, {axis.key: value})
            if wrong is not None and not any(_fits(recipe, point) is None for point in _beside(axes, axis, value)):
                raise wrong


def _beside(axes: Sequence[Axis], axis: Axis, value: Any) -> Iterator[dict[str, Any]]:
    others = [other for other in axes if other is not axis]
    for values in itertools.islice(itertools.product(*(other.samples() for other in others)), _MAX_COMPANIONS):
        yield {axis.key: value} | {other.key: beside for other, beside in zip(others, values, strict=True)}


def _fits(recipe: Recipe, values: Mapping[str, Any]) -> RecipeError | None:
    """Return what a recipe says against values, or None where it takes them."""
    try:
        recipe_with(recipe, overrides_of(values))
    except RecipeError as error:
        return error
    return None
