"""What is kept beside each item for filters, rules and pages: columns of its table as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from peftrec.config import InputError

if TYPE_CHECKING:
    import polars as pl

    from peftrec.data.table import RawTable

# Missing values are None. Numbers are floats, also where they are whole.
FieldValue = str | float | bool | tuple[str, ...] | None
FieldKind = Literal["text", "number", "boolean", "texts"]

_KEY: Final = "data.item_fields"
_BOOLEANS: Final = {"true": True, "false": False}
# A leading zero is no number's but a code's: '007' and '7' are two things.
_NO_NUMBER: Final = r"^[+-]?0\d"


def read_item_fields(
    table: RawTable, id_column: str, columns: Sequence[str], ids: Sequence[str], separator: str
) -> dict[str, tuple[FieldValue, ...]]:
    """Read columns of the table of items; of rows that share an id, the first counts.

    A column is one of numbers, of booleans (true, false), of lists of texts, or of texts. Files of text tell by what
    they hold: where a cell has the separator all cells are lists; where all are numbers (without leading zeros) they
    are numbers. Empty cells are missing.

    Args:
        table: with the columns.
        id_column: the column of ids.
        columns: of `data.item_fields`.
        ids: of the catalogue.
        separator: stands between the values of a cell.
    Returns:
        The values of each column in the order of `ids`.
    Raises:
        InputError: if a column is missing, or holds nested values.
    """
    import polars as pl

    from peftrec.data.table import ids_of

    found = ids_of(table.column(id_column, "data.columns.item"), f"{table.name}, column {id_column!r}")
    rows = pl.DataFrame({"id": found}).with_row_index("row").filter(pl.col("id").is_not_null())
    first = rows.unique("id", keep="first", maintain_order=True)
    wanted = pl.DataFrame({"id": pl.Series(ids, dtype=pl.String)})
    places = wanted.join(first, on="id", how="left", maintain_order="left")["row"]
    return {
        column: tuple(_plain(table.column(column, _KEY).gather(places), f"{table.name}, column {column!r}", separator))
        for column in columns
    }


def field_value(value: Any, where: str) -> FieldValue:
    """Return a value of JSON or Python as a field holds it: text without outer spaces, lists as tuples.

    Args:
        value: a text, number, boolean, list of texts, or None; an empty text or list is missing.
        where: the item and field, for messages.
    Raises:
        InputError: if it is none of these, or no finite number.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise InputError(f"{where}: {str(value)[:40]} is no finite number")
        return number
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return tuple(dict.fromkeys(one.strip() for one in value if one.strip())) or None
    raise InputError(f"{where}: {str(value)[:60]!r} is no text, number, boolean or list of texts")


def kind_of(value: FieldValue) -> FieldKind | None:
    """Return what kind of column a value belongs to; None where it is missing."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "text"
    return "number" if isinstance(value, float) else "texts"


def check_same_kind(values: Sequence[FieldValue], where: str) -> None:
    """Refuse a column that holds several kinds of values; a text among lists is none (it is a list of one).

    Raises:
        InputError: naming two of the values.
    """
    seen: dict[str, FieldValue] = {}
    for value in values:
        kind = kind_of(value)
        if kind is not None:
            seen.setdefault("text" if kind == "texts" else kind, value)
    if len(seen) > 1:
        one, other = list(seen.values())[:2]
        raise InputError(f"{where} holds {one!r} and {other!r}; a field's values are all of one kind")


def fields_of(fields: Mapping[str, Sequence[FieldValue]], place: int) -> dict[str, FieldValue]:
    """Return what fields say of one item, those that are missing left out."""
    return {column: values[place] for column, values in fields.items() if values[place] is not None}


def _plain(values: pl.Series, name: str, separator: str) -> list[FieldValue]:
    import polars as pl

    from peftrec.data.table import text_of

    if values.dtype == pl.Boolean:
        return values.to_list()
    if values.dtype.is_numeric():
        return _numbers(values)
    if isinstance(values.dtype, pl.List | pl.Array) and not values.dtype.inner.is_nested():
        lists = values.cast(pl.List(pl.String)).to_list()
        return [field_value([one for one in row or () if one is not None], name) for row in lists]
    texts = text_of(values, name).str.strip_chars()
    texts = texts.set(texts == "", None)
    if texts.str.contains(separator, literal=True).any():
        return [None if text is None else field_value(text.split(separator), name) for text in texts.to_list()]
    there = texts.drop_nulls()
    if len(there) and there.str.to_lowercase().is_in(list(_BOOLEANS)).all():
        return [None if text is None else _BOOLEANS[text.lower()] for text in texts.to_list()]
    numbers = texts.cast(pl.Float64, strict=False)
    if len(there) and numbers.count() == len(there) and not there.str.contains(_NO_NUMBER).any():
        return _numbers(numbers)
    return texts.to_list()


def _numbers(values: pl.Series) -> list[FieldValue]:
    """Finite numbers; NaN and infinity say nothing."""
    import polars as pl

    return [number if number is not None and math.isfinite(number) else None for number in values.cast(pl.Float64)]
