"""One axis of a search space: a key of the recipe and the values that it may take."""

from __future__ import annotations

import dataclasses
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from peftrec.config import RecipeError

if TYPE_CHECKING:
    import optuna

_RANGE_KEYS = ("low", "high", "log", "step")
# A value of a range without steps lies at its edge within this share of the range.
_EDGE_SHARE = 0.05


@dataclasses.dataclass(frozen=True)
class Axis(ABC):
    """A key of the recipe, searched over.

    Args:
        key: dotted, such as `optimizer.learning_rate`.
    """

    key: str

    @abstractmethod
    def points(self) -> tuple[Any, ...]:
        """Return every value in the order of a grid.

        Raises:
            RecipeError: if they cannot be counted.
        """

    @abstractmethod
    def samples(self) -> tuple[Any, ...]:
        """Return values that show whether the axis fits the recipe: all choices, or the ends of a range."""

    @abstractmethod
    def suggest(self, trial: optuna.Trial) -> Any:
        """Let Optuna choose a value."""

    @abstractmethod
    def stored(self, value: Any) -> Any:
        """Return the value as Optuna stores it."""

    @abstractmethod
    def value(self, stored: Any) -> Any:
        """Return the value that Optuna has stored."""

    @abstractmethod
    def plain(self) -> Any:
        """Return what a space file says of this axis."""

    @abstractmethod
    def beyond(self, value: Any) -> tuple[Any, ...]:
        """Return values a little outside the axis where `value` lies at its edge; otherwise none."""


@dataclasses.dataclass(frozen=True)
class Choices(Axis):
    """A list of values: numbers, texts, true or false, null, lists, or whole sections.

    Args:
        values: as YAML gives them; distinct.
    """

    values: tuple[Any, ...]

    def points(self) -> tuple[Any, ...]:
        return self.values

    def samples(self) -> tuple[Any, ...]:
        return self.values

    def suggest(self, trial: optuna.Trial) -> Any:
        return self.value(trial.suggest_categorical(self.key, [self.stored(value) for value in self.values]))

    def stored(self, value: Any) -> Any:
        # Optuna stores plain values only.
        return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value

    def value(self, stored: Any) -> Any:
        return next(value for value in self.values if self.stored(value) == stored)

    def plain(self) -> Any:
        return list(self.values)

    def beyond(self, value: Any) -> tuple[Any, ...]:
        if len(self.values) < 2 or not all(_is_number(choice) for choice in self.values):
            return ()
        ordered = sorted(self.values)
        if value == ordered[0]:
            return _outside(ordered[0], ordered[1] - ordered[0], -1)
        return _outside(ordered[-1], ordered[-1] - ordered[-2], 1) if value == ordered[-1] else ()


@dataclasses.dataclass(frozen=True)
class Interval(Axis):
    """Numbers from `low` to `high`, both among them.

    Args:
        low: least number.
        high: greatest number.
        log: draw evenly on a logarithmic scale.
        step: distance of the numbers that there are; None for all between.
        whole: whether they are whole numbers.
    """

    low: float
    high: float
    log: bool
    step: float | None
    whole: bool

    def points(self) -> tuple[Any, ...]:
        if self.step is None:
            raise RecipeError(f"{self.key}: a grid needs a list of values, or a range with step")
        low, step = Decimal(str(self.low)), Decimal(str(self.step))
        count = int((Decimal(str(self.high)) - low) / step) + 1
        return tuple((int if self.whole else float)(low + number * step) for number in range(count))

    def samples(self) -> tuple[Any, ...]:
        return (self.low, self.high)

    def suggest(self, trial: optuna.Trial) -> Any:
        if self.whole:
            step = 1 if self.step is None else int(self.step)
            return trial.suggest_int(self.key, int(self.low), int(self.high), step=step, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)

    def stored(self, value: Any) -> Any:
        return value

    def value(self, stored: Any) -> Any:
        return int(stored) if self.whole else float(stored)

    def plain(self) -> Any:
        named = {"low": self.low, "high": self.high, "log": self.log or None, "step": self.step}
        return {name: value for name, value in named.items() if value is not None}

    def beyond(self, value: Any) -> tuple[Any, ...]:
        scale = math.log if self.log else float
        low, high, place = scale(self.low), scale(self.high), scale(value)
        margin = _EDGE_SHARE * (high - low) if self.step is None and not self.whole else 0.0
        gap = self.step or (1 if self.whole else (self.high - self.low) / 10)
        if place <= low + margin:
            return _outside(self.low, gap, -1)
        return _outside(self.high, gap, 1) if place >= high - margin else ()


