"""JSON Lines into columns of text, a part of the file at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from peftrec.config import InputError
from peftrec.data.text_file import Lines, read_lines

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SHOWN = 60  # characters of a bad line in its message


def read_json_lines(path: Path, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Some columns of a file of JSON objects, one a line, a part of the file at a time.

    Every value comes as text, so that a column whose types differ from line to line stays one column: a text as it is,
    any other value as its JSON (`12`, `["a", "b"]`). A line without the key, or with null, gives null; empty lines
    give nothing.

    Args:
        path: the file, gzip-compressed where its name ends in .gz.
        columns: the keys to read; at least one.
    Returns:
        Frames of these columns, all text, in the order of the file.
    Raises:
        InputError: if a line is no JSON object or not UTF-8, or a gzip file is cut off; it names file and line.
    """
    for lines in read_lines(path):
        content = lines.content.removeprefix(_BYTE_ORDER_MARK) if lines.first == 1 else lines.content
        frame = _parse(content, columns)
        if frame is None:
            raise InputError(f"{path}: {_bad_line(content, lines)}")
        yield frame


def bad_json_line(path: Path) -> str | None:
    """Which line of a file is no JSON object, in words; None where all are.

    Args:
        path: the file, gzip-compressed where its name ends in .gz.
    """
    for lines in read_lines(path):
        if _parse(lines.content, ("",)) is None:
            return _bad_line(lines.content, lines)
    return None


def json_line_keys(path: Path) -> tuple[str, ...]:
    """The keys of a file of JSON objects, in the order of their first line.

    Args:
        path: the file, readable, gzip-compressed where its name ends in .gz.
    """
    rows = (row for lines in read_lines(path) for row in lines.content.removeprefix(_BYTE_ORDER_MARK).split(b"\n"))
    return tuple(dict.fromkeys(key for row in rows if row.strip() for key in json.loads(row)))


def _parse(content: bytes, columns: Sequence[str]) -> pl.DataFrame | None:
    """None where the parser refuses a line."""
    schema = dict.fromkeys(columns, pl.String())
    if not content.strip():
        return pl.DataFrame(schema=schema)
    try:
        return pl.read_ndjson(content, schema=schema)
    except pl.exceptions.PolarsError:
        return None


def _bad_line(content: bytes, lines: Lines) -> str:
    """Halves the lines until one is left: what the parser says of the whole names no line."""
    rows = content.split(b"\n")
    low, high = 0, len(rows)  # the first bad line is one of low..high-1
    while high - low > 1:
        middle = (low + high) // 2
        if _parse(b"\n".join(rows[low:middle]), ("",)) is None:
            high = middle
        else:
            low = middle
    return f"line {lines.first + low:,} is no JSON object: {shown(rows[low])}"


def shown(line: bytes) -> str:
    """The beginning of a line, for a message."""
    text = line.decode("utf-8").strip()
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
