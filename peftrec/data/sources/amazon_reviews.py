"""The public Amazon review sets, as they were published in 2014, 2018 and 2023."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from peftrec.config import InputError
from peftrec.data.report import CleaningRow
from peftrec.data.source import Columns, DataConfig, RawTables

if TYPE_CHECKING:
    import polars as pl

    from peftrec.data.table import RawTable

# By layout: what our columns are called there. A column that a layout lacks is not offered to templates.
_OLD_REVIEWS = {"user_id": "reviewerID", "item_id": "asin", "rating": "overall", "timestamp": "unixReviewTime"}
_REVIEWS: dict[int, dict[str, str]] = {
    2014: _OLD_REVIEWS,
    2018: _OLD_REVIEWS,
    2023: {"user_id": "user_id", "item_id": "parent_asin", "rating": "rating", "timestamp": "timestamp"},
}
_METADATA: dict[int, dict[str, str]] = {
    2014: {
        "item_id": "asin", "title": "title", "brand": "brand", "category": "categories", "description": "description",
        "price": "price",
    },
    2018: {
        "item_id": "asin", "title": "title", "brand": "brand", "category": "category", "description": "description",
        "features": "feature", "price": "price", "main_category": "main_cat",
    },
    2023: {
        "item_id": "parent_asin", "title": "title", "brand": "store", "category": "categories",
        "description": "description", "features": "features", "price": "price", "main_category": "main_category",
    },
}  # fmt: skip
_SEPARATORS = {"category": ", "}  # what joins a list's parts; elsewhere they are sentences, joined with a space
_PRICE = r"^(?i:from\s+)?\$?\s*(\d[\d,]*(?:\.\d+)?)"


@dataclass(frozen=True, kw_only=True)
class AmazonReviewsConfig(DataConfig):
    """A file of reviews and a file of metadata, JSON Lines, with .gz or without.

    Reviews give user_id, item_id, rating and timestamp; the kind of an event is its rating. Metadata give item_id,
    title, brand (2023: the store), category (all levels, each once, joined with commas), description and price (its
    number; a range gives the lower one), since 2018 features and main_category too. In 2023 the item is
    `parent_asin`, which is what its metadata are keyed by; its empty categories become the main category.

    The metadata of 2014 hold a Python literal a line, not JSON; it is read as a literal and never run.

    Args:
        layout: the year of publication: 2014, 2018 or 2023.
        reviews: the file of reviews, relative to `root`; the whole of a category or its 5-core.
        metadata: the file of metadata, relative to `root`.
        only_reviewed: leave out items without a review (a category has several times as many as its 5-core); the
            report counts them. False keeps them as cold items.
    """

    kind: ClassVar[str] = "amazon_reviews"
    known_as: ClassVar[str] = "Amazon Reviews"
    terms: ClassVar[str] = "published for research, under no open licence"
    layout: Literal[2014, 2018, 2023]
    reviews: str
    metadata: str
    only_reviewed: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reads_users:
            raise ValueError(f"{self.users_key}: the reviews say nothing of their users; leave it out")

    @property
    def set_path(self) -> str:
        return self.reviews

    def read(self) -> RawTables:
        """Reads the columns that the recipe needs of both files."""
        columns = Columns(event=Columns().rating)
        of_interactions, of_items, _ = self.wanted_columns(columns)
        interactions = self._reviews(of_interactions)
        items = self._items(of_items)
        if not self.only_reviewed:
            return RawTables(interactions, items, columns)
        items, row = _reviewed(items, interactions)
        return RawTables(interactions, items, columns, rows=(row,))

    def _reviews(self, columns: Sequence[str]) -> RawTable:
        from peftrec.data.table import RawTable

        path, names = self._path("reviews"), _REVIEWS[self.layout]
        frame = _read_columns(path, {column: names[column] for column in names if column in columns})
        self._check(path, frame, names, of_which=tuple(names))
        return RawTable(str(path), frame, tuple(names))

    def _items(self, columns: Sequence[str]) -> RawTable:
        from peftrec.data.table import RawTable

        path, names = self._path("metadata"), _METADATA[self.layout]
        wanted = {column: names[column] for column in names if column in columns}
        if "category" in wanted and self.layout == 2023:
            wanted["main_category"] = names["main_category"]
        read = _read_literals if self.layout == 2014 else _read_columns
        frame = read(path, wanted)
        self._check(path, frame, names, of_which=("item_id",))
        return RawTable(str(path), _with_flat_columns(frame, self.layout), tuple(names))

    def _path(self, key: str) -> Path:
        from peftrec.data.table import resolve_path
        from peftrec.data.text_file import require_file

        given = getattr(self, key)
        path = resolve_path(given, self.root)
        require_file(path, f"data.{key}: {given}, data.root: {self.root}")
        return path

    def _check(self, path: Path, frame: pl.DataFrame, names: Mapping[str, str], of_which: Sequence[str]) -> None:
        """Refuses a file in which a key that every line has in this layout is nowhere."""
        if frame.is_empty():
            raise InputError(f"{path} holds no rows")
        for column in of_which:
            if column in frame.columns and frame[column].is_null().all():
                raise InputError(
                    f"{path}: no line has the key {names[column]!r}, which data.layout: {self.layout} calls for; the "
                    f"first line has: {', '.join(_first_keys(path))}"
                )


def _read_columns(path: Path, names: Mapping[str, str]) -> pl.DataFrame:
    """The keys of JSON Lines as columns, all text; a list is its JSON."""
    import polars as pl

    from peftrec.data.json_lines import read_json_lines

    keys = tuple(dict.fromkeys(names.values()))
    frame = pl.concat(read_json_lines(path, keys))
    return frame.select(pl.col(key).alias(column) for column, key in names.items())


def _read_literals(path: Path, names: Mapping[str, str]) -> pl.DataFrame:
    """The same for lines that hold a Python dictionary each (or a JSON object, as later copies do)."""
    import polars as pl

    from peftrec.data.text_file import read_lines

    values: dict[str, list[str | None]] = {column: [] for column in names}
    for lines in read_lines(path):
        for number, line in enumerate(lines.content.split(b"\n"), lines.first):
            if line.strip():
                entry = _literal(line, f"{path}: line {number:,}")
                for column, key in names.items():
                    values[column].append(_as_text(entry.get(key)))
    return pl.DataFrame(values, schema=dict.fromkeys(names, pl.String()))


def _literal(line: bytes, place: str) -> dict[str, Any]:
    from peftrec.data.json_lines import shown

    text = line.decode("utf-8").strip()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # backslashes that Python would not write so
            entry = json.loads(text) if text.startswith('{"') else ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        entry = None
    if not isinstance(entry, dict):
        raise InputError(f"{place} is neither a Python dictionary nor a JSON object: {shown(line)}")
    return entry


def _as_text(value: Any) -> str | None:
    """A text as it is, anything else as JSON: the form in which JSON Lines come."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _with_flat_columns(frame: pl.DataFrame, layout: int) -> pl.DataFrame:
    import polars as pl

    flat = [
        pl.Series(column, [_flat(value, _SEPARATORS.get(column, " ")) for value in frame[column]], dtype=pl.String)
        for column in frame.columns
        if column not in ("item_id", "price")
    ]
    frame = frame.with_columns(flat)
    if "price" in frame.columns:
        number = pl.col("price").str.strip_chars().str.extract(_PRICE).str.replace_all(",", "", literal=True)
        frame = frame.with_columns(number.alias("price"))
    if layout == 2023 and "category" in frame.columns:
        frame = frame.with_columns(pl.coalesce("category", "main_category").alias("category"))
    return frame


