"""One more column of the items, read again for the catalogue."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data.table import ids_of, text_of

if TYPE_CHECKING:
    from peftrec.data.source import DataConfig


def read_item_column(
    config: DataConfig, column: str, ids: Sequence[str], *, key: str
) -> tuple[str, tuple[str | None, ...]]:
    """Read what a column says of each item.

    The whole text of a cell, without outer spaces; of rows with one id the first counts, as in cleaning.

    Args:
        config: the recipe's `data` section; its tables are read once more, with this column.
        column: of the items.
        ids: of the catalogue.
        key: the recipe's key that named the column, for messages.
    Returns:
        The name of the table for messages, and a text for each id, None for items without a value.
    Raises:
        InputError: if the items have no such column, or it holds nested values.
    """
    try:
        # What a template names is read.
        reading = dataclasses.replace(config, template="{" + column + "}")
    except ValueError as error:
        raise InputError(f"{key}: {column!r} cannot be read as a column ({error}); rename it") from None
    raw = reading.read()
    values = text_of(raw.items.column(column, key), f"{raw.items.name}, column {column!r}").str.strip_chars()
    item = ids_of(raw.items.column(raw.columns.item, "data.columns.item"), raw.items.name)
    found = pl.DataFrame({"item": item, "value": values}).unique("item", keep="first", maintain_order=True)
    value_of = {item: value or None for item, value in found.iter_rows()}
    return raw.items.name, tuple(value_of.get(item) for item in ids)


def read_item_propensities(config: DataConfig, column: str, ids: Sequence[str], *, key: str) -> NDArray[np.float64]:
    """Read the propensity of each item; rows of items outside the catalogue are not looked at.

    Args:
        config: and `column`, `ids`, `key`: as in `read_item_column`.
    Returns:
        Numbers above 0 and up to 1, shape (N,).
    Raises:
        InputError: if the items have no such column, or an item has no such number (the first is named).
    """
    name, texts = read_item_column(config, column, ids, key=key)
    values_N = pl.Series(texts, dtype=pl.String).cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    wrong_N = ~((values_N > 0) & (values_N <= 1))
    if wrong_N.any():
        first = int(np.argmax(wrong_N))
        found = "no value" if texts[first] is None else repr(texts[first])
        others = int(wrong_N.sum()) - 1
        more = f" ({others:,} more items like it)" * (others > 0)
        raise InputError(
            f"{name}, column {column!r} (named by {key}): item {ids[first]!r} has {found}{more}; a propensity is a "
            f"number above 0 and up to 1, and every item of the catalogue needs one"
        )
    return values_N
