"""Files of values between separators, without quotes: GroupLens' own, and RecBole's atomic files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from peftrec.config import InputError
from peftrec.data.naming import listed
from peftrec.data.table import RawTable
from peftrec.data.text_file import read_text, require_file

ATOMIC_TYPES = ("token", "token_seq", "float", "float_seq")


def read_separated(path: Path, separator: str, names: Sequence[str]) -> pl.DataFrame:
    """A file without header or quotes as columns of text.

    Args:
        path: the file, UTF-8 or Latin-1.
        separator: what stands between two values; where it is longer than a character, values hold no tab.
        names: what the columns are called, in the order of the file.
    Raises:
        InputError: if the file is missing, empty, or has another number of columns.
    """
    require_file(path)
    content = read_text(path)
    if len(separator) > 1:  # the parser takes one character
        content, separator = content.replace(separator, "\t"), "\t"
    return _parse(path, content, separator, names, skip=0)


def read_atomic(path: Path, *, separator: str = "\t", seq_separator: str = " ") -> RawTable:
    """A RecBole atomic file: a header of `name:type`, then one row a line without quotes.

    Types are token (an id or a word), token_seq (several of them), float and float_seq. All columns come as text, the
    parts of a sequence joined with spaces where `seq_separator` is one, else with ', '.

    Args:
        path: the file.
        separator: RecBole's `field_separator`.
        seq_separator: RecBole's `seq_separator`.
    Raises:
        InputError: if the file is missing, its header is no such one, it holds no rows, or a float column a value that
            is no number; it names the line.
    """
    require_file(path)
    content = read_text(path)
    header, _, _ = content.partition("\n")
    header = header.rstrip("\r")
    fields = [tuple(field.rpartition(":")[::2]) for field in header.split(separator)]
    if not all(name for name, _ in fields):
        raise InputError(f"{path}: a RecBole header looks like 'user_id:token', got {header.split(separator)[0]!r}")
    for name, kind in fields:
        if kind not in ATOMIC_TYPES:
            raise InputError(f"{path}: column {name!r} has the type {kind!r}; one of: {', '.join(ATOMIC_TYPES)}")
    names = [name for name, _ in fields]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path}: the header names {listed(twice)} more than once")
    frame = _parse(path, content, separator, names, skip=1)
    for name, kind in fields:
        _refuse_other_types(path, frame[name], kind, seq_separator)
    if seq_separator != " ":
        sequences = [name for name, kind in fields if kind.endswith("_seq")]
        frame = frame.with_columns(pl.col(sequences).str.replace_all(seq_separator, ", ", literal=True))
    return RawTable(str(path), frame, tuple(names))


def _parse(path: Path, content: str, separator: str, names: Sequence[str], *, skip: int) -> pl.DataFrame:
    if not content.strip():
        raise InputError(f"{path} is empty")
    try:
        frame = pl.read_csv(
            content.encode("utf-8"),
            separator=separator,
            has_header=False,
            quote_char=None,
            infer_schema=False,
            skip_rows=skip,
        )
    except pl.exceptions.NoDataError:
        raise InputError(f"{path} holds no rows") from None
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if frame.width != len(names):
        raise InputError(f"{path}: expected {len(names)} columns ({', '.join(names[:4])}, …), found {frame.width}")
    frame.columns = list(names)
    return frame


def _refuse_other_types(path: Path, values: pl.Series, kind: str, seq_separator: str) -> None:
    if kind == "float":
        bad = values.is_not_null() & values.str.strip_chars().cast(pl.Float64, strict=False).is_null()
    elif kind == "float_seq":
        numbers = values.str.split(seq_separator).list.eval(pl.element().cast(pl.Float64, strict=False))
        bad = values.is_not_null() & numbers.list.eval(pl.element().is_null()).list.any()
    else:
        return
    rows = bad.arg_true()
    if len(rows):
        row = int(rows[0])
        raise InputError(
            f"{path}: line {row + 2:,}, column {values.name!r}: {values[row]!r} is no {kind}, which the header "
            f"declares; {len(rows):,} such rows in all"
        )
