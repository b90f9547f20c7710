"""The table of users: what is known of each, as one text a user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from peftrec.config import InputError
from peftrec.data.report import CleaningRow
from peftrec.data.source import DataConfig, RawTables
from peftrec.data.table import ids_of, text_of
from peftrec.data.template import Template
from peftrec.data.text import clean_text


@dataclass(frozen=True, eq=False)
class UserTexts:
    """One text a user of the table, which may hold more users than the interactions, or lack some.

    Args:
        frame: `user` (the id, distinct) and `text` ("" where all of the template's columns are empty).
        name: what the table is called in messages.
        template: what the texts were made with.
        rows: what was read and removed.
    """

    frame: pl.DataFrame
    name: str
    template: Template
    rows: tuple[CleaningRow, ...]

    def texts_of(self, user_ids: Sequence[str], interactions_name: str) -> tuple[tuple[str, ...], CleaningRow]:
        """The texts of some users.

        Args:
            user_ids: in any order; an id stands there for each of the user's sessions.
            interactions_name: what the table that they come from is called in messages.
        Returns:
            One text an id, "" for a user that the table lacks or says nothing of; and a row that counts those.
        Raises:
            InputError: if the table has none of the users, or says nothing of any of them.
        """
        users = pl.DataFrame({"user": pl.Series(user_ids, dtype=pl.String)})
        found = users.join(self.frame, on="user", how="left", maintain_order="left")["text"]
        if not found.is_not_null().any():
            here, there = (", ".join(repr(user) for user in ids[:3]) for ids in (self.frame["user"], user_ids))
            raise InputError(
                f"{self.name}: has none of the {len(user_ids):,} users of {interactions_name}; ids here: {here}; "
                f"ids there: {there}"
            )
        texts = found.fill_null("")
        silent = int((texts == "").sum())
        if silent == len(user_ids):
            raise InputError(
                f"{self.name}: no user of {interactions_name} has a text; data.user_template {self.template.text!r} "
                f"finds nothing in {', '.join(self.template.fields)}"
            )
        # The report is published with a run: it counts, and names nobody.
        unit = "users" if len(set(user_ids)) == len(user_ids) else "sessions"
        row = CleaningRow("user texts", unit, 0, len(user_ids), f"{silent:,} {unit} without attributes")
        return tuple(texts.to_list()), row


def read_user_texts(raw: RawTables, config: DataConfig) -> UserTexts:
    """The texts of all users of the table.

    Values are cleaned as those of items are. Rows without an id are dropped; of rows that share an id and say the same,
    the first is kept.

    Args:
        raw: the tables, with users.
        config: the recipe's `data` section, with a template for users.
    Raises:
        RecipeError: if the template names a column that the table lacks.
        InputError: if two rows of one user say different things.
    """
    table, key = raw.users, "data.user_template"
    assert table is not None
    assert config.user_template is not None
    template = Template(config.user_template)
    template.check(table.column_names, table=table.name, key=key)

    def field(name: str) -> pl.Series:
        text = text_of(table.column(name, key), f"{table.name}, column {name!r}")
        return clean_text(text, strip_html=config.cleaning.strip_html)

    column = raw.columns.user
    user = ids_of(table.column(column, "data.columns.user"), f"{table.name}, column {column!r}").alias("user")
    text = template.render(pl.DataFrame({name: field(name) for name in template.fields}))
    frame = pl.DataFrame([user, text]).with_row_index("row", offset=1)
    named = frame.filter(pl.col("user").is_not_null())
    if named.is_empty():
        raise InputError(f"{table.name}, column {column!r}: holds no id in any of its {frame.height:,} rows")
    distinct = named.unique(subset=("user", "text"), keep="first", maintain_order=True)
    _refuse_differing(distinct, table.name)
    repeated = named.height - distinct.height
    rows = (
        CleaningRow("read", "users", 0, frame.height),
        CleaningRow("null user ids", "users", frame.height - named.height, named.height),
        CleaningRow("duplicate user ids", "users", repeated, distinct.height, "first kept; all equal" * bool(repeated)),
    )
    return UserTexts(distinct.select("user", "text"), table.name, template, rows)


def _refuse_differing(distinct: pl.DataFrame, name: str) -> None:
    again = distinct.filter(~pl.col("user").is_first_distinct())
    if again.is_empty():
        return
    row, user, text = again.row(0)
    first_row, _, first_text = distinct.filter(pl.col("user") == user).row(0)
    more = again["user"].n_unique() - 1
    others = f", and {more:,} more users have such rows" if more else ""
    raise InputError(
        f"{name}: data rows {first_row:,} and {row:,} say different things of the user {user!r}: {first_text!r} and "
        f"{text!r}{others}; keep one row a user"
    )
