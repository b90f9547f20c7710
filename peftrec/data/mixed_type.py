"""Columns whose values differ in type from row to row, and what the report says of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from peftrec.data.report import CleaningRow

if TYPE_CHECKING:
    from peftrec.data.source import RawTables

_LOOKS_LIKE_JSON = r"^(-?\d|true$|false$|[\[{])"  # how JSON that is no text begins, as polars writes it
_SHOWN = 3  # different values in a note
_SHOWN_CHARACTERS = 20


def mixed_rows(raw: RawTables) -> tuple[CleaningRow, ...]:
    """Rows of the report on the columns of which a source says that their types differ.

    Args:
        raw: the tables as the source found them.
    Returns:
        A row a column, which removes nothing.
    """
    tables = {"interactions": raw.interactions, "items": raw.items, "users": raw.users}
    return tuple(
        CleaningRow("mixed types", subject, 0, table.frame.height, note)
        for subject, table in tables.items()
        if table is not None
        for note in table.mixed
    )


def mixed_json_columns(path: Path, frame: pl.DataFrame) -> tuple[str, ...]:
    """What to say of the columns of a file of JSON Lines that hold texts in some rows and other values in others.

    The file is looked at again only where a column of texts holds what might be a number, a truth value, a list or an
    object in the file; lines in which it is none of them are passed over without being parsed.

    Args:
        path: the file, readable, gzip-compressed where its name ends in .gz.
        frame: what was read of it: a column whose types differ is text.
    Returns:
        A note a column, in the order of the frame.
    """
    texts = [name for name in frame.columns if frame[name].dtype == pl.String]
    suspected = [name for name in texts if frame[name].str.contains(_LOOKS_LIKE_JSON).any()]
    others = _other_values(path, suspected) if suspected else {}
    return tuple(mixed_note(name, len(frame[name]) - frame[name].null_count(), others[name]) for name in others)


def mixed_note(column: str, num_values: int, others: Sequence[str]) -> str:
    """What the report says of such a column.

    Args:
        column: its name.
        num_values: how many rows hold a value.
        others: the values that are no text, as the file writes them.
    """
    different = list(dict.fromkeys(_cut(value) for value in others))
    shown = ", ".join([*different[:_SHOWN], *(["…"] if len(different) > _SHOWN else [])])
    are = "value is" if num_values == 1 else "values is" if len(others) == 1 else "values are"
    read = "is read" if len(others) == 1 else "are read"
    return f"column {column!r}: {len(others):,} of {num_values:,} {are} no text ({shown}) and {read} as text"


def _other_values(path: Path, columns: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """By column that has any: its values that are neither text nor null, as JSON, in the order of the file."""
    found: dict[str, list[str]] = {column: [] for column in columns}
    for line in _lines_with_other_values(path, columns):
        try:
            entry = json.loads(line)
        except ValueError:  # a parser more lenient than Python's has read it
            continue
        for column in columns:
            value = entry.get(column)
            if value is not None and not isinstance(value, str):
                found[column].append(json.dumps(value, ensure_ascii=False))
    return {column: values for column, values in found.items() if values}


def _lines_with_other_values(path: Path, columns: Sequence[str]) -> Iterator[str]:
    """The lines in which one of these keys stands before anything but a text or null, at any depth."""
    keys = "|".join(_pattern(key) for key in _written(columns))
    # One column a line: what separates columns here is a character that JSON does not allow.
    lines = pl.scan_csv(
        path, separator="\x1f", quote_char=None, has_header=False, new_columns=["line"], infer_schema=False, glob=False
    )
    matching = lines.filter(pl.col("line").str.contains(rf'(?:{keys})\s*:\s*[^"\sn]'))
    yield from matching.collect()["line"]


def _written(keys: Iterable[str]) -> Sequence[str]:
    """Keys in quotes, as JSON writes them: characters beyond ASCII as they are, or escaped."""
    return tuple(dict.fromkeys(json.dumps(key, ensure_ascii=escaped) for key in keys for escaped in (True, False)))


def _pattern(text: str) -> str:
    return "".join(letter if letter.isalnum() else f"\\x{{{ord(letter):x}}}" for letter in text)


def _cut(value: str) -> str:
    return value if len(value) <= _SHOWN_CHARACTERS else f"{value[:_SHOWN_CHARACTERS]}…"
