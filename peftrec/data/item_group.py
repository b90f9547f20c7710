"""Groups of items, from a column of their table."""

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


def read_item_groups(
    config: DataConfig, column: str, ids: Sequence[str], *, key: str
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Read which group each item belongs to.

    A group is the whole text of a cell, without outer spaces; of rows with one id the first counts, as in cleaning.

    Args:
        config: the recipe's `data` section; its tables are read once more, with this column.
        column: names the groups.
        ids: of the catalogue.
        key: the recipe's key that named the column, for messages.
    Returns:
        The names, in order of the alphabet, and the place of each item's group among them, int64, -1 for items without
        a value.
    Raises:
        InputError: if the items have no such column, or it holds nested values.
    """
    try:
        # What a template names is read.
        reading = dataclasses.replace(config, template="{" + column + "}")
    except ValueError as error:
        raise InputError(f"{key}: {column!r} cannot be read as a column ({error}); rename it") from None
    raw = reading.read()
    name = f"{raw.items.name}, column {column!r}"
    values = text_of(raw.items.column(column, key), name).str.strip_chars()
    item = ids_of(raw.items.column(raw.columns.item, "data.columns.item"), raw.items.name)
    found = pl.DataFrame({"item": item, "group": values}).unique("item", keep="first", maintain_order=True)
    group_of = {item: group or None for item, group in found.iter_rows()}
    names = tuple(sorted({group for item in ids if (group := group_of.get(item)) is not None}))
    place = {group: number for number, group in enumerate(names)}
    return names, np.array([place.get(group_of.get(item) or "", -1) for item in ids], dtype=np.int64)
