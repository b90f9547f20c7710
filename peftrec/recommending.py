"""`recommend_file(run, histories, output)`: lists for a table of users, in constant memory."""

from __future__ import annotations

import bisect
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError, RecipeError, nearest
from peftrec.data import Columns
from peftrec.data.naming import listed
from peftrec.launch import Ranks, all_or_none
from peftrec.publishing.list_files import SUFFIXES, ListParts
from peftrec.recommender import Recommender

if TYPE_CHECKING:
    import polars as pl

    from peftrec.data.table_part import TableParts

# What a table may hold beside users and histories, each handed on under this name: lists, and what says nothing.
_TOLD = {"events": "event", "times": "time"}
_NOTHING: Final[dict[str, Any]] = {"events": [], "times": [], "attributes": ""}
_USERS_A_PART = 8192


def recommend_file(
    recommender: Recommender | str | Path,
    histories: str | Path,
    output: str | Path,
    k: int = 10,
    *,
    exclude_history: bool = True,
    overwrite: bool = False,
    report: Callable[[str], None] | None = None,
    ranks: Ranks | None = None,
) -> dict[str, int]:
    """Write the k best items for every user of a table; memory grows with neither users nor items.

    The file is written aside and takes its name when it is whole. It has a row an entry: `user_id`, `rank`, `score`,
    `item_id`, `title`; users in the order of the table. Several processes take turns with the parts of the table; the
    first sees that all users are there, each once and with a whole list, and makes one file of their parts.

    Args:
        recommender: or its run folder.
        histories: CSV, TSV, Parquet or JSON Lines with a column of users (as the run's data call it, `user_id` by
            default) and the column `history`: item ids, oldest first, as a list, or as text with commas between them.
            Where the run reads them, also `events` and `times` (as `history`), `attributes` (a text), and the columns
            of `data.user_attributes` under their own names.
        output: .parquet or .jsonl.
        k: length of the lists, as in `Recommender.recommend`.
        exclude_history: leave items of the history out.
        overwrite: replace `output` where it is there.
        report: is handed one line at a time on what goes on, in the first process; None is silent.
        ranks: processes that share the users, called alike on each (`peftrec.launch.launched()`), with one folder for
            the output; None for this one alone.
    Returns:
        Counts: `users`, `rows`, and `without_history`, the users who get the most popular items unless their attributes
        are known.
    Raises:
        RecipeError: if `output` has another suffix, or is there.
        InputError: naming the column or row of the table that is wrong; a column that nothing reads is. Also if
            another process has failed, or their parts are not those of the table.
    """
    from peftrec.data.table_part import TableParts  # loads polars

    ranks, path = Ranks() if ranks is None else ranks, Path(output)
    with all_or_none(ranks):
        _check_output(path, k, overwrite=overwrite)
        table = TableParts(Path(histories))
        if not isinstance(recommender, Recommender):
            recommender = Recommender.from_pretrained(recommender)
        user_column, of_users = _columns(table, recommender)
    job = _Job(recommender, table, ListParts(path), user_column, of_users, k, exclude_history)
    try:
        with all_or_none(ranks):
            if ranks.is_first:
                job.output.begin()
        counts, told = job.write(ranks, report if report is not None and ranks.is_first else lambda _: None)
        with all_or_none(ranks):
            if ranks.is_first:
                if not ranks.alone:
                    job.check(told)
                job.output.finish(job.num_parts)
    finally:
        if ranks.is_first:
            job.output.remove()
    return counts


def _check_output(path: Path, k: int, *, overwrite: bool) -> None:
    """Refuse what cannot be written, before anything is read."""
    if not path.name.endswith(SUFFIXES):
        raise RecipeError(f"{path}: the name must end in one of {', '.join(SUFFIXES)}")
    if path.exists() and not overwrite:
        raise RecipeError(f"{path} is there already; choose another name, or pass --overwrite to replace it")
    if not path.parent.is_dir():
        raise RecipeError(f"{path.parent}: there is no such folder")
    if k < 1:
        raise InputError(f"k is {k}; a list has at least 1 item")


