"""Tables of one's own: interactions, items and, where a template reads them, users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from peftrec.data.source import Columns, DataConfig, RawTables

if TYPE_CHECKING:
    from peftrec.data.table import RawTable


@dataclass(frozen=True, kw_only=True)
class TablesConfig(DataConfig):
    """Interactions, items and users from CSV, TSV, Parquet or JSON Lines, told by the suffix.

    Args:
        interactions: the file of who interacted with what and when, relative to `root`.
        items: the file of what each item says about itself, relative to `root`.
        users: the file of what is known of each user, one row a user, relative to `root`; `user_template` and
            `user_attributes` read it.
        columns: what the columns are called there.
    """

    kind: ClassVar[str] = "tables"
    interactions: str
    items: str
    users: str | None = None
    columns: Columns = field(default_factory=Columns)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.users is None and self.user_template is not None:
            raise ValueError(
                f"user_template: {self.user_template!r} has no table to read; name the file of the users in data.users"
            )
        if self.users is None and self.users_key is not None:
            raise ValueError(
                f"{self.users_key}: {', '.join(getattr(self, self.users_key))} have no table to be read from; name the "
                f"file of the users in data.users"
            )
        if self.users is not None and not self.reads_users:
            raise ValueError(
                f"users: {self.users!r} is read only where something asks for it; say in data.user_template how its "
                f"columns make a text, such as '{{age}} years, {{occupation}}', or name columns in "
                f"data.user_attributes or data.user_groups"
            )

    @property
    def set_path(self) -> str:
        return self.interactions

    def read(self) -> RawTables:
        """Reads the columns that the recipe needs of each file."""
        of_interactions, of_items, of_users = self.wanted_columns(self.columns)
        interactions = self._table("interactions", self.interactions, of_interactions)
        items = self._table("items", self.items, of_items)
        users = None if self.users is None else self._table("users", self.users, of_users)
        return RawTables(interactions, items, self.columns, users)

    def _table(self, key: str, path: str, columns: Sequence[str]) -> RawTable:
        from peftrec.data.table import read_table, resolve_path  # loads polars

        origin = f"data.{key}: {path}, data.root: {self.root}"
        return read_table(resolve_path(path, self.root), columns, origin=origin)
