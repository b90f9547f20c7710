"""The space of a search: keys of a recipe, and what each may be."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftrec.config import RecipeError
from peftrec.config.yaml_file import read_yaml
from peftrec.recipe import Recipe, recipe_with

if TYPE_CHECKING:
    import optuna

# What makes results of trials no longer comparable, or is no part of a recipe's quality.
_FIXED = ("data.split", "data.cleaning", "data.sample", "data.root", "evaluation", "training.metric", "output_dir")


@dataclasses.dataclass(frozen=True)
class Choices:
    """One of some values, which may be whole sections.

    Args:
        values: all different, in order.
    """

    values: tuple[Any, ...]

    def suggest(self, trial: optuna.Trial, key: str) -> Any:
        """Draw a value."""
        return json.loads(trial.suggest_categorical(key, self.plain()))

    def plain(self) -> list[str]:
        """Return the values as JSON, which is what a study holds of them."""
        return [json.dumps(value) for value in self.values]

    def ends(self) -> tuple[Any, ...]:
        """Return the outermost values where they are ordered numbers; else nothing has an edge."""
        numbers = [value for value in self.values if isinstance(value, int | float) and not isinstance(value, bool)]
        # Of two values each is an edge.
        if len(numbers) < len(self.values) or len(numbers) < 3:
            return ()
        return min(numbers), max(numbers)


@dataclasses.dataclass(frozen=True)
class Span:
    """Numbers from one to another, both ends included.

    Args:
        low: the lowest.
        high: the highest.
        log: whether they are drawn evenly by their logarithm.
        step: between two neighbours; None: any, or every whole number.
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    def suggest(self, trial: optuna.Trial, key: str) -> int | float:
        """Draw a value."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(key, self.low, self.high, log=self.log, step=int(self.step or 1))
        return trial.suggest_float(key, self.low, self.high, log=self.log, step=self.step)

    def ends(self) -> tuple[int | float, ...]:
        """Return the lowest and the highest."""
        return self.low, self.high


Axis = Choices | Span


@dataclasses.dataclass(frozen=True)
class Space:
    """What may vary.

    Args:
        axes: by dotted key of the recipe.
    """

    axes: Mapping[str, Axis]

    @property
    def size(self) -> int | None:
        """Number of points, where every axis has choices; else None."""
        size = 1
        for axis in self.axes.values():
            if not isinstance(axis, Choices):
                return None
            size *= len(axis.values)
        return size

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield every point of a grid, the last axis first."""
        choices = [axis.values for axis in self.axes.values() if isinstance(axis, Choices)]
        for values in itertools.product(*choices):
            yield dict(zip(self.axes, values, strict=True))

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Draw a point."""
        return {key: axis.suggest(trial, key) for key, axis in self.axes.items()}

    def edges(self, values: Mapping[str, Any]) -> list[str]:
        """Return what of a point lies at an end of its axis, in words."""
        return [
            f"{key}: {values[key]} is the {'lowest' if values[key] == min(axis.ends()) else 'highest'} value tried"
            for key, axis in self.axes.items()
            if values[key] in axis.ends()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return it as it stands in a file."""
        return {
            key: list(axis.values) if isinstance(axis, Choices) else _span_dict(axis) for key, axis in self.axes.items()
        }


def as_overrides(values: Mapping[str, Any]) -> list[str]:
    """Return a point as overrides of a recipe, such as `optimizer.learning_rate=0.001`."""
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def read_space(given: str | Path | Mapping[str, Any], recipe: Recipe) -> Space:
    """Read a space, and see that the recipe takes every value, or both ends of a range.

    Args:
        given: a YAML file, or what stands in one: for each dotted key a list of choices, or `low`, `high` and, if
            wanted, `log` and `step`.
        recipe: whose keys they are.
    Raises:
        RecipeError: with the file and the key, if a key is not known or may not vary, a value is wrong, an axis is
            empty or its ends are not in order.
    """
    source = str(given) if isinstance(given, str | Path) else "space"
    content = read_yaml(given) if isinstance(given, str | Path) else dict(given)
    if not content:
        raise RecipeError(f"{source}: is empty; name a key, such as optimizer.learning_rate: [1e-4, 1e-3]")
    axes = {}
    for key, entry in content.items():
        try:
            axes[key] = _axis(entry)
            _check(key, axes[key], recipe)
        except RecipeError as error:
            raise RecipeError(f"{source}: {key}: {error}") from None
    return Space(axes)


def _axis(entry: Any) -> Axis:
    if isinstance(entry, list):
        if len({json.dumps(value) for value in entry}) < len(entry):
            raise RecipeError(f"a choice stands there twice: {entry}")
        if not entry:
            raise RecipeError("is empty; name the values to try, such as [1e-4, 1e-3]")
        return Choices(tuple(entry))
    if not isinstance(entry, dict) or not {"low", "high"} <= entry.keys():
        raise RecipeError(
            f"is {entry!r}; it must be a list of values, or a range such as {{low: 1e-5, high: 1e-3, log: true}}"
        )
    unknown = entry.keys() - {"low", "high", "log", "step"}
    if unknown:
        raise RecipeError(f"unknown key '{min(unknown)}'; a range has low, high, log and step")
    numbers = [entry[name] for name in ("low", "high", "step") if entry.get(name) is not None]
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
        raise RecipeError(f"low, high and step must be numbers, got {entry}")
    if not isinstance(entry.get("log", False), bool):
        raise RecipeError(f"log must be true or false, got {entry['log']!r}")
    span = Span(entry["low"], entry["high"], entry.get("log", False), entry.get("step"))
    if not span.low < span.high:
        raise RecipeError(f"low must be below high, got {span.low} and {span.high}")
    if span.log and (span.low <= 0 or span.step is not None):
        raise RecipeError("log needs low above 0, and no step")
    if span.step is not None and not 0 < span.step <= span.high - span.low:
        raise RecipeError(f"step must be above 0 and at most {span.high - span.low:g}, got {span.step}")
    return span


def _span_dict(span: Span) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(span).items() if value is not None and value is not False}


def _check(key: str, axis: Axis, recipe: Recipe) -> None:
    """See that the recipe takes what an axis gives; what does not go with another axis shows in the trials."""
    if any(key == fixed or key.startswith(f"{fixed}.") for fixed in _FIXED):
        raise RecipeError("may not vary: results would not be comparable, or it decides none")
    for value in axis.values if isinstance(axis, Choices) else axis.ends():
        recipe_with(recipe, as_overrides({key: value}))
