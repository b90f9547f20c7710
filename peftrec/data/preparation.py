"""From raw tables to catalogue, sequences and users' texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data.attribute_table import AttributeTable, read_attributes
from peftrec.data.catalogue import Catalogue
from peftrec.data.cleaning import clean
from peftrec.data.cleaning_step import FIELD, Rules, Tables
from peftrec.data.event import count_kinds, event_codes, event_places, event_weights
from peftrec.data.event_cleaning import owner_of
from peftrec.data.event_kind import EventKind, named_values
from peftrec.data.item_field import read_item_fields
from peftrec.data.mixed_type import mixed_rows
from peftrec.data.naming import listed
from peftrec.data.report import CleaningRow
from peftrec.data.sequence import Sequences
from peftrec.data.source import DataConfig, RawTables
from peftrec.data.table import ids_of, text_of
from peftrec.data.target_weight import weigh_targets
from peftrec.data.template import Template
from peftrec.data.timestamp import EARLIEST_LIKELY_MS, parse_numbers, parse_positions, parse_times, refuse_unread
from peftrec.data.user_text import read_user_texts


@dataclass(frozen=True, eq=False)
class Prepared:
    """A data set that is not split yet; see `Dataset`. `rows` say what was read and removed."""

    catalogue: Catalogue
    sequences: Sequences
    user_texts: tuple[str, ...] | None
    rows: tuple[CleaningRow, ...]
    event_kinds: tuple[EventKind, ...] = ()
    item_attributes: AttributeTable | None = None
    user_attributes: AttributeTable | None = None


def prepare(config: DataConfig) -> Prepared:
    """Reads and cleans; everything of `load_dataset` but the split.

    Args:
        config: the recipe's `data` section.
    Returns:
        What the tables hold, cleaned.
    Raises:
        InputError: see `load_dataset`.
    """
    raw = config.read()
    prepared = _prepare(raw, config)
    item = user = None
    rows = prepared.rows
    if config.item_attributes is not None:
        ids = prepared.catalogue.ids
        item, row = read_attributes(raw.items, raw.columns.item, config.item_attributes, ids, "items")
        rows = (*rows, row)
    if config.user_attributes is not None:
        assert raw.users is not None
        owners = _owners(prepared.sequences, config)
        user, row = read_attributes(raw.users, raw.columns.user, config.user_attributes, owners, "users")
        rows = (*rows, row)
    catalogue = prepared.catalogue
    if config.item_fields:
        kept = config.item_fields, catalogue.ids, config.group_separator
        catalogue = replace(catalogue, fields=read_item_fields(raw.items, raw.columns.item, *kept))
    return replace(prepared, catalogue=catalogue, rows=rows, item_attributes=item, user_attributes=user)


def _prepare(raw: RawTables, config: DataConfig) -> Prepared:
    """All but the attributes."""
    template = Template(config.template)
    template.check(raw.items.column_names, table=raw.items.name)
    interactions, note = read_interactions(raw, config)
    interactions, items = _categorised(interactions, read_item_rows(raw, template))
    tables = Tables(interactions, items, raw.interactions.name, raw.items.name)
    read = (
        *raw.rows,
        *mixed_rows(raw),
        CleaningRow("read", "items", 0, tables.items.height),
        CleaningRow("read", "interactions", 0, interactions.height, note),
    )
    user_table = None if config.user_template is None else read_user_texts(raw, config)
    tables, cleaned = clean(tables, Rules(config.cleaning, template, config.sample, config.sessions))
    tables, weighed = weigh_targets(tables, config)
    sequences = build_sequences(tables, keep_times=config.timestamps == "time", keep_ratings=config.ratings)
    if config.sessions is not None:
        sequences = replace(sequences, owners=session_owners(sequences.user_ids))
    touched = tables.interactions["item"].n_unique()
    num_single = int((sequences.lengths == 1).sum())
    kept = (
        CleaningRow("kept", f"{sequences.unit}s", 0, len(sequences), f"{num_single:,} with one event"),
        CleaningRow(
            "kept",
            "items",
            0,
            tables.items.height,
            f"{tables.items.height - touched:,} without interaction{_same_texts(tables)}",
        ),
        CleaningRow("kept", "interactions", 0, tables.interactions.height),
    )
    rows = (*read, *cleaned, *weighed, *kept)
    kinds = count_kinds(config, interactions, tables.interactions)
    if user_table is None:
        return Prepared(build_catalogue(tables), sequences, None, rows, kinds)
    user_texts, row = user_table.texts_of(_owners(sequences, config), raw.interactions.name)
    rows = (*read, *user_table.rows, *cleaned, *weighed, *kept, row)
    return Prepared(build_catalogue(tables), sequences, user_texts, rows, kinds)


def _owners(sequences: Sequences, config: DataConfig) -> Sequence[str]:
    """The ids of the users whose sequences these are."""
    return sequences.user_ids if config.sessions is None else [owner_of(session) for session in sequences.user_ids]


def session_owners(sessions: Sequence[str]) -> NDArray[np.int64]:
    """Whose session each is: people numbered by first appearance.

    Args:
        sessions: ids of sessions, as cleaning makes them.
    """
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(owner_of(session), len(numbers)) for session in sessions], dtype=np.int64)


def build_sequences(tables: Tables, *, keep_times: bool, keep_ratings: bool = False) -> Sequences:
    """Cleaned interactions as one flat array.

    Args:
        tables: cleaned tables; every interaction has an item that is there, and a time.
        keep_times: False drops the times (they are positions).
        keep_ratings: False drops the ratings (they were read for cleaning).
    Returns:
        Users in order of first appearance; a user's events in order of time, equal times in the order of the file.
    """
    events = tables.interactions
    users = events["user"].dtype
    assert isinstance(users, pl.Enum)
    category = events["user"].to_physical().to_numpy()  # numbered by first appearance
    kept = np.bincount(category, minlength=len(users.categories)) > 0
    user = (np.cumsum(kept) - 1)[category]
    offsets = np.zeros(kept.sum() + 1, dtype=np.int64)
    np.cumsum(np.bincount(user, minlength=len(offsets) - 1), out=offsets[1:])
    codes = tables.items["item"].to_physical().to_numpy()
    place = np.full(codes.max() + 1, -1, dtype=np.int64)
    place[codes] = np.arange(len(codes))
    order = _order(user, events["time"])
    return Sequences(
        user_ids=tuple(users.categories.filter(pl.Series(kept)).to_list()),
        offsets=offsets,
        items=place[events["item"].to_physical().to_numpy()[order]],
        times=events["time"].to_numpy()[order].astype(np.int64) if keep_times else None,
        events=events["event"].to_numpy()[order].astype(np.int64) if "event" in events.columns else None,
        weights=events["target_weight"].to_numpy()[order].astype(np.float32)
        if "target_weight" in events.columns
        else None,
        ratings=events["rating"].to_numpy()[order].astype(np.float32) if keep_ratings else None,
    )


def _order(user: NDArray[np.int64], time: pl.Series) -> NDArray[np.int64]:
    """By user, then time, then place in the file."""
    frame = pl.DataFrame({"user": user, "time": time})
    return frame.select(pl.arg_sort_by("user", "time", maintain_order=True)).to_series().cast(pl.Int64).to_numpy()


def read_interactions(raw: RawTables, config: DataConfig) -> tuple[pl.DataFrame, str]:
    """Interactions under canonical names, ids as text, and what was read of their times; see `Tables`."""
    table, columns = raw.interactions, raw.columns
    time, note = _times(raw, config)
    frame = pl.DataFrame(
        {
            "row": pl.int_range(1, table.frame.height + 1, dtype=pl.UInt32, eager=True),
            "user": ids_of(table.column(columns.user, "data.columns.user"), f"{table.name}, column {columns.user!r}"),
            "item": ids_of(table.column(columns.item, "data.columns.item"), f"{table.name}, column {columns.item!r}"),
            "time": time,
        }
    )
    if config.ratings or config.cleaning.min_rating is not None:
        why = f"{'data.ratings' if config.ratings else 'data.cleaning.min_rating'} needs"
        frame = frame.with_columns(_numbers(raw, raw.columns.rating, "rating", why).alias("rating"))
    if config.event_words is not None:
        frame = frame.with_columns(event_codes(raw, config.event_words).alias("event"))
    if config.event_weights is not None:
        frame = frame.with_columns(event_weights(raw, config.event_weights).alias("weight"))
    if config.event_words is not None or config.event_weights is not None:
        frame = frame.with_columns(event_places(raw, named_values(config)).alias("kind"))
    if config.reads_counts:
        why = "data.cleaning.min_count and data.weigh_counts need"
        frame = frame.with_columns(_numbers(raw, raw.columns.count, "count", why).alias("count"))
    return frame, note


def _categorised(interactions: pl.DataFrame, items: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """User and item ids as categories, numbered by first appearance; those of the item table come first."""
    user = pl.Enum(interactions["user"].drop_nulls().unique(maintain_order=True))
    item = pl.Enum(pl.concat([items["item"], interactions["item"]]).drop_nulls().unique(maintain_order=True))
    return (
        interactions.with_columns(pl.col("user").cast(user), pl.col("item").cast(item)),
        items.with_columns(pl.col("item").cast(item)),
    )


def _times(raw: RawTables, config: DataConfig) -> tuple[pl.Series, str]:
    table, column = raw.interactions, raw.columns.time
    name = f"{table.name}, column {column!r}"
    there = column in table.frame.columns
    if config.timestamps == "order":
        if there:
            return parse_positions(table.frame[column], name), f"order of {column!r} within each user"
        return pl.int_range(table.frame.height, dtype=pl.Int64, eager=True), "no time column: order of the file"
    if not there:
        raise InputError(
            f"{name} is missing; columns there: {listed(table.column_names)}. Name the time column in "
            f"data.columns.time, or set data.timestamps: order to take the order of the file"
        )
    times, note = parse_times(table.frame[column], name)
    last = times.max()
    # Dates are moments, however old; numbers so small are rather positions.
    numbers = parse_numbers(table.frame[column]).count() > 0
    if config.split.needs_times and numbers and isinstance(last, int) and last < EARLIEST_LIKELY_MS:
        raise InputError(
            f"{name}: {note}. data.split.kind: {config.split.kind} cuts all users at one moment, which positions do "
            f"not have; use leave_one_out"
        )
    return times, f"{column!r}: {note}"


def _numbers(raw: RawTables, column: str, what: str, why: str) -> pl.Series:
    table = raw.interactions
    values = table.column(column, f"data.columns.{what}")
    name = f"{table.name}, column {column!r}"
    numbers = parse_numbers(values)
    refuse_unread(values, numbers, name, f"{why} a number in every row")
    missing = numbers.is_null().arg_true()
    if len(missing):
        raise InputError(
            f"{name}: data row {missing[0] + 1:,} holds no {what} ({values[int(missing[0])]!r}), and so do "
            f"{len(missing) - 1:,} more; {why} a number in every row: drop these rows, or unset it"
        )
    return numbers.cast(pl.Float64)


def read_item_rows(raw: RawTables, template: Template) -> pl.DataFrame:
    """Items under canonical names, ids as text; see `Tables`."""
    table, columns = raw.items, raw.columns

    def text(column: str, key: str) -> pl.Series:
        return text_of(table.column(column, key), f"{table.name}, column {column!r}")

    fields = {f"{FIELD}{name}": text(name, "data.template") for name in template.fields}
    item = table.column(columns.item, "data.columns.item")
    return pl.DataFrame(
        {
            "item": ids_of(item, f"{table.name}, column {columns.item!r}"),
            "title": text(columns.title, "data.columns.title"),
            **fields,
        }
    )


def _same_texts(tables: Tables) -> str:
    """What to say of items whose text another has too: the language model cannot tell them apart."""
    same = int(tables.items["text"].is_duplicated().sum())
    return f"; {same:,} share their text with another" if same else ""


def build_catalogue(tables: Tables) -> Catalogue:
    """Cleaned items with their texts, in the order of their table; an item without a title is shown by its text."""
    items = tables.items.with_columns(
        pl.when(pl.col("title").fill_null("") == "").then(pl.col("text")).otherwise(pl.col("title")).alias("title")
    )
    ids, texts, titles = (tuple(items[name].cast(pl.String).to_list()) for name in ("item", "text", "title"))
    return Catalogue(ids, texts, titles)
