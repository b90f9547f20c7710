"""A thread for work that takes its time, and a limit on how much of it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from peftrec.serving.error import ApiError

_T = TypeVar("_T")


class Lane:
    """Runs one piece of work after the other; used from one event loop.

    Args:
        name: of the thread.
        most: pieces that may be waiting or under way; more are refused.
    """

    def __init__(self, name: str, most: int) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self._most, self._taken = most, 0

    async def run(self, works: list[Callable[[], _T]]) -> list[_T]:
        """Do some work and return its results; between its pieces others have their turn.

        Raises:
            ApiError: if there is too much to do already.
        """
        if self._taken + len(works) > self._most:
            raise ApiError(503, "too many explanations are being made; try again in a moment", {"Retry-After": "1"})
        self._taken += len(works)
        try:
            return [await asyncio.get_running_loop().run_in_executor(self._thread, work) for work in works]
        finally:
            self._taken -= len(works)

    def close(self) -> None:
        """Finish what is there, and stop."""
        self._thread.shutdown()
