"""What training rows say of attribute columns, and columns as numbers by it.

Shapes: N rows, F numbers of a row, M values of one column in a row.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data.attribute import (
    AttributeConfig,
    CategoricalAttribute,
    DateAttribute,
    Labels,
    Numbers,
    NumericAttribute,
)
from peftrec.data.attribute_table import AttributeTable, attribute_rows

if TYPE_CHECKING:
    from peftrec.data.dataset import Dataset

OTHER = 0
"""The code of values that have no vector of their own."""


@dataclass(frozen=True, eq=False)
class AttributeFeatures:
    """N rows as numbers.

    Args:
        known: whether anything is known of a row, shape (N,).
        numbers: float32, shape (N, F).
        codes: of each column of labels, its codes, int64 of shape (N, M), -1 behind a row's last.
    """

    known: NDArray[np.bool_]
    numbers: NDArray[np.float32]
    codes: tuple[NDArray[np.int64], ...]


@dataclass(frozen=True, kw_only=True)
class FittedNumber:
    """What the training rows say of a column of numbers.

    Args:
        mean: of those that are there.
        deviation: likewise, divided by n; 0 where they are all equal.
        learns_missing: whether any training row lacks the number, but not all else.
    """

    mean: float
    deviation: float
    learns_missing: bool

    @classmethod
    def fit(cls, config: AttributeConfig, values: Numbers, trained: NDArray[np.bool_]) -> FittedNumber | None:
        """Fit to the training rows; None if none of them holds a number."""
        numbers = _scaled(config, values[trained])
        there = numbers[~np.isnan(numbers)]
        if not len(there):
            return None
        mean, deviation = float(there.mean()), float(there.std())
        # Equal numbers may differ from their mean by a rounding.
        deviation = 0.0 if np.ptp(there) == 0 else deviation
        return cls(mean=mean, deviation=deviation, learns_missing=len(there) < len(numbers))

    def encode(self, config: AttributeConfig, values: Numbers) -> NDArray[np.float64]:
        """The numbers of each row, shape (N, 2), or more for dates with cycles."""
        numbers = _scaled(config, values)
        missing = np.isnan(numbers)
        standard = (numbers - self.mean) / self.deviation if self.deviation else np.zeros_like(numbers)
        columns = [standard, missing & self.learns_missing]
        if isinstance(config, DateAttribute):
            columns += [wave(angle) for angle in _angles(config, values) for wave in (np.sin, np.cos)]
        stacked = np.stack(columns, axis=1).astype(np.float64)
        stacked[missing, :1], stacked[missing, 2:] = 0.0, 0.0
        return stacked


@dataclass(frozen=True, kw_only=True)
class FittedLabels:
    """What the training rows say of a column of labels.

    Args:
        vocabulary: the values that have a vector of their own, in order; the code of the first is 1.
    """

    vocabulary: tuple[str, ...]

    @classmethod
    def fit(cls, config: CategoricalAttribute, values: Labels, trained: NDArray[np.bool_]) -> FittedLabels | None:
        """Fit to the training rows; None if no value is in enough of them."""
        counts: dict[str, int] = {}
        for row in np.flatnonzero(trained).tolist():
            for value in values[row]:
                counts[value] = counts.get(value, 0) + 1
        kept = sorted(value for value, count in counts.items() if count >= config.min_count)
        return cls(vocabulary=tuple(kept)) if kept else None

    def encode(self, values: Labels) -> NDArray[np.int64]:
        """The codes of each row, shape (N, M); values that share `other` give its code once."""
        codes = {value: code for code, value in enumerate(self.vocabulary, start=1)}
        rows = [list(dict.fromkeys(codes.get(value, OTHER) for value in row)) for row in values]
        padded = np.full((len(rows), max([1, *map(len, rows)])), -1, dtype=np.int64)
        for row, found in enumerate(rows):
            padded[row, : len(found)] = found
        return padded


@dataclass(frozen=True, eq=False)
class FittedAttributes:
    """The columns of items, or of users, as training has seen them.

    Args:
        configs: the kind of each column, in the order of the recipe.
        columns: what the training rows say of each.
    """

    configs: Mapping[str, AttributeConfig]
    columns: Mapping[str, FittedNumber | FittedLabels]

    @classmethod
    def fit(cls, table: AttributeTable, trained: NDArray[np.bool_], subject: str) -> FittedAttributes:
        """Fit to the rows that have training events.

        Args:
            table: all rows.
            trained: which of them have training events, shape (N,).
            subject: `items` or `users`, for messages.
        Raises:
            InputError: if a column tells nothing of these rows.
        """
        columns: dict[str, FittedNumber | FittedLabels] = {}
        # What nothing is known of gets nothing from its attributes, and so teaches nothing about missing ones either.
        trained = trained & table.known
        for column, config in table.configs.items():
            fitted = _fit(config, table.values[column], trained)
            if fitted is None:
                few = f" in at least {config.min_count} of them" if isinstance(config, CategoricalAttribute) else ""
                raise InputError(
                    f"data.{subject.removesuffix('s')}_attributes.{column}: no value is there for the {subject} that "
                    f"have training events{few}; leave it out" + " or lower min_count" * bool(few)
                )
            columns[column] = fitted
        return cls(dict(table.configs), columns)

    @property
    def num_numbers(self) -> int:
        """F."""
        empty = np.zeros(0)
        numbers = ((self.configs[name], column) for name, column in self.columns.items())
        return sum(column.encode(kind, empty).shape[1] for kind, column in numbers if isinstance(column, FittedNumber))

    @property
    def vocabulary_sizes(self) -> tuple[int, ...]:
        """Vectors of each column of labels, that of `other` included."""
        return tuple(len(column.vocabulary) + 1 for column in self.columns.values() if isinstance(column, FittedLabels))

    def encode(self, table: AttributeTable) -> AttributeFeatures:
        """All rows of a table as numbers.

        Raises:
            InputError: if the table was read with other settings.
        """
        if dict(table.configs) != dict(self.configs):
            raise InputError("the attributes were read with other settings than the run was trained with")
        numbers: list[NDArray[np.float64]] = [np.zeros((table.num_rows, 0))]
        codes = []
        for name, column in self.columns.items():
            values = table.values[name]
            if isinstance(column, FittedNumber):
                assert isinstance(values, np.ndarray)
                numbers.append(column.encode(self.configs[name], values))
            else:
                assert isinstance(values, tuple)
                codes.append(column.encode(values))
        return AttributeFeatures(table.known, np.concatenate(numbers, axis=1).astype(np.float32), tuple(codes))

    def encode_rows(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> AttributeFeatures:
        """Mappings of columns to values as numbers; see `attribute_rows`."""
        return self.encode(attribute_rows(self.configs, rows, names))

    def describe(self) -> str:
        """The columns, for people."""
        return ", ".join(
            f"{name} ({self.configs[name].kind}"
            + (f", {len(column.vocabulary):,} values)" if isinstance(column, FittedLabels) else ")")
            for name, column in self.columns.items()
        )

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Plain values for JSON, by column."""
        return {name: _plain(column) for name, column in self.columns.items()}

    @classmethod
    def from_json(cls, configs: Mapping[str, AttributeConfig], content: Any) -> FittedAttributes:
        """What `to_json` gave.

        Raises:
            ValueError: if it does not fit these columns.
        """
        if not isinstance(content, dict) or [*content] != [*configs]:
            raise ValueError(f"it must hold the columns {', '.join(configs)}")
        return cls(dict(configs), {name: _from_plain(configs[name], values) for name, values in content.items()})


