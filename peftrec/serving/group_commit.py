"""Many writers, one transaction: a thread that commits together what has come in while it was committing."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from peftrec.serving.event_store import StoreConflict, StoreUnavailable

_T = TypeVar("_T")
_MOST_JOBS: Final = 512
_ERASE_TRIES: Final = 200
_ERASE_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Job:
    write: Callable[[sqlite3.Connection], Any]
    future: Future[Any]
    erases: bool


class GroupCommit:
    """Runs writes on one connection, each as a whole or not at all, and answers when they are on the disk.

    Args:
        connection: used by nobody else.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="peftrec-commit", daemon=True)
        self._thread.start()

    def submit(self, write: Callable[[sqlite3.Connection], _T], *, erases: bool = False) -> Future[_T]:
        """Run a write; the future is done when it is committed.

        Args:
            write: is handed the connection within a transaction; what it raises undoes it alone.
            erases: also take what it deleted out of the files before the future is done.
        """
        future: Future[_T] = Future()
        with self._closing:
            if self._closed:
                future.set_exception(StoreUnavailable("the store is closed"))
            else:
                self._jobs.put(_Job(write, future, erases))
        return future

    def close(self) -> None:
        """Commit what is waiting, and stop."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        self._connection.close()

    def _work(self) -> None:
        is_open = True
        while is_open:
            jobs: list[_Job] = []
            first = self._jobs.get()
            while first is not None:
                jobs.append(first)
                if len(jobs) == _MOST_JOBS or self._jobs.empty():
                    break
                first = self._jobs.get()
            is_open = first is not None
            if jobs:
                self._commit(jobs)

    def _commit(self, jobs: list[_Job]) -> None:
        outcomes: list[Any] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                outcomes.append(self._run(job))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            outcomes = [StoreUnavailable(str(error))] * len(jobs)
        erasing = [place for place, job in enumerate(jobs) if job.erases and not isinstance(outcomes[place], Exception)]
        if erasing and (failure := self._erase()) is not None:
            for place in erasing:
                outcomes[place] = failure
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, Exception):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)

    def _run(self, job: _Job) -> Any:
        self._connection.execute("SAVEPOINT job")
        try:
            outcome = job.write(self._connection)
        except sqlite3.Error:
            raise
        except Exception as error:  # whoever asked for the write gets it
            self._connection.execute("ROLLBACK TO job")
            is_conflict = isinstance(error, StoreConflict)
            outcome = error if is_conflict else StoreUnavailable(f"{type(error).__name__}: {error}")
        self._connection.execute("RELEASE job")
        return outcome

    def _erase(self) -> StoreUnavailable | None:
        """Leave nothing of what was deleted in the files, or return why copies may remain.

        `secure_delete` overwrites deleted cells, but a page that was once rearranged may keep copies of them in its
        free space: the whole file is written anew. The log is cut to nothing as soon as no reader needs it.
        """
        try:
            self._connection.execute("VACUUM")
            for _ in range(_ERASE_TRIES):
                is_busy, *_rest = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not is_busy:
                    return None
                time.sleep(_ERASE_SECONDS)
            reason = "a reader holds the log open"
        except sqlite3.Error as error:
            reason = str(error)
        return StoreUnavailable(f"deleted, but copies may remain in the files ({reason}); delete once more")
