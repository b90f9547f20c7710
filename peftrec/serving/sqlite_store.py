"""Events and changed items in one SQLite file, which several processes may share."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Final

from peftrec.serving.event import Appended, Event, ItemChange, ItemContent, PastEvent
from peftrec.serving.event_store import StoreConflict, StoreCounts, StoreUnavailable, WrittenItem
from peftrec.serving.group_commit import GroupCommit
from peftrec.serving.sqlite_file import connect, prepare

_INSERT: Final = """
INSERT INTO events (event_id, user_id, item_id, kind, given_ms, time_ms) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (event_id) DO NOTHING"""
_STORED: Final = "SELECT user_id, item_id, kind, given_ms FROM events WHERE event_id = ?"
_HISTORY: Final = """
SELECT item_id, kind, time_ms, event_id FROM events WHERE user_id = ? ORDER BY time_ms DESC, arrival DESC LIMIT ?"""
_ITEM: Final = "SELECT number, item_id, content FROM items WHERE item_id = ?"
_CHANGES: Final = "SELECT number, item_id, content FROM items WHERE number > ? ORDER BY number"
_PUT: Final = """
INSERT INTO items (item_id, content, number) VALUES (?, ?, ?)
ON CONFLICT (item_id) DO UPDATE SET content = excluded.content, number = excluded.number"""
_COUNT_UP: Final = "UPDATE facts SET value = value + ? WHERE name = ? RETURNING value"


class SqliteStore:
    """An `EventStore` in one file (and, while it is open, two more beside it).

    Args:
        path: of the file; made where it is not there.
        run: what the service serves; a store belongs to one.
        adopt: let the store belong to this run from now on.
        check: read the whole file and look for damage.
    Raises:
        InputError: if the file is foreign, damaged, of another version or of another run.
    """

    def __init__(self, path: str | Path, run: str, *, adopt: bool = False, check: bool = True) -> None:
        self._path = Path(path)
        prepare(self._path, run, adopt=adopt, check=check)
        self._commits = GroupCommit(connect(self._path))
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []

    def append(self, events: Sequence[Event]) -> Future[Appended]:
        return self._commits.submit(partial(_append, events=events))

    def history(self, user_id: str, limit: int) -> list[PastEvent]:
        rows = self._read(_HISTORY, user_id, limit)
        return [PastEvent(*row) for row in reversed(rows)]

    def delete_user(self, user_id: str) -> Future[int]:
        def write(connection: sqlite3.Connection) -> int:
            count = connection.execute("DELETE FROM events WHERE user_id = ?", (user_id,)).rowcount
            connection.execute(_COUNT_UP, (-count, "events"))
            return count

        return self._commits.submit(write, erases=True)

    def add_items(self, items: Sequence[tuple[str, ItemContent]]) -> Future[list[WrittenItem]]:
        def write(connection: sqlite3.Connection) -> list[WrittenItem]:
            written = [_put(connection, item_id, content, _refuse_live) for item_id, content in items]
            return [dataclasses.replace(one, is_new=one.before is None) for one in written]

        return self._commits.submit(write)

    def update_item(self, item_id: str, content: ItemContent) -> Future[WrittenItem]:
        def write(connection: sqlite3.Connection) -> WrittenItem:
            whole = content
            if content.attributes is None:
                row = connection.execute(_ITEM, (item_id,)).fetchone()
                before = None if row is None else _change(row).content
                # What the item was encoded with stays, so that every service encodes it alike.
                whole = dataclasses.replace(content, attributes=None if before is None else before.attributes)
            return _put(connection, item_id, whole, _refuse_removed)

        return self._commits.submit(write)

    def remove_item(self, item_id: str) -> Future[WrittenItem]:
        return self._commits.submit(lambda connection: _put(connection, item_id, None, _refuse_removed))

    def revert_item(self, item_id: str, written: WrittenItem) -> Future[int | None]:
        def write(connection: sqlite3.Connection) -> int | None:
            found = connection.execute(_ITEM, (item_id,)).fetchone()
            if found is None or found[0] != written.number:
                return None
            if written.before is None and not written.is_new:
                connection.execute("DELETE FROM items WHERE item_id = ?", (item_id,))  # the run's own item, as it was
                return None
            content = None if written.before is None else written.before.content
            return _put(connection, item_id, content, _refuse_nothing).number

        return self._commits.submit(write)

    def item_changes(self, after: int) -> list[ItemChange]:
        return [_change(row) for row in self._read(_CHANGES, after)]

    def request_reload(self) -> Future[int]:
        return self._commits.submit(lambda connection: _counted(connection, "reload"))

    def reload_number(self) -> int:
        ((number,),) = self._read("SELECT value FROM facts WHERE name = 'reload'")
        return int(number)

    def counts(self) -> StoreCounts:
        ((events, items),) = self._read(
            "SELECT (SELECT value FROM facts WHERE name = 'events'), (SELECT count(*) FROM items)"
        )
        return StoreCounts(events=events, changed_items=items)

    def close(self) -> None:
        self._commits.close()
        for reader in self._readers:
            reader.close()

    def _read(self, query: str, *values: object) -> list[Any]:
        """Return all rows; a query is never left open, or it would hold up the cutting of the log."""
        try:
            reader: sqlite3.Connection | None = getattr(self._local, "reader", None)
            if reader is None:
                reader = self._local.reader = connect(self._path)
                self._readers.append(reader)
            return reader.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable(str(error)) from None


def _append(connection: sqlite3.Connection, events: Sequence[Event]) -> Appended:
    now_ms = time.time_ns() // 1_000_000
    stored = 0
    for event in events:
        content = (event.user_id, event.item_id, event.kind, event.time_ms)
        time_ms = now_ms if event.time_ms is None else event.time_ms
        if connection.execute(_INSERT, (event.event_id, *content, time_ms)).rowcount:
            stored += 1
        elif connection.execute(_STORED, (event.event_id,)).fetchone() != content:
            raise StoreConflict(f"an event with the id {event.event_id!r} and other content is stored already")
    if stored:
        connection.execute(_COUNT_UP, (stored, "events"))
    return Appended(stored=stored, repeated=len(events) - stored)


def _put(
    connection: sqlite3.Connection,
    item_id: str,
    content: ItemContent | None,
    refuse: Callable[[str, ItemChange | None], None],
) -> WrittenItem:
    row = connection.execute(_ITEM, (item_id,)).fetchone()
    before = None if row is None else _change(row)
    refuse(item_id, before)
    number = _counted(connection, "change")
    text = None if content is None else json.dumps(dataclasses.asdict(content), allow_nan=False)
    connection.execute(_PUT, (item_id, text, number))
    return WrittenItem(number=number, before=before, is_new=False)


def _refuse_live(item_id: str, before: ItemChange | None) -> None:
    if before is not None and before.content is not None:
        raise StoreConflict(f"item {item_id!r} is in the catalogue already")


def _refuse_removed(item_id: str, before: ItemChange | None) -> None:
    if before is not None and before.content is None:
        raise StoreConflict(f"item {item_id!r} was removed")


def _refuse_nothing(item_id: str, before: ItemChange | None) -> None:
    pass


def _counted(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(_COUNT_UP, (1, name)).fetchone()
    return int(value)


def _change(row: tuple[int, str, str | None]) -> ItemChange:
    number, item_id, content = row
    return ItemChange(number, item_id, None if content is None else ItemContent(**json.loads(content)))
