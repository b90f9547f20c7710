"""Where a study lies: SQLite in a folder, or any storage URL of Optuna."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from peftrec.config import InputError
from peftrec.tuning.optimiser import need_optuna

if TYPE_CHECKING:
    import optuna

DATABASE: Final = "study.db"
# Several processes write to one SQLite file in turn; none waits nearly as long as this.
_SQLITE_SECONDS: Final = 120.0


def storage_url(where: str | Path) -> str:
    """Return the storage URL of a folder, or the URL that was given."""
    if isinstance(where, str) and "://" in where:
        return where
    folder = Path(where)
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{(folder / DATABASE).resolve()}"


def public_url(url: str) -> str:
    """Return a storage URL without the password in it, for messages and files."""
    start, at, rest = url.rpartition("@")
    scheme, _, account = start.partition("://")
    return f"{scheme}://{account.partition(':')[0]}:***@{rest}" if at and ":" in account else url


def open_storage(url: str) -> optuna.storages.BaseStorage:
    """Open a storage, and make its tables where there are none.

    Raises:
        InputError: if it cannot be opened, with what the driver says.
    """
    need_optuna()
    import optuna
    import sqlalchemy

    options = {"connect_args": {"timeout": _SQLITE_SECONDS}} if url.startswith("sqlite") else {}
    try:
        with one_at_a_time(url):
            # A URL in Optuna is a template; braces of a path stand for themselves.
            storage = optuna.storages.RDBStorage(url.replace("{", "{{").replace("}", "}}"), engine_kwargs=options)
            return optuna.storages.get_storage(storage)
    except (
        sqlalchemy.exc.SQLAlchemyError,
        optuna.exceptions.OptunaError,
        sqlite3.Error,
        ImportError,
        ValueError,
        RuntimeError,
    ) as error:
        told = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"storage {public_url(url)}: cannot be opened ({told[0]}); give a URL that Optuna reads, such as "
            f"sqlite:///study.db or postgresql://user@host/database"
        ) from error


@contextlib.contextmanager
def one_at_a_time(url: str) -> Iterator[None]:
    """Hold what only one process may do at a time on a storage; a process that ends, however it does, lets go.

    SQLite does not lock the row of a trial, so that two processes could take the same one: there a second file beside
    it is the lock. Database servers lock rows themselves.
    """
    scheme, _, path = url.partition(":///")
    if not scheme.startswith("sqlite") or path.partition("?")[0] in ("", ":memory:"):
        yield
        return
    connection = sqlite3.connect(f"{path.partition('?')[0]}.lock", timeout=_SQLITE_SECONDS, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        connection.close()
