"""SIGTERM as a request: training ends the step, saves, and leaves as a launcher expects."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

_SAME_REQUEST_SECONDS = 5.0


class TrainingStopped(SystemExit):
    """Training was asked to end, and has saved where it is if it has a folder; exit code 143, that of SIGTERM."""

    def __init__(self, step: int) -> None:
        super().__init__(128 + signal.SIGTERM)
        self.step = step


class StopRequest:
    """Notes SIGTERM while it is entered; another one, seconds later, ends the process at once.

    One that follows at once is the same request: a scheduler sends it to all processes, and a launcher hands it on.
    Outside the main thread, where Python hands out no signals, it notes nothing.
    """

    def __init__(self) -> None:
        self.asked, self._first = False, 0.0
        self._before: Any = None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.asked and now - self._first > _SAME_REQUEST_SECONDS:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
        if not self.asked:
            self.asked, self._first = True, now
