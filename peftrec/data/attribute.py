"""Attributes of items and users: the kinds of columns that are features beside text, and how each is read.

Nothing here loads the table library: recipes are checked without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError, Range, Registry

if TYPE_CHECKING:
    import polars as pl

Numbers = NDArray[np.float64]
"""One number a row, NaN where it is missing."""

Labels = tuple[tuple[str, ...], ...]
"""Any number of values a row, each once; none where they are missing."""

_DAY_MS = 86_400_000


@dataclass(frozen=True, kw_only=True)
class AttributeConfig:
    """What every kind of attribute has: a kind, and how its column is read.

    Args:
        missing: values that say nothing, such as unknown or '-1'; they count as missing, as empty ones do. They are
            compared as text without outer spaces, whole numbers without their '.0'.
    """

    kind: ClassVar[str]
    missing: tuple[str, ...] = ()

    def read(self, values: pl.Series, name: str) -> Numbers | Labels:
        """Reads a column as the file gave it.

        Args:
            values: the column.
            name: the table and column, for messages.
        Returns:
            Numbers, or labels; null, empty text and NaN are missing.
        Raises:
            InputError: naming the first row (the first data row is 1) that holds anything else than this kind does.
        """
        return self._parse(self._without_missing(values, name), name)

    def _without_missing(self, values: pl.Series, name: str) -> pl.Series:
        import polars as pl

        from peftrec.data.source import WHOLE_NUMBER
        from peftrec.data.table import text_of

        if not self.missing or isinstance(values.dtype, pl.List | pl.Array):
            return values
        text = text_of(values, name).str.strip_chars().str.replace(WHOLE_NUMBER, "$1")
        says_nothing = text.is_in([_compared(value) for value in self.missing]).fill_null(False)
        return pl.select(pl.when(~says_nothing).then(values)).to_series()

    def _parse(self, values: pl.Series, name: str) -> Numbers | Labels:
        """Reads a column in which what counts as missing is null."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class NumericAttribute(AttributeConfig):
    """A number: (x - mean) / deviation over the training rows, and 1 where it is missing.

    Training rows are the items, or users, that have training events, each counted once; the deviation is that of all of
    them (divided by n). A missing number gives 0, and so does every number of a column that holds one number only in
    the training rows. The indicator stays 0 where no training row lacks the number: nothing was learned about it.
    (Rows of which nothing at all is known do not count: attributes add nothing to them.)

    Args:
        missing: values that say nothing, such as unknown or '-1'.
        log1p: take log(1 + x) first; every number must then be above -1.
    """

    kind: ClassVar[str] = "numeric"
    log1p: bool = False

    def _parse(self, values: pl.Series, name: str) -> Numbers:
        from peftrec.data.timestamp import parse_numbers, refuse_unread

        parsed = parse_numbers(values)
        refuse_unread(
            values, parsed, name, "a numeric attribute needs a number or nothing in every row: name values "
            "that say nothing in its list `missing`; for others use "
            "kind: categorical, date or multi",
        )  # fmt: skip
        numbers = parsed.cast(float).fill_null(np.nan).to_numpy()
        low = np.flatnonzero(numbers <= -1)
        if self.log1p and len(low):
            raise InputError(f"{name}: data row {low[0] + 1:,} holds {numbers[low[0]]:g}; log1p needs numbers above -1")
        return numbers


