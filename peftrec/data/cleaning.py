"""The cleaning pipeline: a tuple of steps, each of which says what it took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from peftrec.config import InputError
from peftrec.data.report import CleaningRow
from peftrec.data.source import CleaningConfig, SampleConfig
from peftrec.data.template import Template
from peftrec.data.text import clean_text


@dataclass(frozen=True, eq=False)
class Tables:
    """Both tables under canonical names.

    Args:
        interactions: `row` (place in the file, from 1), `user` and `item` (categories, so that millions of rows
            compare numbers), `time` (a number), `rating` (Float64) where it is kept or a threshold is set, and `event`
            (the code of its kind) where the recipe reads kinds.
        items: `item` (of the same categories), and as text `title`, `field:<column>` for each column of the template,
            and `text` once rendered.
        interactions_name: what the first is called in messages.
        items_name: what the second is called in messages.
    """

    interactions: pl.DataFrame
    items: pl.DataFrame
    interactions_name: str
    items_name: str


@dataclass(frozen=True)
class Rules:
    """What the steps go by."""

    config: CleaningConfig
    template: Template
    sample: SampleConfig | None = None


Step = Callable[[Tables, Rules], tuple[Tables, tuple[CleaningRow, ...]]]
FIELD = "field:"


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
    return _keep_items(tables, pl.col("item").is_not_null(), "null item ids")


def drop_duplicate_items(tables: Tables, _: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Keeps the first of the items that share an id, and counts the ids whose rows differ."""
    items = tables.items.unique(subset="item", keep="first", maintain_order=True)
    note = ""
    if items.height < tables.items.height:
        versions = tables.items.unique().group_by("item").len()
        conflicts = versions.filter(pl.col("len") > 1).height
        note = f"first kept; {conflicts:,} ids with rows that differ" if conflicts else "first kept; all rows equal"
    return replace(tables, items=items), (_item_row("duplicate item ids", tables, items, note),)


def clean_item_text(tables: Tables, rules: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Decodes entities, drops tags, makes white space single, in titles and template columns."""
    names = [name for name in tables.items.columns if name != "item"]
    columns = [clean_text(tables.items[name], strip_html=rules.config.strip_html).alias(name) for name in names]
    items = tables.items.with_columns(columns)
    changed = _changed_rows(tables.items, items, names)
    note = f"{changed:,} items changed" if changed else ""
    return replace(tables, items=items), (_item_row("text cleaning", tables, items, note),)


def drop_null_ids(tables: Tables, _: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Drops interactions without a user or an item."""
    return _keep_interactions(
        tables, pl.col("user").is_not_null() & pl.col("item").is_not_null(), "null user or item ids"
    )


def drop_null_times(tables: Tables, _: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Drops interactions without a time (or position)."""
    return _keep_interactions(tables, pl.col("time").is_not_null(), "null times")


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
    return _keep_interactions(tables, known, "unknown items", note)


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
    row = _item_row("items without text", tables, items, note)
    kept = ~tables.interactions["item"].is_in(missing.implode())
    tables, rows = _keep_interactions(tables, kept, "items without text")
    return replace(tables, items=items), (row, *rows)


def drop_low_ratings(tables: Tables, rules: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Drops interactions rated below `min_rating`."""
    least = rules.config.min_rating
    if least is None:
        return tables, ()
    return _keep_interactions(tables, pl.col("rating") >= least, f"rating below {least:g}")


def drop_duplicates(tables: Tables, rules: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Keeps the first of the interactions that share user, item and time, whatever kind of event they are."""
    if not rules.config.drop_duplicates:
        return tables, ()
    left = tables.interactions.unique(subset=("user", "item", "time"), keep="first", maintain_order=True)
    note = ""
    if "event" in tables.interactions.columns and left.height < tables.interactions.height:
        kinds = tables.interactions.select("user", "item", "time", "event").unique().height - left.height
        note = f"{kinds:,} kinds of event beside the first kept" if kinds else ""
    return _left_interactions(tables, left, "duplicate interactions", note)


def drop_repeats(tables: Tables, rules: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Keeps each user's first interaction with an item."""
    if not rules.config.drop_repeats:
        return tables, ()
    in_order = tables.interactions.sort("time", maintain_order=True)
    left = in_order.unique(subset=("user", "item"), keep="first", maintain_order=True).sort("row")
    return _left_interactions(tables, left, "repeated interactions")


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
    return _keep_interactions(tables, place + most > pl.len().over("user"), f"newest {most} a user")


def sample_users(tables: Tables, rules: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Keeps a random part of the users that are left, the same one whatever the order of the rows."""
    sample = rules.sample
    if sample is None:
        return tables, ()
    dtype = tables.interactions["user"].dtype
    assert isinstance(dtype, pl.Enum)
    category = tables.interactions["user"].to_physical()
    left = category.unique()
    if sample.users > len(left):
        raise InputError(
            f"{tables.interactions_name}: data.sample.users asks for {sample.users:,} users, but cleaning left "
            f"{len(left):,}; ask for at most so many, or leave data.sample out"
        )
    in_order = left.gather(dtype.categories.gather(left).arg_sort()).to_numpy()
    # The head of a permutation, so that a larger sample holds the smaller ones.
    drawn = np.random.default_rng(sample.seed).permutation(in_order)[: sample.users]
    kept = np.zeros(len(dtype.categories), dtype=bool)
    kept[drawn] = True
    name = f"sample of {sample.users:,} users"
    row = CleaningRow(name, "users", len(left) - len(drawn), len(drawn), f"seed {sample.seed}; all items stay")
    tables, rows = _keep_interactions(tables, pl.Series(kept[category.to_numpy()]), name)
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
    drop_duplicates,
    drop_repeats,
    keep_core,
    keep_newest,
    sample_users,
)


def _changed_rows(before: pl.DataFrame, after: pl.DataFrame, names: list[str]) -> int:
    changed = [before[name].ne_missing(after[name]).alias(name) for name in names]
    return int(pl.DataFrame(changed).select(pl.any_horizontal(pl.all()).sum()).item())


def _item_row(step: str, before: Tables, items: pl.DataFrame, note: str = "") -> CleaningRow:
    return CleaningRow(step, "items", before.items.height - items.height, items.height, note)


def _keep_items(tables: Tables, kept: pl.Expr, step: str) -> tuple[Tables, tuple[CleaningRow, ...]]:
    items = tables.items.filter(kept)
    return replace(tables, items=items), (_item_row(step, tables, items),)


def _keep_interactions(
    tables: Tables, kept: pl.Expr | pl.Series, step: str, note: str = ""
) -> tuple[Tables, tuple[CleaningRow, ...]]:
    return _left_interactions(tables, tables.interactions.filter(kept), step, note)


def _left_interactions(
    tables: Tables, left: pl.DataFrame, step: str, note: str = ""
) -> tuple[Tables, tuple[CleaningRow, ...]]:
    row = CleaningRow(step, "interactions", tables.interactions.height - left.height, left.height, note)
    return replace(tables, interactions=left), (row,)
