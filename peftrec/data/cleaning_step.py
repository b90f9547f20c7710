"""What every step of the cleaning pipeline is handed and gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import polars as pl

from peftrec.data.cleaning_config import CleaningConfig, SampleConfig, SessionConfig
from peftrec.data.report import CleaningRow
from peftrec.data.template import Template


@dataclass(frozen=True, eq=False)
class Tables:
    """Both tables under canonical names.

    Args:
        interactions: `row` (place in the file, from 1), `user` and `item` (categories, so that millions of rows
            compare numbers), `time` (a number), `rating` (Float64) where it is kept or a threshold is set, `kind` (the
            place of its value among those that the recipe names) where the recipe names kinds, `event` (the code of its
            word) where they have words, `weight` (Float64) where they have weights, and `count` (Float64) where the
            recipe reads or makes counts.
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
    sessions: SessionConfig | None = None


Step = Callable[[Tables, Rules], tuple[Tables, tuple[CleaningRow, ...]]]
FIELD = "field:"


def item_row(step: str, before: Tables, items: pl.DataFrame, note: str = "") -> CleaningRow:
    """The report's row of a step that took items."""
    return CleaningRow(step, "items", before.items.height - items.height, items.height, note)


def keep_items(tables: Tables, kept: pl.Expr, step: str) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Keeps the items that an expression is true of."""
    items = tables.items.filter(kept)
    return replace(tables, items=items), (item_row(step, tables, items),)


def keep_interactions(
    tables: Tables, kept: pl.Expr | pl.Series, step: str, note: str = ""
) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Keeps the interactions that an expression, or a mask, is true of."""
    return left_interactions(tables, tables.interactions.filter(kept), step, note)


def left_interactions(
    tables: Tables, left: pl.DataFrame, step: str, note: str = ""
) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Puts in place the interactions that a step has left."""
    row = CleaningRow(step, "interactions", tables.interactions.height - left.height, left.height, note)
    return replace(tables, interactions=left), (row,)
