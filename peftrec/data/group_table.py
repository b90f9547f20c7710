"""Which groups items and users belong to, by columns of their tables; read for results alone, never learned from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data.attribute import AttributeConfig, MultiAttribute

if TYPE_CHECKING:
    from peftrec.data.attribute_table import AttributeTable
    from peftrec.data.dataset import Dataset
    from peftrec.data.source import DataConfig


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """Who belongs to which groups of a column; to several where a cell has several values, to none where it is empty.

    Memory is that of the values: a column may hold thousands of different ones.

    Args:
        column: the column.
        names: of the groups, in order of the alphabet, G of them.
        places: the groups of every row, as places in `names`, one row's after the other's, none twice, shape (M,).
        offsets: where those of each row (item, user or case) begin, and M at the end, shape (N + 1,).
    """

    column: str
    names: tuple[str, ...]
    places: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @property
    def rows(self) -> NDArray[np.int64]:
        """The row that each of `places` is of, shape (M,)."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether each row belongs to a group at all, shape (N,)."""
        return np.diff(self.offsets) > 0

    def take(self, rows: NDArray[np.int64]) -> Groups:
        """Return the groups of some rows, which may be there several times, in this order."""
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        onwards = np.arange(int(offsets[-1])) - np.repeat(offsets[:-1], counts)
        return dataclasses.replace(
            self, places=self.places[np.repeat(self.offsets[rows], counts) + onwards], offsets=offsets
        )

    def sums(self, weights_N: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of the rows' weights in each group, shape (G,); a row of several groups counts in each."""
        weights_M = np.asarray(weights_N, dtype=np.float64)[self.rows]
        return np.bincount(self.places, weights_M, minlength=len(self.names)).astype(np.float64)

    def members(self, places: Sequence[int]) -> NDArray[np.bool_]:
        """Return whether each row belongs to one of some groups, shape (N,)."""
        held = np.zeros(len(self.offsets) - 1, dtype=bool)
        held[self.rows[np.isin(self.places, places)]] = True
        return held


def read_groups(
    config: DataConfig, dataset: Dataset, *, more_columns: Sequence[str] = (), more_key: str = ""
) -> tuple[dict[str, Groups], dict[str, Groups]]:
    """Read the columns `item_groups` and `user_groups`; the tables are read once more for them.

    Args:
        config: the recipe's `data` section.
        dataset: loaded from it.
        more_columns: of the items, beside `item_groups`.
        more_key: the recipe's key that names those, for messages.
    Returns:
        Groups of items and groups of users, by column; of sessions, those of whose they are.
    Raises:
        InputError: if a table has no such column, or there is no table of users.
    """
    item_columns = tuple(dict.fromkeys((*config.item_groups, *more_columns)))
    if not item_columns and not config.user_groups:
        return {}, {}
    from peftrec.data.attribute_table import read_attributes  # loads polars
    from peftrec.data.event_cleaning import owner_of

    kind = MultiAttribute(separator=config.group_separator)
    items: dict[str, AttributeConfig] = dict.fromkeys(item_columns, kind)
    users: dict[str, AttributeConfig] = dict.fromkeys(config.user_groups, kind)
    # No more is read than these columns.
    raw = dataclasses.replace(
        config, item_attributes=items or None, user_attributes=users or None, user_template=None, event_words=None
    ).read()
    found: list[dict[str, Groups]] = [{}, {}]
    if items:
        keys = [*(["data.item_groups"] if config.item_groups else []), *([more_key] if more_columns else [])]
        table, _ = read_attributes(
            raw.items, raw.columns.item, items, dataset.catalogue.ids, "items", " or ".join(keys)
        )
        found[0] = _groups(table)
    if users:
        if raw.users is None:
            raise InputError("data.user_groups: these data have no table of users; leave it out")
        ids = dataset.sequences.user_ids
        owners = ids if config.sessions is None else [owner_of(session) for session in ids]
        table, _ = read_attributes(raw.users, raw.columns.user, users, owners, "users", "data.user_groups")
        found[1] = _groups(table)
    return found[0], found[1]


def _groups(table: AttributeTable) -> dict[str, Groups]:
    return {column: groups_of(column, [tuple(row) for row in values]) for column, values in table.values.items()}


def groups_of(column: str, values: Sequence[Sequence[str]]) -> Groups:
    """Make groups of the values of each row.

    Args:
        column: what they are called together.
        values: of each row, none or several.
    """
    own = [sorted(set(row)) for row in values]
    names = tuple(sorted({value for row in own for value in row}))
    place = {name: number for number, name in enumerate(names)}
    places = np.array([place[value] for row in own for value in row], dtype=np.int64)
    return Groups(column, names, places, np.cumsum([0, *map(len, own)]))
