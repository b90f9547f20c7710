"""A lock that is a file: held by an open file, so that it ends with the process that holds it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def file_lock(path: Path, *, wait: bool) -> Iterator[int | None]:
    """Hold a lock, and yield its open file; None where another process holds it and it is not waited for.

    A process that ends, however it does, holds it no longer. One that inherits the open file holds it too.

    Args:
        path: of the lock; its folder must be there. The file is removed in the end.
        wait: until the lock is free.
    """
    import fcntl  # not on every system, and only who writes needs it

    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(file)
            yield None
            return
        except OSError:
            os.close(file)
            raise
        # Who held it before may have removed the file meanwhile: then this is a lock on nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), path.stat()):
                break
        os.close(file)
    try:
        yield file
    finally:
        # Where its folder was moved meanwhile, another process may hold a lock of this name.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), path.stat()):
                path.unlink()
        os.close(file)
