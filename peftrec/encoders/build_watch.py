"""What a person is told while states are computed: how large, soon how long, then how far."""

from __future__ import annotations

import time
from collections.abc import Callable

Say = Callable[[str], None]
# Label, tokens done, tokens in all.
Progress = Callable[[str, int, int], None]

_TIMED_CHUNKS = 3
_TIMED_SECONDS = 0.5
# So long without a word, and the time that is left is said by whatever has been timed.
_SILENT_SECONDS = 5.0
_LINE_SECONDS = 15.0


class BuildWatch:
    """Says how large it will be, times the first chunks, says what the rest will take, and reports progress.

    Args:
        say: is handed lines.
        progress: is handed the state of the work after every chunk; None has a line said every 15 s instead.
        label: what is computed.
        place: where it goes, and how large it is.
        total: tokens in all.
    """

    def __init__(self, say: Say, progress: Progress | None, label: str, place: str, total: int) -> None:
        self._say, self._progress, self._label, self._total = say, progress, label, total
        self._began = self._timed = self._last_line = time.perf_counter()
        self._chunks = self._done = self._untimed = 0
        self._told = False
        say(f"{label}: {place}")

    def advance(self, tokens: int) -> None:
        """Be told that a chunk with so many tokens is done."""
        now = time.perf_counter()
        self._chunks, self._done = self._chunks + 1, self._done + tokens
        enough = self._chunks > _TIMED_CHUNKS and now - self._timed > _TIMED_SECONDS
        if not self._told and self._done < self._total and (enough or now - self._began > _SILENT_SECONDS):
            self._told, self._last_line = True, now
            self._say(f"{self._label}: about {self._seconds_left(now):,.0f} s to compute")
        elif self._told and self._progress is None and now - self._last_line > _LINE_SECONDS:
            self._last_line = now
            self._say(f"{self._label}: {self._done / self._total:.0%}, about {self._seconds_left(now):,.0f} s left")
        if self._chunks == 1:
            # The first one is slower than others: memory is taken, kernels are chosen.
            self._timed, self._untimed = now, self._done
        if self._progress is not None:
            self._progress(self._label, self._done, self._total)

    def finish(self, note: str = "") -> None:
        """Be told that all is done; `note` is said with it."""
        seconds = time.perf_counter() - self._began
        self._say(f"{self._label}: computed in {seconds:,.1f} s{note}")

    def _seconds_left(self, now: float) -> float:
        return (self._total - self._done) * (now - self._timed) / max(1, self._done - self._untimed)
