"""The cleaning pipeline: a tuple of steps, each of which says what it took."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from peftrec.config import InputError
from peftrec.data.cleaning_step import (
    FIELD,
    Rules,
    Step,
    Tables,
    item_row,
    keep_interactions,
    keep_items,
    left_interactions,
)
from peftrec.data.event_cleaning import (
    count_repeats,
    cut_sessions,
    drop_bots,
    drop_low_counts,
    drop_repeats,
    drop_weightless,
    heaviest_first,
)
from peftrec.data.report import CleaningRow
from peftrec.data.text import clean_text


def clean(tables: Tables, rules: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Runs the pipeline.

    Args:
        tables: both tables under canonical names.
        rules: the recipe's cleaning section and template.
    Returns:
        The tables that are left, items with their `text`, and what each step did.
    Raises:
        InputError: if a step leaves no interaction or no item, naming the step; if fewer users are left than the
            sample is to have.
    """
    rows: list[CleaningRow] = []
    for step in PIPELINE:
        tables, done = step(tables, rules)
        rows.extend(done)
        for row in done:
            if row.remaining == 0:
                name = tables.items_name if row.subject == "items" else tables.interactions_name
                raise InputError(f"{name}: the cleaning step {row.step!r} took the last {row.removed:,} {row.subject}")
    return tables, tuple(rows)