def parse_axis(key: str, given: Any, types: frozenset[type] | None) -> Axis:
    """Read what a space file says of a key.

    Args:
        key: dotted.
        given: a list of values, or a mapping with low and high.
        types: of the plain values that the recipe takes there; None for any.
    Raises:
        RecipeError: that begins with the key and says what would be right.
    """
    if isinstance(given, list):
        return _choices(key, given)
    if isinstance(given, dict) and given and set(given) <= set(_RANGE_KEYS):
        return _interval(key, given, types)
    right = "a list of values, such as [1e-4, 1e-3], or a range, such as {low: 1e-5, high: 1e-2, log: true}"
    if isinstance(given, dict):
        unknown = ", ".join(str(name) for name in given if name not in _RANGE_KEYS) or "nothing"
        raise RecipeError(
            f"{key}: expected {right}, found a section with {unknown} (keys below a section are written with dots, "
            f"such as optimizer.learning_rate)"
        )
    raise RecipeError(f"{key}: expected {right}, found {given!r}")


def _choices(key: str, given: Sequence[Any]) -> Choices:
    if not given:
        raise RecipeError(f"{key}: the list is empty; name the values to try, such as [1e-4, 1e-3]")
    for row, value in enumerate(given):
        if value in given[:row]:
            raise RecipeError(f"{key}: {value!r} stands twice; name each value once")
    return Choices(key, tuple(given))


def _interval(key: str, given: dict[str, Any], types: frozenset[type] | None) -> Interval:
    for name in ("low", "high"):
        if name not in given:
            raise RecipeError(f"{key}: {name} is missing; a range has both low and high")
    for name in ("low", "high", "step"):
        if name in given and not (_is_number(given[name]) and math.isfinite(given[name])):
            raise RecipeError(f"{key}.{name}: expected a number, found {given[name]!r}")
    log = given.get("log", False)
    if not isinstance(log, bool):
        raise RecipeError(f"{key}.log: expected true or false, found {log!r}")
    if types is not None and not types & {int, float}:
        raise RecipeError(f"{key}: takes no numbers, so it has no range; give a list of values")
    numbers = [given[name] for name in ("low", "high", "step") if name in given]
    whole = float not in types if types is not None else all(isinstance(number, int) for number in numbers)
    if whole:
        for name in ("low", "high", "step"):
            if isinstance(given.get(name), float):
                raise RecipeError(f"{key}.{name}: expected a whole number, found {given[name]}")
    else:
        given = {name: float(value) if _is_number(value) else value for name, value in given.items()}
    low, high, step = given["low"], given["high"], given.get("step")
    _check_range(key, low, high, step, log=log)
    return Interval(key, low, high, log, step, whole)


def _check_range(key: str, low: float, high: float, step: float | None, *, log: bool) -> None:
    if low >= high:
        raise RecipeError(f"{key}: low {low} is not below high {high}; swap them, or give a list of values")
    if log and low <= 0:
        raise RecipeError(f"{key}.low: {low} has no logarithm; with log: true it must be above 0")
    if step is None:
        return
    if log:
        raise RecipeError(f"{key}: step and log exclude each other; leave one out, or give a list of values")
    if step <= 0:
        raise RecipeError(f"{key}.step: {step} is too small; it must be above 0")
    steps = (Decimal(str(high)) - Decimal(str(low))) / Decimal(str(step))
    if steps != int(steps):
        last = Decimal(str(low)) + int(steps) * Decimal(str(step))
        raise RecipeError(f"{key}: steps of {step} from {low} end at {last} and not at high {high}; use high: {last}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _outside(edge: float, gap: float, side: int) -> tuple[float, ...]:
    """Return numbers beyond an edge, far and near, since the recipe may end in between; halves never reach 0."""
    near = 1 if isinstance(edge, int) and isinstance(gap, int) else gap / 100
    halved = [edge // 2 if isinstance(edge, int) else edge / 2] if side < 0 < edge else []
    return (edge + side * gap, edge + side * near, *halved)
