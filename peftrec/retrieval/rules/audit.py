"""The log of what rules hid: JSON lines, kept to a size."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

from peftrec.config import InputError, Range
from peftrec.retrieval.rules.redaction import without_user


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit:
    """Where what was hidden is written down.

    Args:
        file: one JSON object a line is appended to it: time, rule, item, reason; relative to where the process runs.
        max_mib: when it would grow beyond this, it becomes `FILE.1`, that `FILE.2`, and so on.
        keep: how many of those there are at most; older ones are deleted.
        user_ids: whether lines name the user that a list was made for, where one is known.
    """

    file: str
    max_mib: Annotated[float, Range(gt=0)] = 16.0
    keep: Annotated[int, Range(ge=0)] = 4
    user_ids: bool = False

    def __post_init__(self) -> None:
        if not self.file.strip():
            raise ValueError("file: is empty")


class AuditUnavailable(Exception):  # noqa: N818
    """The log cannot be written now: the disk is full, the folder is gone."""


class AuditLog:
    """Appends to the log; may be shared by threads and by processes.

    Args:
        config: of it.
        now: tells the time.
    Raises:
        InputError: if the file cannot be written.
    """

    def __init__(
        self, config: Audit, now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC)
    ) -> None:
        self._config, self._now, self._path = config, now, Path(config.file)
        self._lock = threading.Lock()
        try:
            os.close(self._open())
        except OSError as error:
            raise InputError(f"audit.file: {config.file}: cannot be written ({error.strerror})") from None

    def write(self, rows: Sequence[dict[str, str]], user: str | None = None) -> None:
        """Append a line for each item that was hidden.

        Args:
            rows: of each `rule`, `item` and `reason`.
            user: for whom; written only where the log is to name users.
        Raises:
            AuditUnavailable: if it cannot be written; then no line is.
        """
        if not rows:
            return
        told = {"user": user} if self._config.user_ids and user is not None else {}
        at = self._now().isoformat(timespec="milliseconds")
        lines = [json.dumps({"time": at, **row, **told}, ensure_ascii=False) + "\n" for row in rows]
        content = "".join(lines).encode("utf-8", "backslashreplace")
        with self._lock:
            try:
                self._append(content)
            except OSError as error:
                raise AuditUnavailable(f"cannot be written ({error.strerror})") from None

    def forget(self, user: str) -> int:
        """Take a user's name out of all lines, those of the old files too; what was hidden stays counted.

        Args:
            user: as in `write`.
        Returns:
            How many lines named the user.
        Raises:
            AuditUnavailable: if a file cannot be written; then some lines may still name the user.
        """
        with self._lock:
            try:
                with self._held():
                    # The file itself is the last: as soon as it is replaced, others go on with the new one.
                    return sum(without_user(path, user) for path in (*self._old_files(), self._path))
            except OSError as error:
                raise AuditUnavailable(f"cannot be written anew ({error.strerror})") from None

    def _append(self, content: bytes) -> None:
        while True:
            with self._held() as file:
                size = os.fstat(file).st_size
                if size and size + len(content) > self._config.max_mib * 2**20:
                    self._move_on()
                    continue
                # A single write at the end: lines of several processes do not mix.
                if os.write(file, content) < len(content):
                    os.ftruncate(file, size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return

    @contextlib.contextmanager
    def _held(self) -> Iterator[int]:
        """Yield the file, open at its end and locked; while it is, no other process writes, moves or replaces it."""
        import fcntl  # not on every system, and only who writes needs it

        while True:
            file = self._open()
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                # Another process may have moved the file on while this one waited.
                if self._is_current(file):
                    yield file
                    return
            finally:
                os.close(file)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)

    def _is_current(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False

    def _old_files(self) -> list[Path]:
        """Return the old files that there are, also those of a time when more were kept."""
        start = f"{self._path.name}."
        return [
            path
            for path in self._path.parent.iterdir()
            if path.name.startswith(start) and path.name[len(start) :].isdecimal()
        ]

    def _move_on(self) -> None:
        """Make the file the first of the old ones."""
        old = [self._path.with_name(f"{self._path.name}.{number}") for number in range(1, self._config.keep + 1)]
        for older, newer in zip(reversed(old), [*reversed(old[:-1]), self._path], strict=False):
            if newer.exists():
                newer.replace(older)
        if not old:
            self._path.unlink()