def drop_null_item_ids(tables: Tables, _: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Drops items without an id."""
    return keep_items(tables, pl.col("item").is_not_null(), "null item ids")


def drop_duplicate_items(tables: Tables, _: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Keeps the first of the items that share an id, and counts the ids whose rows differ."""
    items = tables.items.unique(subset="item", keep="first", maintain_order=True)
    note = ""
    if items.height < tables.items.height:
        versions = tables.items.unique().group_by("item").len()
        conflicts = versions.filter(pl.col("len") > 1).height
        note = f"first kept; {conflicts:,} ids with rows that differ" if conflicts else "first kept; all rows equal"
    return replace(tables, items=items), (item_row("duplicate item ids", tables, items, note),)


def clean_item_text(tables: Tables, rules: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Decodes entities, drops tags, makes white space single, in titles and template columns."""
    names = [name for name in tables.items.columns if name != "item"]
    columns = [clean_text(tables.items[name], strip_html=rules.config.strip_html).alias(name) for name in names]
    items = tables.items.with_columns(columns)
    changed = _changed_rows(tables.items, items, names)
    note = f"{changed:,} items changed" if changed else ""
    return replace(tables, items=items), (item_row("text cleaning", tables, items, note),)


def drop_null_ids(tables: Tables, _: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Drops interactions without a user or an item."""
    return keep_interactions(
        tables, pl.col("user").is_not_null() & pl.col("item").is_not_null(), "null user or item ids"
    )


def drop_null_times(tables: Tables, _: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Drops interactions without a time (or position)."""
    return keep_interactions(tables, pl.col("time").is_not_null(), "null times")


def drop_unknown_items(tables: Tables, _: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Drops interactions with items that the item table lacks; where it lacks all, that is an error."""
    known = tables.interactions["item"].is_in(tables.items["item"].implode())
    unknown = tables.interactions.filter(~known)["item"].unique(maintain_order=True)
    examples = ", ".join(repr(item) for item in unknown.head(3))
    if not known.any():
        there = ", ".join(repr(item) for item in tables.items["item"].head(3))
        raise InputError(
            f"{tables.interactions_name}: none of its {len(unknown):,} items is in {tables.items_name}; "
            f"ids here: {examples}; ids there: {there}"
        )
    note = f"{len(unknown):,} ids without an item, e.g. {examples}" if len(unknown) else ""
    return keep_interactions(tables, known, "unknown items", note)


def drop_textless_items(tables: Tables, rules: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Makes the items' texts; drops items without one, and their interactions."""
    fields = tables.items.select(pl.col(f"{FIELD}{name}").alias(name) for name in rules.template.fields)
    text = rules.template.render(fields)
    written = text != ""
    if not written.any():
        raise InputError(
            f"{tables.items_name}: no item has a text; data.template {rules.template.text!r} finds nothing in "
            f"{', '.join(rules.template.fields)}"
        )
    items = tables.items.with_columns(text).filter(written)
    missing = tables.items.filter(~written)["item"]
    note = f"e.g. {', '.join(repr(item) for item in missing.head(3))}" if len(missing) else ""
    row = item_row("items without text", tables, items, note)
    kept = ~tables.interactions["item"].is_in(missing.implode())
    tables, rows = keep_interactions(tables, kept, "items without text")
    return replace(tables, items=items), (row, *rows)


def drop_low_ratings(tables: Tables, rules: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Drops interactions rated below `min_rating`."""
    least = rules.config.min_rating
    if least is None:
        return tables, ()
    return keep_interactions(tables, pl.col("rating") >= least, f"rating below {least:g}")


def drop_duplicates(tables: Tables, rules: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Keeps the first of the interactions that share user, item and time, whatever kind of event they are.

    Where kinds have weights, the first of the heaviest.
    """
    if not rules.config.drop_duplicates:
        return tables, ()
    events = heaviest_first(tables.interactions)
    left = events.unique(subset=("user", "item", "time"), keep="first", maintain_order=True).sort("row")
    note = ""
    if "event" in tables.interactions.columns and left.height < tables.interactions.height:
        kinds = tables.interactions.select("user", "item", "time", "event").unique().height - left.height
        note = f"{kinds:,} kinds of event beside the first kept" if kinds else ""
    return left_interactions(tables, left, "duplicate interactions", note)


def keep_core(tables: Tables, rules: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Drops interactions of rare users and rare items until none is left."""
    of_user, of_item = rules.config.min_user_events, rules.config.min_item_events
    if of_user <= 1 and of_item <= 1:
        return tables, ()
    name = f"core of {of_user} a user, {of_item} an item"
    left, rounds = tables.interactions, 0
    while True:
        rounds += 1
        kept = left.filter((pl.len().over("user") >= of_user) & (pl.len().over("item") >= of_item))
        if kept.height == left.height or kept.is_empty():
            break
        left = kept
    note = f"{rounds} rounds; the items stay in the catalogue"
    row = CleaningRow(name, "interactions", tables.interactions.height - kept.height, kept.height, note)
    return replace(tables, interactions=kept), (row,)


def keep_newest(tables: Tables, rules: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Keeps each user's newest `max_user_events`."""
    most = rules.config.max_user_events
    if most is None:
        return tables, ()
    # the later of two equal times is the later in the file
    place = pl.col("time").rank("ordinal").over("user")
    return keep_interactions(tables, place + most > pl.len().over("user"), f"newest {most} a user")


def sample_users(tables: Tables, rules: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Keeps a random part of the users that are left, the same one whatever the order of the rows."""
    sample = rules.sample
    if sample is None:
        return tables, ()
    unit = "users" if rules.sessions is None else "sessions"
    dtype = tables.interactions["user"].dtype
    assert isinstance(dtype, pl.Enum)
    category = tables.interactions["user"].to_physical()
    left = category.unique()
    if sample.users > len(left):
        raise InputError(
            f"{tables.interactions_name}: data.sample.users asks for {sample.users:,} {unit}, but cleaning left "
            f"{len(left):,}; ask for at most so many, or leave data.sample out"
        )
    in_order = left.gather(dtype.categories.gather(left).arg_sort()).to_numpy()
    # The head of a permutation, so that a larger sample holds the smaller ones.
    drawn = np.random.default_rng(sample.seed).permutation(in_order)[: sample.users]
    kept = np.zeros(len(dtype.categories), dtype=bool)
    kept[drawn] = True
    name = f"sample of {sample.users:,} {unit}"
    row = CleaningRow(name, unit, len(left) - len(drawn), len(drawn), f"seed {sample.seed}; all items stay")
    tables, rows = keep_interactions(tables, pl.Series(kept[category.to_numpy()]), name)
    return tables, (row, *rows)


PIPELINE: tuple[Step, ...] = (
    drop_null_item_ids,
    drop_duplicate_items,
    clean_item_text,
    drop_null_ids,
    drop_null_times,
    drop_unknown_items,
    drop_textless_items,
    drop_low_ratings,
    drop_weightless,
    drop_low_counts,
    drop_duplicates,
    drop_bots,
    cut_sessions,
    drop_repeats,
    count_repeats,
    keep_core,
    keep_newest,
    sample_users,
)


def _changed_rows(before: pl.DataFrame, after: pl.DataFrame, names: list[str]) -> int:
    changed = [before[name].ne_missing(after[name]).alias(name) for name in names]
    return int(pl.DataFrame(changed).select(pl.any_horizontal(pl.all()).sum()).item())
