"""The kinds of events: values of a column to weights, and to the codes of the words that a profile's text uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from peftrec.config import InputError, nearest
from peftrec.data.event_kind import EventKind, named_values
from peftrec.data.naming import listed
from peftrec.data.source import WHOLE_NUMBER, DataConfig, RawTables, distinct_words, event_value
from peftrec.data.table import text_of


def event_codes(raw: RawTables, words: Mapping[str, str]) -> pl.Series:
    """The code of each interaction's kind: the place of its word in `distinct_words`.

    Values are compared as text without outer spaces, whole numbers without their '.0': a rating 5 is '5' whether the
    file holds 5, '5' or '5.0'.

    Args:
        raw: the tables; `columns.event` names the column.
        words: the word for each value, of a checked recipe.
    Returns:
        UInt32 codes, one an interaction, none of them null.
    Raises:
        InputError: if the column is missing, or a row holds no value or one without a word.
    """
    table, column = raw.interactions, raw.columns.event
    name = f"{table.name}, column {column!r}"
    values = table.column(column, "data.columns.event")
    texts = text_of(values, name)
    code_of_word = {word: code for code, word in enumerate(distinct_words(words))}
    code_of_value = {event_value(value): code_of_word[word.strip()] for value, word in words.items()}
    written = texts.unique()  # few: what is costly is done once for each
    compared = written.str.strip_chars().str.replace(WHOLE_NUMBER, "$1")
    code_of_written = compared.replace_strict(code_of_value, default=None, return_dtype=pl.UInt32)
    codes = texts.replace_strict(written, code_of_written, return_dtype=pl.UInt32)
    unread = codes.is_null().arg_true()
    if len(unread):
        raise InputError(_without_word(name, values, texts, unread, words))
    return codes


def event_weights(raw: RawTables, weights: Mapping[str, float]) -> pl.Series:
    """The weight of each interaction's kind; values are compared as `event_codes` compares them.

    Args:
        raw: the tables; `columns.event` names the column.
        weights: the weight of each value, of a checked recipe.
    Returns:
        Float64, one an interaction, none of them null.
    Raises:
        InputError: if the column is missing, or holds values without a weight, which it lists with their counts.
    """
    table, column = raw.interactions, raw.columns.event
    name = f"{table.name}, column {column!r}"
    texts = text_of(table.column(column, "data.columns.event"), name)
    compared = texts.fill_null("").str.strip_chars().str.replace(WHOLE_NUMBER, "$1")
    weight_of_value = {event_value(value): float(weight) for value, weight in weights.items()}
    found = compared.replace_strict(weight_of_value, default=None, return_dtype=pl.Float64)
    if found.null_count():
        unknown = compared.filter(found.is_null()).value_counts(sort=True, name="rows").rows()
        raise InputError(_without_weight(name, unknown, weights))
    return found


def event_places(raw: RawTables, values: Sequence[str]) -> pl.Series:
    """The place of each interaction's kind among some values, compared as `event_codes` compares them.

    Args:
        raw: the tables; `columns.event` names the column.
        values: all that the column holds.
    Returns:
        UInt32, one an interaction.
    """
    table, column = raw.interactions, raw.columns.event
    texts = text_of(table.column(column, "data.columns.event"), f"{table.name}, column {column!r}")
    written = texts.unique()  # few: what is costly is done once for each
    compared = written.str.strip_chars().str.replace(WHOLE_NUMBER, "$1")
    place_of_value = {event_value(value): place for place, value in enumerate(values)}
    places = compared.replace_strict(place_of_value, return_dtype=pl.UInt32)
    return texts.replace_strict(written, places, return_dtype=pl.UInt32)


def count_kinds(config: DataConfig, read: pl.DataFrame, kept: pl.DataFrame) -> tuple[EventKind, ...]:
    """How many interactions there are of each kind that the recipe names, in its order.

    Args:
        config: the recipe's `data` section.
        read: interactions before cleaning, with the column `kind` where the recipe names kinds.
        kept: those that cleaning has left.
    """
    weights = {event_value(value): float(weight) for value, weight in (config.event_weights or {}).items()}
    words = {event_value(value): word.strip() for value, word in (config.event_words or {}).items()}
    values = named_values(config)
    if not values:
        return ()
    counts = [np.bincount(frame["kind"].to_numpy(), minlength=len(values)) for frame in (read, kept)]
    return tuple(
        EventKind(value, words.get(event_value(value)), weights.get(event_value(value)), int(before), int(after))
        for value, before, after in zip(values, *counts, strict=True)
    )


def _without_weight(name: str, unknown: Sequence[tuple[str, int]], weights: Mapping[str, float]) -> str:
    shown = [f"{value!r} ({rows:,} rows)" if value else f"no value ({rows:,} rows)" for value, rows in unknown]
    named = [nearest(value, weights) for value, _ in unknown if value]
    hint = named[0] if len(unknown) == 1 and named else ""
    return (
        f"{name}: holds events for which data.event_weights has no weight: {listed(shown)}.{hint} Values with a "
        f"weight: {listed(tuple(weights))}; 0 drops an event"
    )


def _without_word(name: str, values: pl.Series, texts: pl.Series, rows: pl.Series, words: Mapping[str, str]) -> str:
    first = int(rows[0])
    text = (texts[first] or "").strip()
    more = f"; {len(rows) - 1:,} more rows have no word either" if len(rows) > 1 else ""
    known = f"Values with a word: {listed(tuple(words))}"
    if not text:
        return (
            f"{name}: data row {first + 1:,} holds no value ({values[first]!r}){more}; data.event_words needs one in "
            f"every row. {known}"
        )
    return (
        f"{name}: data row {first + 1:,} holds {text!r}, for which data.event_words has no word{more}."
        f"{nearest(text, words)} {known}"
    )
