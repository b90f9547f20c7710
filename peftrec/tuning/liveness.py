"""Whether the process that runs a trial is still there."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

BEAT_SECONDS: Final = 20.0
# Much longer than a beat: a busy database and clocks that differ a little must not end a trial.
SILENT_SECONDS: Final = 300.0


def process_mark() -> dict[str, Any]:
    """Return what tells this process from others, on this machine and elsewhere."""
    return {"machine": _machine(), "pid": os.getpid(), "started": _start_of(os.getpid())}


def is_abandoned(mark: Mapping[str, Any] | None, last_sign: float) -> bool:
    """Whether a process is gone.

    On the same machine the process itself is looked for; of others the last sign of life counts.

    Args:
        mark: of the process; None where it did not live long enough to leave one.
        last_sign: when it last gave a sign of life, in seconds since 1970.
    """
    if mark is not None and mark["machine"] == _machine() and mark["started"] is not None:
        return _start_of(int(mark["pid"])) != str(mark["started"])
    return time.time() - last_sign > SILENT_SECONDS


class Heartbeat:
    """Calls a function every `BEAT_SECONDS`, from a thread, while something runs.

    Args:
        beat: gives the sign of life; whatever it raises is left to the next beat, and a storage that stays away is
            told of by whoever uses it next.
    """

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat
        self._stopped: threading.Event | None = None

    def start(self) -> None:
        """Begin, unless it beats already."""
        if self._stopped is None:
            self._stopped = threading.Event()
            threading.Thread(target=self._run, args=(self._stopped,), daemon=True).start()

    def stop(self) -> None:
        """End."""
        if self._stopped is not None:
            self._stopped.set()
            self._stopped = None

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(BEAT_SECONDS):
            with contextlib.suppress(Exception):
                self._beat()


def _machine() -> str:
    """Return the machine's name, and the space that its process numbers are of (containers have their own)."""
    try:
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 -- what it points to is no path
    except OSError:
        space = ""
    return f"{platform.node()} {space}".strip()


def _start_of(pid: int) -> str | None:
    """Return when a process started, in the kernel's ticks; None where it is gone, or the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()  # the name before may hold anything
    return None if state in ("Z", "X") else fields[18]
