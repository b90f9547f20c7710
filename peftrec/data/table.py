"""Reading one table from CSV, TSV, Parquet or JSON Lines, with errors that name the file and the place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from peftrec.config import InputError, RecipeError, nearest
from peftrec.data.json_lines import bad_json_line, json_line_keys, read_json_lines
from peftrec.data.mixed_type import mixed_json_columns
from peftrec.data.naming import listed
from peftrec.data.text_file import require_file, require_utf8

_DELIMITED = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}
_JSON_LINES = (".jsonl", ".jsonl.gz")
SUFFIXES = (*_DELIMITED, ".parquet", *_JSON_LINES)


@dataclass(frozen=True, eq=False)
class RawTable:
    """A table as it was found: the columns that were asked for, and the names of all that are there.

    `name` stands for the table in messages (its full path). Columns hold whatever type the file gave them. `mixed` says
    for the report which of them hold values of several types, that were made text.
    """

    name: str
    frame: pl.DataFrame
    column_names: tuple[str, ...]
    mixed: tuple[str, ...] = ()

    def column(self, column: str, key: str) -> pl.Series:
        """One column, or an error that lists the columns that are there.

        Args:
            column: the column's name in the file.
            key: the recipe's key that named it, for the message.
        Raises:
            InputError: if the table has no such column.
        """
        if column not in self.frame.columns:
            hint = nearest(column, self.column_names)
            there = listed(self.column_names)
            raise InputError(f"{self.name}: no column {column!r} (named by {key}).{hint} Columns there: {there}")
        return self.frame[column]


def resolve_path(path: str, root: str) -> Path:
    """The path of a data file: absolute as it is, anything else under `root`; `~` is the home folder."""
    return (Path(root).expanduser() / Path(path).expanduser()).resolve()


def read_table(path: Path, columns: Sequence[str] | None = None, *, origin: str = "") -> RawTable:
    """Reads a table by the suffix of its name: .csv .tsv .jsonl (each with .gz too) .parquet.

    Every CSV and TSV value is read as text, so that an id '0012' stays one; an empty field is null. In JSON Lines a
    column whose types differ from line to line becomes text.

    Args:
        path: the file.
        columns: the columns to load, where there; None loads all of them. `column_names` lists all in any case.
        origin: how the recipe came to this path, appended to the message when the file is missing.
    Returns:
        The table; columns that are not there are left out (asking for one raises, see `RawTable.column`).
    Raises:
        RecipeError: if the suffix is none of those.
        InputError: if the file is missing, a folder, empty, not UTF-8 or not what its suffix says.
    """
    suffix = _suffix_of(path)
    require_file(path, origin)
    try:
        if suffix != ".parquet":
            require_utf8(path)
        lazy = _scan(path, suffix)
        names = tuple(lazy.collect_schema().names())
        wanted = list(names) if columns is None else [name for name in dict.fromkeys(columns) if name in names]
        frame = _collect(lazy.select(wanted or list(names[:1])), path, suffix)
    except (pl.exceptions.PolarsError, OSError) as error:
        place = bad_json_line(path) if suffix in _JSON_LINES else None
        raise InputError(f"{path} cannot be read as {suffix}: {place or _first_line(error)}") from error
    if suffix in _DELIMITED:  # an empty line is read as a row without values
        frame = frame.filter(~pl.all_horizontal(pl.all().is_null())) if frame.width > 1 else frame
    if frame.is_empty():
        raise InputError(f"{path} holds no rows")
    return RawTable(str(path), frame, names, mixed_json_columns(path, frame) if suffix in _JSON_LINES else ())


def scan_table(path: Path) -> pl.LazyFrame:
    """A table of which nothing is loaded yet; every CSV and TSV value is text.

    Args:
        path: the file, as in `read_table`.
    Raises:
        RecipeError: if the suffix is none of those that tables have.
        InputError: if the file is missing, a folder, empty, not UTF-8 or not what its suffix says.
    """
    suffix = _suffix_of(path)
    require_file(path)
    try:
        if suffix != ".parquet":
            require_utf8(path)
        lazy = _scan(path, suffix)
        lazy.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        place = bad_json_line(path) if suffix in _JSON_LINES else None
        raise InputError(f"{path} cannot be read as {suffix}: {place or _first_line(error)}") from error
    return lazy


def text_of(values: pl.Series, name: str) -> pl.Series:
    """A column as text, as it would be written in a CSV file.

    Whole numbers stored as floats lose their '.0' (ids beside a missing value become floats in many tools), lists
    become 'a, b'; null stays null.

    Args:
        values: a column of any flat type, or of lists of one.
        name: the table and column, for the message.
    Raises:
        InputError: if the column holds structs or other nested values.
    """
    if values.dtype == pl.String:
        return values
    if values.dtype.is_float():
        finite = values.fill_nan(None)
        whole = finite.cast(pl.Int64, strict=False)
        if (whole.cast(values.dtype) == finite).fill_null(True).all():
            return whole.cast(pl.String)
        return finite.cast(pl.String)
    if isinstance(values.dtype, pl.List | pl.Array) and not values.dtype.inner.is_nested():
        return values.cast(pl.List(pl.String)).list.join(", ", ignore_nulls=True)
    if values.dtype.is_nested() or values.dtype in (pl.Object, pl.Binary):
        raise InputError(f"{name} holds {values.dtype} values; flatten it to text first")
    return values.cast(pl.String)


def ids_of(values: pl.Series, name: str) -> pl.Series:
    """A column of ids as text without outer spaces; null where nothing is left.

    Args:
        values: as in `text_of`.
        name: the table and column, for the message.
    Raises:
        InputError: see `text_of`.
    """
    text = text_of(values, name).str.strip_chars()
    return text.set(text == "", None)


def _suffix_of(path: Path) -> str:
    name = path.name.lower()
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.endswith(suffix):
            return suffix
    raise RecipeError(f"{path}: a table's name must end in one of {', '.join(SUFFIXES)}")


def _scan(path: Path, suffix: str) -> pl.LazyFrame:
    if suffix == ".parquet":
        return pl.scan_parquet(path, glob=False)
    if suffix in _JSON_LINES:
        return _scan_json_lines(path)
    return pl.scan_csv(path, separator=_DELIMITED[suffix], infer_schema=False, glob=False)


def _scan_json_lines(path: Path) -> pl.LazyFrame:
    """All columns, as text where the parser knows no type for all values of one, as for 7 and [7]."""
    lazy = pl.scan_ndjson(path, infer_schema_length=None)
    try:
        lazy.collect_schema()
    except pl.exceptions.PolarsError:
        if bad_json_line(path) is not None:
            raise
        return pl.concat(read_json_lines(path, json_line_keys(path))).lazy()
    return lazy


def _collect(lazy: pl.LazyFrame, path: Path, suffix: str) -> pl.DataFrame:
    """Reads the columns; in JSON Lines as text where the parser knows no type for all values, as for 7 and true."""
    try:
        return lazy.collect()
    except pl.exceptions.PolarsError:
        if suffix not in _JSON_LINES or bad_json_line(path) is not None:
            raise
    columns = []
    for name, dtype in lazy.collect_schema().items():
        try:
            columns.append(pl.scan_ndjson(path, schema={name: dtype}).collect())
        except pl.exceptions.PolarsError:
            columns.append(pl.concat(read_json_lines(path, (name,))))
    return pl.concat(columns, how="horizontal")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
