"""The steps of cleaning that look at events: weights, counts, bots, sessions, repeats."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from peftrec.data.cleaning_step import Rules, Tables, keep_interactions, left_interactions
from peftrec.data.report import CleaningRow

DAY_MS = 86_400_000
_MINUTE_MS = 60_000


def drop_weightless(tables: Tables, _: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Drops interactions of a kind that weighs nothing."""
    if "weight" not in tables.interactions.columns:
        return tables, ()
    return keep_interactions(tables, pl.col("weight") > 0, "events of weight 0")


def drop_low_counts(tables: Tables, rules: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Drops interactions counted below `min_count` in the column of counts; below 1 in any case."""
    if "count" not in tables.interactions.columns:
        return tables, ()
    least = rules.config.min_count or 1
    return keep_interactions(tables, pl.col("count") >= least, f"count below {least}")


def drop_bots(tables: Tables, rules: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Drops users with more events than people have, within any 24 hours or in all."""
    rows: tuple[CleaningRow, ...] = ()
    most = rules.config.bot_events_per_day
    if most is not None:
        # The first and the last of `most` + 1 consecutive events lie within a day of each other.
        later = pl.col("time").sort().shift(-most) - pl.col("time").sort()
        spans = tables.interactions.group_by("user").agg((later < DAY_MS).any().alias("bot"))
        bots = tables.interactions["user"].is_in(spans.filter(pl.col("bot"))["user"].implode())
        tables, rows = _drop_users(tables, bots, f"bots: over {most:,} events a day")
    most = rules.config.bot_events
    if most is not None:
        bots = tables.interactions.select(pl.len().over("user") > most).to_series()
        tables, more = _drop_users(tables, bots, f"bots: over {most:,} events")
        rows += more
    return tables, rows


def cut_sessions(tables: Tables, rules: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Makes a user of its own of each stretch of events without a longer pause: session 3 of `ann` is `ann#3`."""
    if rules.sessions is None:
        return tables, ()
    num_users = tables.interactions["user"].n_unique()
    in_order = tables.interactions.sort("user", "time", maintain_order=True)
    pauses = in_order.with_columns(pl.col("time").diff().over("user").alias("pause"))
    begins = (pl.col("pause") > rules.sessions.gap_minutes * _MINUTE_MS).fill_null(True).cast(pl.Int64)
    numbered = pauses.with_columns(begins.alias("number")).with_columns(pl.col("number").cum_sum().over("user"))
    session = pl.concat_str(pl.col("user").cast(pl.String), pl.lit("#"), pl.col("number")).alias("user")
    events = numbered.with_columns(session).select(tables.interactions.columns).sort("row")
    events = events.with_columns(pl.col("user").cast(pl.Enum(events["user"].unique(maintain_order=True))))
    lengths = events.group_by("user").len()["len"]
    step = f"sessions by pauses over {rules.sessions.gap_minutes:g} minutes"
    note = f"of {num_users:,} users; {(lengths == 1).sum():,} with one event; each now stands for a user"
    return replace(tables, interactions=events), (CleaningRow(step, "sessions", 0, len(lengths), note),)


def owner_of(session: str) -> str:
    """The id of the user whose session it is."""
    return session.rpartition("#")[0]


def drop_repeats(tables: Tables, rules: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Keeps each user's first interaction with an item, or the first of each run; of kinds with weights the heaviest.

    So a view does not take the place of the purchase that follows it.
    """
    if not rules.config.drop_repeats:
        return tables, ()
    events = tables.interactions.sort("time", maintain_order=True)
    name, same = "repeated interactions", "item"
    if rules.config.drop_repeats == "consecutive":
        name, same = "consecutive repeats", "run"
        before = pl.col("item").to_physical().shift(1).over("user")
        changes = (pl.col("item").to_physical() != before).fill_null(True).cast(pl.Int64)
        events = events.with_columns(changes.alias("run")).with_columns(pl.col("run").cum_sum().over("user"))
    left = heaviest_first(events).unique(subset=("user", same), keep="first", maintain_order=True).sort("row")
    return left_interactions(tables, left.select(tables.interactions.columns), name)


def count_repeats(tables: Tables, rules: Rules) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Makes one interaction of all that a user had with an item: the newest, whose count tells of those before it.

    The newest, as a count at the place of the first would tell of what comes later.
    """
    if not rules.config.count_repeats:
        return tables, ()
    in_order = tables.interactions.sort("time", maintain_order=True)
    counted = in_order.with_columns(pl.len().over("user", "item").cast(pl.Float64).alias("count"))
    left = counted.unique(subset=("user", "item"), keep="last", maintain_order=True).sort("row")
    note = f"{(left['count'] > 1).sum():,} hold more than one"
    tables, rows = left_interactions(tables, left, "repeats counted as one", note)
    if rules.config.min_count is None:
        return tables, rows
    tables, more = drop_low_counts(tables, rules)
    return tables, (*rows, *more)


def heaviest_first(events: pl.DataFrame) -> pl.DataFrame:
    """Kinds with weights sorted by them, else as they are; the order among equal ones stays."""
    return events.sort("weight", descending=True, maintain_order=True) if "weight" in events.columns else events


def _drop_users(tables: Tables, dropped: pl.Series, step: str) -> tuple[Tables, tuple[CleaningRow, ...]]:
    before = tables.interactions["user"].n_unique()
    tables, rows = keep_interactions(tables, ~dropped, step)
    after = tables.interactions["user"].n_unique()
    return tables, (CleaningRow(step, "users", before - after, after), *rows)
