"""Whether a training runs in a folder: it holds a lock there, which ends with its process however that ends."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from peftrec.config import InputError
from peftrec.encoders.file_lock import file_lock
from peftrec.training.progress_file import read_progress, write_progress

LOCK = Path("private") / "running.lock"
# A system or file system without locks: nothing is refused then, and nothing can be told.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
# Whoever asks holds the lock for a moment, shared.
_TRIES, _WAIT_SECONDS = 10, 0.05


@contextlib.contextmanager
def running(folder: Path, *, clear: bool = False) -> Iterator[None]:
    """Hold the lock of a training; where the system has no file locks (Windows), nothing is held and nothing refused.

    Where the folder is moved meanwhile, an empty `private/running.lock` that nobody holds stays in it.

    Args:
        folder: where it keeps its work; made where it is not there.
        clear: remove what an earlier training has left in the folder, once it is sure that none runs.
    Raises:
        InputError: if another process trains there.
    """
    (folder / LOCK).parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        if not _take(folder / LOCK, held):
            raise InputError(f"{folder}: another process trains there{_who(folder)}; wait for it, or stop it first")
        if clear:
            _clear(folder)
        _correct(folder)
        yield


def is_running(folder: Path) -> bool | None:
    """Tell whether a training runs in a folder, without keeping others from starting one.

    Args:
        folder: where it keeps its work.
    Returns:
        None where the system has no file locks, so that it cannot be told.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        file = os.open(folder / LOCK, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    finally:
        os.close(file)
    return False


def _take(path: Path, held: contextlib.ExitStack) -> bool:
    for _ in range(_TRIES):
        with contextlib.ExitStack() as attempt:
            try:
                lock = attempt.enter_context(file_lock(path, wait=False))
            except ImportError:
                return True
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    return True
                raise
            if lock is not None:
                held.push(attempt.pop_all())
                return True
        time.sleep(_WAIT_SECONDS)
    return False


def _who(folder: Path) -> str:
    """Return which process it is, as far as it has told."""
    with contextlib.suppress(InputError):
        if progress := read_progress(folder):
            return f" (process {progress['pid']} on {progress['host']}, since {progress['began']})"
    return ""


def _correct(folder: Path) -> None:
    """Let what a killed process told of itself no longer look like the present."""
    with contextlib.suppress(InputError):  # a damaged file is written anew as soon as training begins
        progress = read_progress(folder)
        if progress and progress["state"] in ("running", "trained"):
            write_progress(folder, progress | {"state": "stopped", "seconds_left": None})


def _clear(folder: Path) -> None:
    lock = folder / LOCK
    for path in (*folder.iterdir(), *lock.parent.iterdir()):
        if path in (lock, lock.parent):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
