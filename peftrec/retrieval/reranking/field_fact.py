"""Facts of items read from their fields, for a few items at a time: nothing is laid out for a whole catalogue.

Shapes: M items asked about, D width of vectors.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data.group_table import Groups
from peftrec.data.item_field import FieldValue
from peftrec.retrieval.reranking.fact import groups_among, unknown_field

_DAY: Final = 86_400.0


def texts_of(value: FieldValue) -> tuple[str, ...]:
    """Return a field's value as the texts that it is named by: numbers without needless digits, true and false."""
    if value is None:
        return ()
    if isinstance(value, bool):
        return ("true" if value else "false",)
    if isinstance(value, float):
        return (f"{value:.12g}",)
    return value if isinstance(value, tuple) else (value,)


class FieldFacts:
    """Facts of items that lie in rows; see `ItemFacts`.

    Args:
        names: of the fields.
        value: gives what a field says of the item in a row.
        vectors: gives the vectors of rows; None where the model has none.
        added: gives when the items in rows were added, seconds since 1970, NaN for those of the training.
        now: seconds since 1970.
    """

    def __init__(
        self,
        names: Sequence[str],
        value: Callable[[str, int], FieldValue],
        vectors: Callable[[NDArray[np.int64]], NDArray[np.floating]] | None,
        added: Callable[[NDArray[np.int64]], NDArray[np.float64]],
        now: float,
    ) -> None:
        self._names, self._value, self._vectors, self._added, self._now = names, value, vectors, added, now

    def vectors(self, items: NDArray[np.int64]) -> NDArray[np.floating]:
        """Return the items' vectors, shape (M, D)."""
        if self._vectors is None:
            raise InputError("this run has no vectors of items; name a field to compare them by, as in field: category")
        return self._vectors(items)

    def groups(self, field: str, items: NDArray[np.int64]) -> Groups:
        """Return the values of a field as groups of these items."""
        self._check(field)
        return groups_among([texts_of(self._value(field, row)) for row in items.tolist()], field)

    def days_old(self, field: str | None, items: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return how old items are, shape (M,)."""
        if field is None:
            return (self._now - self._added(items)) / _DAY
        self._check(field)
        values = [self._value(field, row) for row in items.tolist()]
        return np.array([days_since(value, self._now, field) for value in values])

    def _check(self, field: str) -> None:
        if field not in self._names:
            raise unknown_field(field, self._names)


def days_since(value: FieldValue, now: float, field: str) -> float:
    """Return how many days ago a field's date was; NaN where it is missing.

    Args:
        value: a year, of which the middle is taken, or a text such as `2024-05-31` or `2024-05-31T18:00:00+02:00`; UTC
            where it names no zone.
        now: seconds since 1970.
        field: for messages.
    Raises:
        InputError: if it is no date.
    """
    if value is None:
        return float("nan")
    if isinstance(value, float) and 1000 <= value <= 9999 and value.is_integer():
        at = datetime.datetime(int(value), 7, 1, tzinfo=datetime.UTC)
    else:
        try:
            if not isinstance(value, str):
                raise ValueError
            at = datetime.datetime.fromisoformat(value)
        except ValueError:
            raise InputError(f"field '{field}' holds {value!r}; a date is written 2024-05-31, or is a year") from None
        at = at if at.tzinfo is not None else at.replace(tzinfo=datetime.UTC)
    return (now - at.timestamp()) / _DAY
