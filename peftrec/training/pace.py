"""How fast training goes, and how long it still takes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_WINDOW_SECONDS = 60.0


class Pace:
    """Speed over about the last minute of steps; what lies between epochs counts for the time that is left alone.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._window: deque[tuple[float, int, int]] = deque()
        self._seconds = self._between = 0.0
        self._num_steps = 0

    def step(self, steps: int, positions: int) -> None:
        """Count steps that ended now, and began where the last ones, or a pause, ended.

        Args:
            steps: that were made.
            positions: that they learned from.
        """
        seconds = self._passed()
        self._window.append((seconds, steps, positions))
        self._seconds += seconds
        self._num_steps += steps
        while len(self._window) > 1 and self._seconds - self._window[0][0] >= _WINDOW_SECONDS:
            self._seconds -= self._window.popleft()[0]

    def pause(self, *, recurs: bool) -> None:
        """Leave what has passed since the last step out of the speed.

        Args:
            recurs: whether it comes again with every epoch, such as an evaluation.
        """
        self._between += self._passed() * recurs

    @property
    def positions_a_second(self) -> float | None:
        """Positions a second, evaluations left out; None before the first step, or where none were counted."""
        positions = sum(row[2] for row in self._window)
        return positions / self._seconds if positions and self._seconds > 0 else None

    def seconds_left(self, steps: int) -> float | None:
        """Return how long so many steps take, evaluations among them; None before the first step."""
        made = sum(row[1] for row in self._window)
        if not made:
            return None
        return steps * (self._seconds / made + self._between / self._num_steps)

    def _passed(self) -> float:
        before, self._last = self._last, self._clock()
        return self._last - before


def duration(seconds: float) -> str:
    """Return seconds as a person says them: `45 s`, `12 min`, `3 h 05 min`, `2 d 3 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
