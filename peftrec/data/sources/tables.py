"""Two tables of the user's own: interactions and items."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from peftrec.data.source import Columns, DataConfig, RawTables


@dataclass(frozen=True, kw_only=True)
class TablesConfig(DataConfig):
    """Interactions and items from CSV, TSV, Parquet or JSON Lines, told by the suffix.

    Args:
        interactions: the file of who interacted with what and when, relative to `root`.
        items: the file of what each item says about itself, relative to `root`.
        columns: what the columns are called there.
    """

    kind: ClassVar[str] = "tables"
    interactions: str
    items: str
    columns: Columns = field(default_factory=Columns)

    def read(self) -> RawTables:
        """Reads the columns that the recipe needs of both files."""
        from peftrec.data.table import read_table, resolve_path  # loads polars

        of_interactions, of_items = self.wanted_columns(self.columns)
        tables = [
            read_table(resolve_path(path, self.root), columns, origin=f"data.{key}: {path}, data.root: {self.root}")
            for key, path, columns in (
                ("interactions", self.interactions, of_interactions),
                ("items", self.items, of_items),
            )
        ]
        return RawTables(tables[0], tables[1], self.columns)
