"""Tables that are read a part at a time, so that memory does not grow with them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl

from peftrec.config import InputError
from peftrec.data.naming import listed
from peftrec.data.source import WHOLE_NUMBER
from peftrec.data.table import read_table, scan_table, text_of
from peftrec.data.template import Template
from peftrec.data.text import clean_text

ROW = "data row"


class TableParts:
    """A table of CSV, TSV, Parquet or JSON Lines, told by its suffix, of which some rows are read at a time.

    Compressed CSV is unpacked whole, and so is JSON Lines with a column whose types differ from line to line.

    Args:
        path: the file.
    Raises:
        RecipeError: if the suffix is none of those that tables have.
        InputError: if the file is missing, empty, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        lazy = scan_table(path)
        self.column_names = tuple(lazy.collect_schema().names())
        try:
            self.num_rows = int(lazy.select(pl.len()).collect().item())
            if path.name.lower().endswith((".jsonl", ".jsonl.gz")):
                # Whether every line has the type that the first lines promise is known only when all are read.
                lazy.select(pl.all().count()).collect(engine="streaming")
        except pl.exceptions.PolarsError:
            lazy = read_table(path).frame.lazy()
            self.num_rows = int(lazy.select(pl.len()).collect().item())
        if not self.num_rows:
            raise InputError(f"{path} holds no rows")
        self._lazy = lazy
        self._whole = self._whole_numbers()

    def part(self, start: int, num_rows: int) -> pl.DataFrame:
        """Return rows as the file holds them, with their number from 1 as the column `ROW`; empty lines are left out.

        Args:
            start: the first row, from 0.
            num_rows: how many at most.
        """
        frame = self._lazy.slice(start, num_rows).collect()
        numbered = frame.with_row_index(ROW, offset=start + 1)
        return numbered.filter(~pl.all_horizontal(pl.col(self.column_names).is_null()))

    def require(self, column: str, why: str) -> None:
        """Refuse the table if a column is not there.

        Raises:
            InputError: naming the column, why it is needed, and the columns there.
        """
        if column not in self.column_names:
            raise InputError(f"{self.name}: no column {column!r} ({why}). Columns there: {listed(self.column_names)}")

    def text(self, frame: pl.DataFrame, column: str) -> pl.Series:
        """Return a column of a part as text, just as `text_of` makes it of the whole column.

        Raises:
            InputError: if it holds nested values.
        """
        text = text_of(frame[column], f"{self.name}, column {column!r}")
        # Whole numbers of a part must not lose the '.0' that they keep beside the fractions of another.
        if column in self._whole and not self._whole[column]:
            return frame[column].fill_nan(None).cast(pl.String)
        return text

    def ids(self, column: str) -> pl.Series:
        """Return a column of ids of the whole table, and see that every row has one of its own.

        Raises:
            InputError: naming the row that has none, or the id that is there twice.
        """
        frame = self._lazy.select(column, pl.all_horizontal(pl.all().is_null()).alias("")).collect()
        ids = self.text(frame, column).str.strip_chars()
        missing = ((ids.is_null() | (ids == "")) & ~frame[""]).arg_true()
        if len(missing):
            raise InputError(f"{self.name}: {ROW} {missing[0] + 1:,} has no {column}")
        ids = ids.drop_nulls()
        if ids.n_unique() < len(ids):
            twice = ids.filter(ids.is_duplicated())[0]
            raise InputError(f"{self.name}: the id {twice!r} stands in more than one row; each item needs a row")
        return ids

    def item_texts(self, frame: pl.DataFrame, template: Template, *, strip_html: bool) -> pl.Series:
        """Return the text of each row of a part: made by the template as training makes it, or the column `text`.

        Args:
            frame: from `part`.
            template: `data.template`; where a column of it is missing, the table must have the column `text`.
            strip_html: `data.cleaning.strip_html`.
        Returns:
            Texts, "" where there is none.
        Raises:
            RecipeError: if there is neither.
        """
        if not set(template.fields) <= set(self.column_names) and "text" in self.column_names:
            return self.text(frame, "text").fill_null("").str.strip_chars()
        template.check(self.column_names, table=f"{self.name} (which has no ready column 'text' either)")
        fields = {name: clean_text(self.text(frame, name), strip_html=strip_html) for name in template.fields}
        return template.render(pl.DataFrame(fields))

    def _whole_numbers(self) -> dict[str, bool]:
        """Return for every column of floats whether all of them are whole."""
        floats = [name for name, dtype in self._lazy.collect_schema().items() if dtype.is_float()]
        if not floats:
            return {}
        numbers = [pl.col(name).fill_nan(None) for name in floats]
        whole = [(number.is_null() | (number == number.round())).all() for number in numbers]
        return dict(zip(floats, self._lazy.select(whole).collect(engine="streaming").row(0), strict=True))


def history_cell(value: object) -> list[str] | None:
    """Return the entries of a history, or of its times or kinds, as a table holds it; None where it is no list.

    Args:
        value: a list, or a text: a JSON list, or entries with commas between them; nothing is an empty list.
    """
    if value is None:
        return []
    if isinstance(value, str):
        return _listed_text(value.strip())
    if not isinstance(value, list) or any(entry is None or isinstance(entry, list | dict) for entry in value):
        return None
    return [re.sub(WHOLE_NUMBER, r"\1", str(entry)) if isinstance(entry, float) else str(entry) for entry in value]


def _listed_text(text: str) -> list[str] | None:
    if not text.startswith("["):
        entries = [entry.strip() for entry in text.split(",")] if text else []
        return None if "" in entries else entries
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return history_cell(value) if isinstance(value, list) else None
