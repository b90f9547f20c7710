"""What re-ranking knows of items: vectors, values of fields, ages.

Shapes: N items of the catalogue, M items asked about, D width of vectors, G values of a field.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError, nearest
from peftrec.data.group_table import Groups


class ItemFacts(Protocol):
    """What steps ask of items, by their indexes; only candidates and histories are ever asked about."""

    def vectors(self, items: NDArray[np.int64]) -> NDArray[np.floating]:
        """Return the items' vectors, shape (M, D).

        Raises:
            InputError: if the model has none.
        """

    def groups(self, field: str, items: NDArray[np.int64]) -> Groups:
        """Return the values of a field as groups of these items.

        Raises:
            InputError: if items have no such field.
        """

    def days_old(self, field: str | None, items: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return how old items are, in days; NaN where that is not known, shape (M,).

        Args:
            field: that holds a date; None: since they were added to the catalogue.
            items: their indexes.
        Raises:
            InputError: if items have no such field, or it holds no dates.
        """


@dataclasses.dataclass(frozen=True, eq=False)
class TableFacts:
    """Facts of a whole catalogue, held in tables.

    Args:
        vectors_ND: or None.
        fields: groups of all items, by field.
        days_old_N: by field; None for days since an item was added.
    """

    vectors_ND: NDArray[np.floating] | None = None
    fields: Mapping[str, Groups] = dataclasses.field(default_factory=dict)
    days_old_N: Mapping[str | None, NDArray[np.float64]] = dataclasses.field(default_factory=dict)

    def vectors(self, items: NDArray[np.int64]) -> NDArray[np.floating]:
        """Return rows of the table."""
        if self.vectors_ND is None:
            raise InputError("there are no vectors of items; name a field to compare them by, as in 'field: category'")
        return self.vectors_ND[items]

    def groups(self, field: str, items: NDArray[np.int64]) -> Groups:
        """Return rows of the field's table."""
        if field not in self.fields:
            raise unknown_field(field, list(self.fields))
        return self.fields[field].take(items)

    def days_old(self, field: str | None, items: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return rows of the table of ages."""
        if field not in self.days_old_N:
            if field is None:
                return np.full(len(items), np.nan)
            raise unknown_field(field, [name for name in self.days_old_N if name is not None])
        return self.days_old_N[field][items]


def unknown_field(field: str, known: Sequence[str]) -> InputError:
    """Return the error that names a field that items do not have."""
    there = f"there are {', '.join(known)}" if known else "the run keeps none (see data.item_fields)"
    return InputError(f"items have no field '{field}'.{nearest(field, known)} {there[0].upper()}{there[1:]}")


def groups_among(values: Sequence[Sequence[str]], field: str) -> Groups:
    """Return the groups of a few items, numbered in order of appearance; faster than sorting the names.

    Args:
        values: of each item, none or several.
        field: what they are called together.
    """
    place: dict[str, int] = {}
    own = [list(dict.fromkeys(place.setdefault(value, len(place)) for value in row)) for row in values]
    places = np.array([value for row in own for value in row], dtype=np.int64)
    return Groups(field, tuple(place), places, np.cumsum([0, *map(len, own)]))
