"""Tables of what happened after the data of a recipe: read, cleaned, and the catalogue with their new items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from peftrec.config import InputError
from peftrec.data.case_choice import event_users
from peftrec.data.catalogue import Catalogue
from peftrec.data.cleaning import (
    clean_item_text,
    drop_duplicate_items,
    drop_duplicates,
    drop_low_ratings,
    drop_null_ids,
    drop_null_item_ids,
    drop_null_times,
    drop_textless_items,
)
from peftrec.data.cleaning_step import Rules, Step, Tables
from peftrec.data.event_cleaning import drop_low_counts, drop_repeats, drop_weightless
from peftrec.data.item_field import check_same_kind, read_item_fields
from peftrec.data.naming import listed
from peftrec.data.preparation import build_catalogue, read_interactions, read_item_rows
from peftrec.data.report import CleaningRow
from peftrec.data.sequence import Sequences
from peftrec.data.source import Columns, DataConfig, RawTables
from peftrec.data.table import RawTable, read_table
from peftrec.data.target_weight import weigh_targets
from peftrec.data.template import Template

_OF_ITEMS: tuple[Step, ...] = (drop_null_item_ids, drop_duplicate_items, clean_item_text, drop_textless_items)
_WHOLE_ROWS: tuple[Step, ...] = (drop_null_ids, drop_null_times)
_REPEATS: tuple[Step, ...] = (drop_duplicates, drop_repeats)
_OF_EVENTS: tuple[Step, ...] = (drop_low_ratings, drop_weightless, drop_low_counts, drop_duplicates)


@dataclass(frozen=True, eq=False)
class LaterTables:
    """What was read of the later events.

    Args:
        events: with the columns that the recipe reads.
        items: of new items; None where there are none.
        columns: what they are called.
    """

    events: RawTable
    items: RawTable | None
    columns: Columns


@dataclass(frozen=True, eq=False)
class LaterRows:
    """Cleaned later events.

    Args:
        catalogue: the known items, then the new ones that have a text.
        events: canonical, `user` and `item` as numbers of the known, then the new ones.
        user_ids: the known users, then new ones in order of first appearance.
        rows: what each step took.
    """

    catalogue: Catalogue
    events: pl.DataFrame
    user_ids: tuple[str, ...]
    rows: tuple[CleaningRow, ...]


def read_later_tables(config: DataConfig, events: Path, items: Path | None) -> LaterTables:
    """Read tables of later events and new items, whose columns are called as in the data of a recipe.

    Args:
        config: the recipe's `data` section.
        events: a table, told by its suffix.
        items: likewise; None where no item is new.
    Raises:
        RecipeError: if a suffix is none that tables have.
        InputError: if a file is missing, empty or broken.
    """
    columns = getattr(config, "columns", None)
    if not isinstance(columns, Columns):
        columns = config.read().columns
    of_events, of_items, _ = config.wanted_columns(columns)
    later = read_table(events, of_events, origin="the later events")
    return LaterTables(later, None if items is None else read_table(items, of_items, origin="new items"), columns)


def clean_later(tables: LaterTables, config: DataConfig, catalogue: Catalogue, known: Sequences) -> LaterRows:
    """Clean later events by those rules of the recipe that look at single events, and at repeats of earlier ones.

    What looks at how many events a user or an item has (cores, bots, newest events, samples) is for whole data sets.

    Args:
        tables: from `read_later_tables`.
        config: the recipe's `data` section.
        catalogue: the known items.
        known: the events so far, with times.
    Raises:
        InputError: if a column is missing, an event is earlier than the last one so far or of an item without a text,
            or nothing is left; it names file and row.
    """
    template = Template(config.template)
    grown, item_rows = _grown(tables, config, catalogue, template)
    raw = RawTables(tables.events, tables.events, tables.columns)
    frame, note = read_interactions(raw, config)
    users = pl.Series([*known.user_ids, *frame["user"].drop_nulls()], dtype=pl.String).unique(maintain_order=True)
    kinds = Rules(config.cleaning, template)
    name = tables.events.name
    found = Tables(frame, pl.DataFrame(), name, "" if tables.items is None else tables.items.name)
    rows = [CleaningRow("read later", "interactions", 0, frame.height, note), *item_rows]
    for step in _WHOLE_ROWS:
        found, done = step(found, kinds)
        rows += _some_left(name, done)
    _check_items(found.interactions, grown, tables)
    _check_order(found.interactions, known, tables)
    as_numbers = pl.col("user").cast(pl.Enum(users)), pl.col("item").cast(pl.Enum(list(grown.ids)))
    found = replace(found, interactions=found.interactions.with_columns(*as_numbers))
    for step in _OF_EVENTS:
        found, done = step(found, kinds)
        rows += _some_left(name, done)
    found, done = _drop_known(found, kinds, known)
    rows += _some_left(name, done)
    found, done = weigh_targets(found, config)
    events = found.interactions.with_columns(pl.col("user", "item").to_physical().cast(pl.Int64))
    return LaterRows(grown, events, tuple(users.to_list()), (*rows, *done))


def _some_left(name: str, done: tuple[CleaningRow, ...]) -> Iterator[CleaningRow]:
    for row in done:
        if row.remaining == 0:
            raise InputError(f"{name}: holds no new event: the step {row.step!r} took the last {row.removed:,}")
        yield row


def _grown(
    tables: LaterTables, config: DataConfig, catalogue: Catalogue, template: Template
) -> tuple[Catalogue, tuple[CleaningRow, ...]]:
    """The catalogue with the new items behind those that are known, whose texts stay."""
    table = tables.items
    if table is None:
        return catalogue, ()
    template.check(table.column_names, table=table.name)
    items = read_item_rows(RawTables(table, table, tables.columns), template)
    fresh = items.filter(~pl.col("item").is_in(pl.Series(catalogue.ids, dtype=pl.String).implode()).fill_null(False))
    read = CleaningRow("read later", "items", items.height - fresh.height, fresh.height, "known ones stay as they are")
    if fresh.is_empty():
        return catalogue, (read,)
    nothing = pl.DataFrame({"item": []}, schema={"item": pl.String})
    found, rows = Tables(nothing, fresh, table.name, table.name), [read]
    for step in _OF_ITEMS:
        found, done = step(found, Rules(config.cleaning, template))
        rows += [row for row in done if row.subject == "items"]
    new = build_catalogue(found)
    fields = dict(catalogue.fields)
    if config.item_fields:
        read_fields = read_item_fields(table, tables.columns.item, config.item_fields, new.ids, config.group_separator)
        for column, values in read_fields.items():
            fields[column] = (*catalogue.fields[column], *values)
            check_same_kind(fields[column], f"{table.name}, column {column!r}, with the items known so far")
    grown = Catalogue(
        (*catalogue.ids, *new.ids), (*catalogue.texts, *new.texts), (*catalogue.titles, *new.titles), fields
    )
    return grown, tuple(rows)


def _check_items(events: pl.DataFrame, catalogue: Catalogue, tables: LaterTables) -> None:
    """Refuse events of items that nothing is known of."""
    there = events["item"].is_in(pl.Series(catalogue.ids, dtype=pl.String).implode())
    unknown = events.filter(~there)
    if unknown.is_empty():
        return
    ids = unknown["item"].unique(maintain_order=True)
    remedy = (
        "name a table with their texts in --items"
        if tables.items is None
        else f"{tables.items.name} has no row with a text for them; add some, or leave these events out"
    )
    raise InputError(
        f"{tables.events.name}: data row {unknown['row'][0]:,} is of the item {ids[0]!r}, which the run does not know; "
        f"{unknown.height:,} events are of items that are not known ({listed([repr(item) for item in ids])}): {remedy}"
    )


def _check_order(events: pl.DataFrame, known: Sequences, tables: LaterTables) -> None:
    """Refuse events from before the last one that is known: what was learned from would no longer be the past."""
    assert known.times is not None, "what has no times is not extended"
    last = int(known.times.max())
    early = events.filter(pl.col("time") < last)
    if early.is_empty():
        return
    first = early.row(0, named=True)
    times = [str(np.datetime64(int(value), "ms")) for value in (first["time"], last)]
    raise InputError(
        f"{tables.events.name}: data row {first['row']:,} happened at {times[0]}Z, before the last event of the run's "
        f"data, at {times[1]}Z ({early.height:,} rows in all); an update takes what came after: leave them out, or "
        f"train anew on everything"
    )


def _drop_known(found: Tables, kinds: Rules, known: Sequences) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Drop what repeats an earlier event as the recipe forbids it; earlier events stay, whatever the rules say."""
    assert known.times is not None, "what has no times is not extended"
    users, items = found.interactions["user"].dtype, found.interactions["item"].dtype
    assert isinstance(users, pl.Enum)
    assert isinstance(items, pl.Enum)
    earlier = pl.DataFrame(
        {
            "row": pl.zeros(len(known.items), dtype=pl.UInt32, eager=True),
            "user": users.categories.gather(event_users(known)).cast(users),
            "item": items.categories.gather(known.items).cast(items),
            "time": pl.Series(known.times, dtype=pl.Int64),
        }
    )
    own = found.interactions.select("row", "user", "item", pl.col("time").cast(pl.Int64))
    both = replace(found, interactions=pl.concat([earlier, own]))
    for step in _REPEATS:
        both, _ = step(both, kinds)
    kept = found.interactions["row"].is_in(both.interactions["row"].implode())
    left = found.interactions.filter(kept)
    row = CleaningRow("repeats of earlier events", "interactions", len(kept) - left.height, left.height)
    return replace(found, interactions=left), (row,)
