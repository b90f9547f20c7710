"""`recommend_file(run, histories, output)`: lists for a table of users, in constant memory."""

from __future__ import annotations

import bisect
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from peftrec.config import InputError, RecipeError, nearest
from peftrec.data import Columns
from peftrec.data.naming import listed
from peftrec.recommender import Recommender

if TYPE_CHECKING:
    import polars as pl

    from peftrec.data.table_part import TableParts

OUTPUTS: Final = (".parquet", ".jsonl")
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
) -> dict[str, int]:
    """Write the k best items for every user of a table; memory grows with neither users nor items.

    The file is written aside and takes its name when it is whole. It has a row an entry: `user_id`, `rank`, `score`,
    `item_id`, `title`; users in the order of the table.

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
        report: is handed one line at a time on what goes on; None is silent.
    Returns:
        Counts: `users`, `rows`, and `without_history`, the users who get the most popular items unless their attributes
        are known.
    Raises:
        RecipeError: if `output` has another suffix, or is there.
        InputError: naming the column or row of the table that is wrong; a column that nothing reads is.
    """
    from peftrec.data.table_part import TableParts  # loads polars

    path, say = Path(output), report or (lambda _: None)
    suffix = next((end for end in OUTPUTS if path.name.endswith(end)), None)
    if suffix is None:
        raise RecipeError(f"{path}: the name must end in one of {', '.join(OUTPUTS)}")
    if path.exists() and not overwrite:
        raise RecipeError(f"{path} is there already; choose another name, or pass --overwrite to replace it")
    if not path.parent.is_dir():
        raise RecipeError(f"{path.parent}: there is no such folder")
    if k < 1:
        raise InputError(f"k is {k}; a list has at least 1 item")
    table = TableParts(Path(histories))
    if not isinstance(recommender, Recommender):
        recommender = Recommender.from_pretrained(recommender)
    user_column, of_users = _columns(table, recommender)
    partial = path.with_name(path.name + ".partial")
    _remove(partial)
    writer = _ParquetRows(partial) if suffix == ".parquet" else _JsonRows(partial)
    counts = {"users": 0, "rows": 0, "without_history": 0}
    began = time.perf_counter()
    try:
        for frame in table.parts(_USERS_A_PART):
            users, told = _read(table, frame, user_column, of_users)
            try:
                lists = recommender.recommend_batch(told["history"], k, exclude_history=exclude_history, **_rest(told))
            except InputError as error:
                raise _of_row(error, table, frame, told, recommender) from None
            counts["users"] += len(users)
            counts["without_history"] += sum(not history for history in told["history"])
            counts["rows"] += writer.add(users, lists)
            say(f"{counts['users']:,} of {table.num_rows:,} users, {time.perf_counter() - began:,.0f} s")
        writer.finish(path)
    finally:
        _remove(partial)
    return counts


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


def _rest(told: dict[str, list[Any]]) -> dict[str, list[Any]]:
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


class _ParquetRows:
    """Rows as Parquet: a file a part, made one at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._num_parts = folder, 0
        folder.mkdir()

    def add(self, users: list[str], lists: list[Any]) -> int:
        import polars as pl

        rows = list(_rows(users, lists))
        schema = {"user_id": pl.String, "rank": pl.Int32, "score": pl.Float32, "item_id": pl.String, "title": pl.String}
        frame = pl.DataFrame(rows, schema=schema, orient="row")
        frame.write_parquet(self._folder / f"{self._num_parts:06d}.parquet")
        self._num_parts += 1
        return len(rows)

    def finish(self, path: Path) -> None:
        import polars as pl

        parts = [self._folder / f"{number:06d}.parquet" for number in range(self._num_parts)]
        whole = self._folder / "whole"
        pl.scan_parquet(parts).sink_parquet(whole, maintain_order=True)
        whole.replace(path)


class _JsonRows:
    """Rows as JSON Lines."""

    def __init__(self, partial: Path) -> None:
        self._partial = partial

    def add(self, users: list[str], lists: list[Any]) -> int:
        names, count = ("user_id", "rank", "score", "item_id", "title"), 0
        with self._partial.open("a", encoding="utf-8") as file:
            for row in _rows(users, lists):
                file.write(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False, allow_nan=False) + "\n")
                count += 1
        return count

    def finish(self, path: Path) -> None:
        self._partial.replace(path)


def _rows(users: list[str], lists: list[Any]) -> Iterator[tuple[str, int, float, str, str]]:
    for user, found in zip(users, lists, strict=True):
        for entry in found:
            yield user, entry.rank, entry.score, entry.item_id, entry.title


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
