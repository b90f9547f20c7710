"""What shall go wrong, at which request, and how often."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Sequence
from typing import Literal


@dataclasses.dataclass
class Failure:
    """One thing that goes wrong.

    Args:
        request: a pattern that is searched for in `METHOD /path`.
        kind: `status` answers with `status` and does nothing; `cut` breaks the connection in the middle of the body,
            the sent one where there is one and else the answered one; `lost` does what was asked and breaks the
            connection before the answer; `slow` waits for `seconds` and then goes on; `corrupt` answers with one byte
            changed.
        count: how often; later requests go through.
        status: for `status`.
        seconds: for `slow`.
    """

    request: str
    kind: Literal["status", "cut", "lost", "slow", "corrupt"]
    count: int = 1
    status: int = 500
    seconds: float = 0.0


class Failures:
    """Those that are switched on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._on: list[Failure] = []
        self.happened: list[tuple[str, str]] = []

    def switch_on(self, failures: Sequence[Failure]) -> None:
        with self._lock:
            self._on = [dataclasses.replace(failure) for failure in failures]
            self.happened = []

    def at(self, request: str) -> Failure | None:
        """Return what happens to a request, and count it."""
        with self._lock:
            for failure in self._on:
                if failure.count > 0 and re.search(failure.request, request):
                    failure.count -= 1
                    self.happened.append((failure.kind, request))
                    return failure
        return None
