"""The fields of all items, and the filters that are asked of them.

Shapes: N items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError, nearest
from peftrec.data.item_field import FieldKind, FieldValue, check_same_kind, field_value, kind_of
from peftrec.retrieval.field_column import ColumnView, FieldColumn, make_column
from peftrec.retrieval.item_filter import FieldRule

# Masks of rules that a view keeps; a mask has a byte an item.
_MOST_MASKS: Final = 64


class FieldView:
    """The fields at one moment.

    Args:
        columns: by name.
    """

    def __init__(self, columns: Mapping[str, ColumnView]) -> None:
        self._columns = columns
        self._masks: dict[tuple[str, FieldRule], NDArray[np.bool_]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """What fields there are."""
        return tuple(self._columns)

    def check(self, rules: Mapping[str, FieldRule], where: str = "filter.fields") -> None:
        """Refuse rules for fields that are not there, or that ask for what they never hold.

        Raises:
            InputError: naming the field.
        """
        for name, rule in rules.items():
            if name not in self._columns:
                there = f"there are {', '.join(self._columns)}" if self._columns else "none are kept (data.item_fields)"
                raise InputError(
                    f"{where}: items have no field {name!r}.{nearest(name, self._columns)} Of them {there}"
                )
            self._columns[name].check(rule, f"{where}.{name}")

    def mask(self, rules: Mapping[str, FieldRule]) -> NDArray[np.bool_] | None:
        """Return which items pass all rules, shape (N,); None where there are none, so that all pass.

        Raises:
            InputError: as `check`.
        """
        self.check(rules)
        parts = [self._mask(name, rule) for name, rule in rules.items()]
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else np.logical_and.reduce(parts)

    def column(self, name: str) -> ColumnView:
        """Return one of them."""
        return self._columns[name]

    def values(self, place: int) -> dict[str, FieldValue]:
        """Return what is known of one item; fields without a value are left out."""
        found = {name: column.value(place) for name, column in self._columns.items()}
        return {name: value for name, value in found.items() if value is not None}

    def _mask(self, name: str, rule: FieldRule) -> NDArray[np.bool_]:
        # A rule that has passed `check` has values of the column's kind, so that True is not taken for 1.0 here.
        mask = self._masks.get((name, rule))
        if mask is None:
            mask = self._columns[name].mask(rule)
            if len(self._masks) >= _MOST_MASKS:
                self._masks.clear()
            self._masks[name, rule] = mask
        return mask


class FieldTable:
    """The fields of items, which grow and change under one writer.

    Args:
        fields: values by column, of all items.
    """

    def __init__(self, fields: Mapping[str, Sequence[FieldValue]]) -> None:
        self._columns: dict[str, FieldColumn] = {name: make_column(values) for name, values in fields.items()}
        self._samples: dict[str, FieldValue] = {
            name: next((value for value in values if value is not None), None) for name, values in fields.items()
        }
        self._length = len(next(iter(fields.values()), ()))
        self._view = self._make_view()

    @property
    def view(self) -> FieldView:
        """The fields as they are now."""
        return self._view

    @property
    def kinds(self) -> dict[str, FieldKind | None]:
        """What kind of values each field holds; None where there was none yet."""
        return {name: kind_of(value) for name, value in self._samples.items()}

    def read(self, rows: Sequence[Mapping[str, object]], names: Sequence[str]) -> list[dict[str, FieldValue]]:
        """Return what is said of some items as fields hold it.

        Args:
            rows: fields to values, one mapping an item.
            names: what each item is called in messages.
        Raises:
            InputError: if a field is unknown, or a value is of another kind than those that it holds.
        """
        found: list[dict[str, FieldValue]] = []
        samples = dict(self._samples)
        for row, name in zip(rows, names, strict=True):
            if not isinstance(row, Mapping):
                raise InputError(f"{name}: fields are a mapping of fields to values, got {str(row)[:60]!r}")
            self.view.check(dict.fromkeys(map(str, row), FieldRule()), f"{name}, fields")
            values = {str(key): field_value(value, f"{name}, field {key!r}") for key, value in row.items()}
            for key, value in values.items():
                check_same_kind([samples[key], value], f"{name}, field {key!r}, beside values that are there,")
                samples[key] = value if samples[key] is None else samples[key]
            found.append(values)
        return found

    def append(self, rows: Sequence[Mapping[str, FieldValue]]) -> None:
        """Put items at the end, as `read` returned them; what is left out is missing."""
        for name in self._columns:
            values = [row.get(name) for row in rows]
            self._fit(name, values)
            self._columns[name].append(values)
        self._length += len(rows)
        self._view = self._make_view()

    def replace(self, places: Sequence[int], rows: Sequence[Mapping[str, FieldValue]]) -> None:
        """Put other values in place of some, as `read` returned them; what is left out stays."""
        for name in self._columns:
            changed = [(place, row[name]) for place, row in zip(places, rows, strict=True) if name in row]
            if changed:
                where, values = zip(*changed, strict=True)
                self._fit(name, values)
                self._columns[name].replace(where, values)
        self._view = self._make_view()

    def _fit(self, name: str, values: Sequence[FieldValue]) -> None:
        """Make a column of the kind that its first value has."""
        first = next((value for value in values if value is not None), None)
        if self._samples[name] is None and first is not None:
            self._samples[name] = first
            if kind_of(first) in ("number", "boolean"):
                # Nothing but missing values so far; the kind is told by a value that is then taken out again.
                self._columns[name] = make_column([first])
                self._columns[name].replace([0], [None])
                self._columns[name].append([None] * (self._length - 1))

    def _make_view(self) -> FieldView:
        return FieldView({name: column.view for name, column in self._columns.items()})