def _flat(value: str | None, separator: str) -> str | None:
    """The texts of a list, nested or not, each once; another value as it is; null where nothing is left."""
    if value is None or not value.startswith(("[", "{")):
        return value or None
    try:
        parts = dict.fromkeys(_texts(json.loads(value)))
    except (ValueError, RecursionError):  # a text that begins with a bracket
        return value
    return separator.join(parts) or None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, str) and value.strip():
        yield value.strip()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)


def _reviewed(items: RawTable, interactions: RawTable) -> tuple[RawTable, CleaningRow]:
    from peftrec.data.table import RawTable

    reviewed = items.frame["item_id"].is_in(interactions.frame["item_id"].unique().implode())
    if not reviewed.any():
        raise InputError(
            f"{items.name}: none of its {items.frame.height:,} items has a review in {interactions.name}; ids here: "
            f"{_examples(items)}; ids there: {_examples(interactions)}"
        )
    frame = items.frame.filter(reviewed)
    row = CleaningRow("items without review", "items", items.frame.height - frame.height, frame.height)
    return RawTable(items.name, frame, items.column_names), row


def _examples(table: RawTable) -> str:
    return ", ".join(repr(item) for item in table.frame["item_id"].head(3))


def _first_keys(path: Path) -> tuple[str, ...]:
    from peftrec.data.text_file import read_lines

    for lines in read_lines(path):
        first = next((line for line in lines.content.split(b"\n") if line.strip()), None)
        if first is not None:
            return tuple(_literal(first, str(path)))
    return ()
