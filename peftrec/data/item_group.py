"""Groups of items, from a column of their table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from peftrec.data.item_column import read_item_column

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
    _, texts = read_item_column(config, column, ids, key=key)
    names = tuple(sorted({text for text in texts if text is not None}))
    place = {group: number for number, group in enumerate(names)}
    return names, np.array([-1 if text is None else place[text] for text in texts], dtype=np.int64)