@dataclass(frozen=True, kw_only=True)
class DateAttribute(AttributeConfig):
    """A date: its day standardised as a number is, 1 where it is missing, and sine and cosine of its place in cycles.

    Days since the end of training, or since any other moment, come to the same once they are standardised. Read are
    ISO 8601 dates, and seconds, milliseconds, microseconds or nanoseconds since 1970; all in UTC.

    Args:
        missing: see `numeric`.
        cyclic: `month` gives the sine and cosine of 2 pi (month - 1) / 12, `weekday` those of 2 pi day / 7 with Monday
            0; both 0 where the date is missing.
    """

    kind: ClassVar[str] = "date"
    cyclic: tuple[Literal["month", "weekday"], ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.cyclic)) < len(self.cyclic):
            raise ValueError(f"cyclic: {', '.join(self.cyclic)} names a cycle twice; keep one")

    def _parse(self, values: pl.Series, name: str) -> Numbers:
        from peftrec.data.timestamp import EARLIEST_LIKELY_MS, parse_numbers, parse_times

        times, _ = parse_times(
            values, name, "a date attribute needs a date or nothing in every row, all of one form: ISO 8601 like "
            "2024-05-01, or seconds, milliseconds or microseconds since 1970; name values that say nothing in its list "
            "`missing`",
        )  # fmt: skip
        last, largest = times.max(), parse_numbers(values).max()
        if isinstance(largest, int | float) and isinstance(last, int) and last < EARLIEST_LIKELY_MS:
            raise InputError(
                f"{name}: holds numbers up to {largest:g}, which are too small for moments since 1970; if they are "
                f"years or ages, use kind: numeric"
            )
        return times.cast(float).fill_null(np.nan).to_numpy() / _DAY_MS


@dataclass(frozen=True, kw_only=True)
class CategoricalAttribute(AttributeConfig):
    """One value of several, as a learned vector; a missing value is a vector of zeros.

    Values are compared as text without outer spaces, whole numbers without their '.0'. Those of fewer training rows
    than `min_count`, and those that no training row has, share one vector, `other`.

    Args:
        missing: see `numeric`.
        min_count: training rows that a value needs to have a vector of its own. With 1 nothing is rare in training, so
            that `other` stays at zero and new values count as missing. The values that are kept are written into the
            run folder: above 1 none of them belongs to a single user.
    """

    kind: ClassVar[str] = "categorical"
    min_count: Annotated[int, Range(ge=1)] = 2

    def _parse(self, values: pl.Series, name: str) -> Labels:
        import polars as pl

        from peftrec.data.table import text_of

        if isinstance(values.dtype, pl.List | pl.Array):
            raise InputError(f"{name}: holds lists; for several values in a row use kind: multi")
        return tuple((value,) if value else () for value in map(_compared, text_of(values, name).to_list()))


@dataclass(frozen=True, kw_only=True)
class MultiAttribute(CategoricalAttribute):
    """Several values in a row, as the mean of their vectors; else as a categorical attribute. Each counts once a row.

    Args:
        missing: see `numeric`; of single values.
        min_count: see `categorical`.
        separator: stands between the values where the column holds text; lists need none.
    """

    kind: ClassVar[str] = "multi"
    separator: str = "|"

    def __post_init__(self) -> None:
        if not self.separator:
            raise ValueError("separator: is empty; it stands between values, such as '|' or ', '")

    def _parse(self, values: pl.Series, name: str) -> Labels:
        import polars as pl

        from peftrec.data.table import text_of

        if isinstance(values.dtype, pl.List | pl.Array) and not values.dtype.inner.is_nested():
            rows = values.cast(pl.List(pl.String)).to_list()
        else:
            rows = [(text or "").split(self.separator) for text in text_of(values, name).to_list()]
        nothing = {"", *map(_compared, self.missing)}
        return tuple(
            tuple(dict.fromkeys(value for value in map(_compared, row or ()) if value not in nothing)) for row in rows
        )


def _compared(value: str | None) -> str:
    """A value as it is compared; "" where it is missing."""
    from peftrec.data.source import event_value

    return event_value(value or "")


ATTRIBUTES = Registry(
    "attribute",
    {
        "numeric": "peftrec.data.attribute:NumericAttribute",
        "categorical": "peftrec.data.attribute:CategoricalAttribute",
        "date": "peftrec.data.attribute:DateAttribute",
        "multi": "peftrec.data.attribute:MultiAttribute",
    },
)