@dataclasses.dataclass(frozen=True)
class _Job:
    """A table of users, what makes their lists, and where these go."""

    recommender: Recommender
    table: TableParts
    output: ListParts
    user_column: str
    of_users: list[str]
    k: int
    exclude_history: bool

    @property
    def num_parts(self) -> int:
        return -(-self.table.num_rows // _USERS_A_PART)

    def part(self, number: int) -> pl.DataFrame:
        return self.table.part(number * _USERS_A_PART, _USERS_A_PART)

    def write(self, ranks: Ranks, say: Callable[[str], None]) -> tuple[dict[str, int], NDArray[np.int64]]:
        """Write the parts, a turn of all processes at a time.

        Returns:
            What is counted over all of them, and of each part that a process wrote its number, users, users with a list
            that is not empty, and rows.
        """
        began, counts, own = time.perf_counter(), {"users": 0, "rows": 0, "without_history": 0}, []
        for start in range(0, self.num_parts, ranks.count):
            number, written, without_history = start + ranks.index, [0, 0, 0], 0
            with all_or_none(ranks):
                if number < self.num_parts:
                    written, without_history = self._write_part(number)
                    own.append([number, *written])
            more = ranks.total([float(count) for count in (written[0], written[2], without_history)])
            counts = {name: count + int(new) for (name, count), new in zip(counts.items(), more, strict=True)}
            say(f"{counts['users']:,} of {self.table.num_rows:,} users, {time.perf_counter() - began:,.0f} s")
        return counts, ranks.joined(np.array(own, dtype=np.int64).reshape(-1, 4))

    def check(self, told: NDArray[np.int64]) -> None:
        """See that the parts are those of the table: each once, and in it the lists of its users.

        Raises:
            InputError: if they are not.
        """
        told = told[np.argsort(told[:, 0], kind="stable")]
        if not np.array_equal(told[:, 0], np.arange(self.num_parts)):
            raise InputError(
                f"{self.output.path}: processes wrote {len(told):,} parts where {self.table.name} has "
                f"{self.num_parts:,}, each to be written once; all processes must read the same table"
            )
        for number, num_users, num_lists, num_rows in told.tolist():
            users = self.table.text(self.part(number), self.user_column).to_list()
            if len(users) != num_users:
                raise InputError(
                    f"{self.output.path}: part {number} was made of {num_users:,} users, but {self.table.name} has "
                    f"{len(users):,} there; all processes must read the same table"
                )
            self.output.check(number, users, num_lists, num_rows)

    def _write_part(self, number: int) -> tuple[list[int], int]:
        """Write a part; return its users, its lists that are not empty, its rows, and users without history."""
        frame = self.part(number)
        users, told = _read(self.table, frame, self.user_column, self.of_users)
        try:
            lists = self.recommender.recommend_batch(
                told["history"], self.k, exclude_history=self.exclude_history, **_rest(told)
            )
        except InputError as error:
            raise _of_row(error, self.table, frame, told, self.recommender) from None
        num_rows = self.output.write(number, users, lists)
        return [len(users), sum(map(bool, lists)), num_rows], sum(not history for history in told["history"])


def _columns(table: TableParts, recommender: Recommender) -> tuple[str, list[str]]:
    """Return what the column of users is called, and the columns there of their attributes.

    Raises:
        InputError: if a column is missing, or is there and not read.
    """
    columns = getattr(recommender.recipe.data, "columns", None)
    user_column = columns.user if isinstance(columns, Columns) else Columns().user
    table.require(user_column, "data.columns.user of the run")
    table.require("history", "item ids, oldest first")
    attributes = recommender.recipe.data.user_attributes or {}
    known = (user_column, "history", *_NOTHING, *attributes)
    unread = next((name for name in table.column_names if name not in known), None)
    if unread is not None:
        raise InputError(
            f"{table.name}: nothing reads the column {unread!r}.{nearest(unread, known)} Leave it out; there may be "
            f"{listed(known)}"
        )
    try:
        # What the run does not read it refuses of a user of whom nothing is known, too.
        recommender.asked([[]], **{name: [nothing] for name, nothing in _NOTHING.items() if name in table.column_names})
    except InputError as error:
        raise InputError(f"{table.name}: {error}") from None
    return user_column, [name for name in attributes if name in table.column_names]


def _read(
    table: TableParts, frame: pl.DataFrame, user_column: str, of_users: list[str]
) -> tuple[list[str], dict[str, list[Any]]]:
    """Return the users of a part, and by column what is known of them, each row with as much as its history has."""
    from peftrec.data.table_part import ROW, history_cell

    rows, users = frame[ROW].to_list(), table.text(frame, user_column).to_list()
    told: dict[str, list[Any]] = {}
    for column in ("history", *_TOLD):
        if column in frame.columns:
            told[column] = []
            for row, value in zip(rows, frame[column].to_list(), strict=True):
                entries = history_cell(value)
                if entries is None:
                    raise InputError(f"{table.name}: {ROW} {row:,}: {column} is no list: {str(value)[:60]!r}")
                told[column].append(entries)
    for number, row in enumerate(rows):
        if users[number] is None or not users[number].strip():
            raise InputError(f"{table.name}: {ROW} {row:,} has no {user_column}")
        history = told["history"][number]
        for column, what in _TOLD.items():
            if column in told and len(told[column][number]) != len(history):
                wrong = f"{len(told[column][number])} {column} for {len(history)} items"
                raise InputError(f"{table.name}: {ROW} {row:,}: {wrong}; each item has one {what}")
    if "attributes" in frame.columns:
        told["attributes"] = table.text(frame, "attributes").fill_null("").to_list()
    if of_users:
        told["user_attributes"] = frame.select(of_users).to_dicts()
    return users, told


def _rest(told: dict[str, list[Any]]) -> dict[str, Any]:
    return {name: values for name, values in told.items() if name != "history"}


def _of_row(
    error: InputError, table: TableParts, frame: pl.DataFrame, told: dict[str, list[Any]], recommender: Recommender
) -> InputError:
    """Return an error of a part of the table in words of its first row that is wrong, alone or beside those before."""
    from peftrec.data.table_part import ROW

    def refused(part: slice) -> InputError | None:
        try:
            recommender.asked(told["history"][part], **{name: values[part] for name, values in _rest(told).items()})
        except InputError as found:
            return found
        return None

    number = bisect.bisect_left(range(len(frame)), 1, key=lambda last: refused(slice(last + 1)) is not None)
    if number == len(frame):
        return error  # of scores, not of what the table holds
    found = refused(slice(number, number + 1)) or refused(slice(number + 1))
    return InputError(f"{table.name}: {ROW} {frame[ROW][number]:,}: {found}")
