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

    Args:
        column: the column.
        names: of the groups, in order of the alphabet.
        member_NG: whether a row (item or user) belongs to a group, shape (N, G).
    """

    column: str
    names: tuple[str, ...]
    member_NG: NDArray[np.bool_]


def read_groups(
    config: DataConfig, dataset: Dataset, *, more_columns: Sequence[str] = ()
) -> tuple[dict[str, Groups], dict[str, Groups]]:
    """Read the columns `item_groups` and `user_groups`; the tables are read once more for them.

    Args:
        config: the recipe's `data` section.
        dataset: loaded from it.
        more_columns: of the items, beside `item_groups`.
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
        table, _ = read_attributes(
            raw.items, raw.columns.item, items, dataset.catalogue.ids, "items", "data.item_groups"
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
    names = tuple(sorted({value for row in values for value in row}))
    place = {name: number for number, name in enumerate(names)}
    member_NG = np.zeros((len(values), len(names)), dtype=bool)
    for row, own in enumerate(values):
        member_NG[row, [place[value] for value in own]] = True
    return Groups(column, names, member_NG)
