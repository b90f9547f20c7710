"""The file of the event store: its tables, and whether a file that is there is one."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from peftrec.config import InputError

APPLICATION_ID: Final = 0x50465452  # "PFTR" in the file's header
SCHEMA_VERSION: Final = 1
_WAIT_SECONDS: Final = 30.0
_TABLES: Final = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    """CREATE TABLE events (
        arrival INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL UNIQUE,
        user_id TEXT NOT NULL,
        item_id TEXT NOT NULL,
        kind TEXT,
        given_ms INTEGER,
        time_ms INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX events_of_user ON events (user_id, time_ms, arrival)",
    "CREATE TABLE items (item_id TEXT PRIMARY KEY, content TEXT, number INTEGER NOT NULL UNIQUE) STRICT",
)


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection that may be used by one thread at a time; what it commits is on the disk."""
    connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
    for pragma in ("synchronous = FULL", "secure_delete = ON", "temp_store = MEMORY", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def prepare(path: Path, run: str, *, adopt: bool = False, check: bool = True) -> None:
    """Make the file of a store, or see that the file that is there is one, whole, and of this run.

    Args:
        path: of the file; its folder exists.
        run: what the service serves; a store belongs to one.
        adopt: let the store belong to this run from now on.
        check: read the whole file and look for damage.
    Raises:
        InputError: if the file is foreign, damaged, of another version or of another run.
    """
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent} to keep the store in")
    try:
        # Events tell of people: nobody else on the machine reads them.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise InputError(f"{path}: cannot be opened as an event store ({error})") from None
    connection = None
    try:
        connection = connect(path)
        _prepare(connection, path, run, adopt, check)
    except sqlite3.DatabaseError as error:
        raise InputError(
            f"{path}: is damaged or no event store ({error}); name another file with --store, or restore it from a copy"
        ) from None
    finally:
        if connection is not None:
            connection.close()


def _prepare(connection: sqlite3.Connection, path: Path, run: str, adopt: bool, check: bool) -> None:
    application, version = (_pragma(connection, name) for name in ("application_id", "user_version"))
    is_empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if not is_empty and application != APPLICATION_ID:
        raise InputError(f"{path}: is an SQLite database of something else; name another file with --store")
    if not is_empty and version != SCHEMA_VERSION:
        raise InputError(
            f"{path}: has layout {version} of the event store, and this peftrec knows {SCHEMA_VERSION}; "
            f"use the peftrec that wrote it, or another file"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    if check and not is_empty:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise InputError(f"{path}: is damaged ({found}); restore it from a copy, or name another file with --store")
    connection.execute("BEGIN IMMEDIATE")
    # Somebody else may have made the tables since.
    if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        for statement in _TABLES:
            connection.execute(statement)
        facts = [("run", run), ("events", 0), ("change", 0), ("reload", 0)]
        connection.executemany("INSERT INTO facts VALUES (?, ?)", facts)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    if adopt:
        connection.execute("UPDATE facts SET value = ? WHERE name = 'run'", (run,))
    (owner,) = connection.execute("SELECT value FROM facts WHERE name = 'run'").fetchone()
    connection.execute("COMMIT")
    if owner != run:
        raise InputError(
            f"{path}: holds the events of {owner}, not of {run}; name another file with --store, or --adopt-store if "
            f"both are runs on the same items"
        )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