def fit_attributes(dataset: Dataset) -> dict[str, FittedAttributes]:
    """Fit to the `items` and `users` that have training events, those of the two that have attributes."""
    tables = {
        "items": (dataset.item_attributes, dataset.item_counts() > 0),
        "users": (dataset.user_attributes, dataset.split.train_lengths > 0),
    }
    return {
        subject: FittedAttributes.fit(table, trained, subject)
        for subject, (table, trained) in tables.items()
        if table is not None
    }


def _fit(
    config: AttributeConfig, values: Numbers | Labels, trained: NDArray[np.bool_]
) -> FittedNumber | FittedLabels | None:
    if isinstance(values, np.ndarray):
        return FittedNumber.fit(config, values, trained)
    assert isinstance(config, CategoricalAttribute)
    return FittedLabels.fit(config, values, trained)


def _scaled(config: AttributeConfig, values: Numbers) -> Numbers:
    return np.log1p(values) if isinstance(config, NumericAttribute) and config.log1p else values


def _angles(config: DateAttribute, days: Numbers) -> list[NDArray[np.float64]]:
    """The place of each date in the cycles that are asked for; any number where it is missing."""
    whole = np.floor(np.nan_to_num(days)).astype(np.int64)
    months = whole.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12
    places = {"month": months / 12, "weekday": (whole + _WEEKDAY_1970) % 7 / 7}
    return [2 * np.pi * places[cycle] for cycle in config.cyclic]


_WEEKDAY_1970 = datetime.date(1970, 1, 1).weekday()


def _plain(column: FittedNumber | FittedLabels) -> dict[str, Any]:
    if isinstance(column, FittedLabels):
        return {"vocabulary": list(column.vocabulary)}
    return {"mean": column.mean, "deviation": column.deviation, "learns_missing": column.learns_missing}


def _from_plain(config: AttributeConfig, values: Any) -> FittedNumber | FittedLabels:
    if isinstance(config, CategoricalAttribute):
        return FittedLabels(vocabulary=tuple(str(value) for value in values["vocabulary"]))
    return FittedNumber(
        mean=float(values["mean"]), deviation=float(values["deviation"]), learns_missing=bool(values["learns_missing"])
    )
