"""Histories that people give by hand, as the arrays that models read.

Shapes: B histories, L events of the longest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data.source import distinct_words

Moment = int | float | str | datetime

_EMPTY_TIME = "times: an empty one is no time; there must be one time for each item of each history"


def event_kinds(
    words: Mapping[str, str], histories: Sequence[Sequence[str | int]], events: Sequence[Sequence[str]]
) -> NDArray[np.int64]:
    """The codes of kinds of events, laid out as `right_aligned` lays out histories.

    Args:
        words: `data.event_words`.
        histories: item ids.
        events: one kind for each item of each history, as in the data.
    Raises:
        InputError: if there is not one for each item, or a kind is unknown.
    """
    if [len(row) for row in events] != [len(history) for history in histories]:
        raise InputError("events: there must be one kind for each item of each history")
    unknown = next((kind for row in events for kind in row if kind not in words), None)
    if unknown is not None:
        raise InputError(f"events: '{unknown}' is not a kind of event of this run; there are {', '.join(words)}")
    codes = {word: code for code, word in enumerate(distinct_words(words))}
    return right_aligned([[codes[words[kind].strip()] for kind in kinds] for kinds in events])


def event_times(
    histories: Sequence[Sequence[str | int]], times: Sequence[Sequence[Moment]] | None
) -> NDArray[np.int64]:
    """The times of events in milliseconds since 1970, laid out as `right_aligned` lays out histories.

    Args:
        histories: item ids, oldest first.
        times: one for each item of each history, all in one of the forms that a time column may have; None where no
            history has two events, between which time could lie.
    Raises:
        InputError: if times are missing, unreadable, or fall within a history.
    """
    if times is None:
        longest = max(map(len, histories), default=0)
        if longest > 1:
            raise InputError(
                f"this run reads how much time lies between events (user.time_intervals), so a history of {longest} "
                f"items needs its times: one for each item, such as 1714559400 or 2024-05-01T10:30:00Z"
            )
        return right_aligned([[0] * len(history) for history in histories])
    if any(isinstance(row, str) for row in times) or [len(row) for row in times] != [len(one) for one in histories]:
        raise InputError("times: there must be one time for each item of each history")
    flat = [str(moment) for row in times for moment in row]
    if not flat:
        return right_aligned([[] for _ in histories])
    import polars as pl

    from peftrec.data.timestamp import parse_times  # loads polars

    try:
        parsed, _ = parse_times(pl.Series(flat), "times")
    except InputError:
        _refuse_unread(times)
        raise
    if parsed.null_count():
        raise InputError(_EMPTY_TIME)
    ends = np.cumsum([len(row) for row in times])
    rows = np.split(parsed.to_numpy().astype(np.int64), ends[:-1])
    for number, row in enumerate(rows):
        falls = np.flatnonzero(np.diff(row) < 0)
        if len(falls):
            place = int(falls[0])
            raise InputError(
                f"times: histories are oldest first, but {times[number][place + 1]} comes after {times[number][place]}"
            )
    return right_aligned(rows)


def _refuse_unread(times: Sequence[Sequence[Moment]]) -> None:
    """Refuse times that cannot be read together, naming places within one history.

    Raises:
        InputError: of the first history that cannot be read, or whose times have another form than those before it.
    """
    import polars as pl

    from peftrec.data.timestamp import parse_times

    first = None
    for row in filter(len, times):
        parsed, note = parse_times(pl.Series([str(moment) for moment in row]), "times", row="place")
        if parsed.null_count():
            raise InputError(_EMPTY_TIME)
        form = re.split("[,;]", note)[0]
        first = first or (form, row[0])
        if form != first[0]:
            raise InputError(
                f"times: {row[0]} is read as {form}, but {first[1]} of a history before it as {first[0]}; give all "
                f"histories in one form"
            )


def right_aligned(rows: Sequence[Sequence[int] | NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return rows of unequal length as a rectangle, at least one column wide, -1 before each row's beginning."""
    width = max(1, *(len(row) for row in rows)) if len(rows) else 1
    padded = np.full((len(rows), width), -1, dtype=np.int64)
    for number, row in enumerate(rows):
        if len(row):
            padded[number, width - len(row) :] = row
    return padded
