"""A token bucket a client."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

_MOST_CLIENTS: Final = 10_000
_BURST_SECONDS: Final = 2.0


class RateLimit:
    """Allows each client `rate` requests a second in the long run, and twice that at once.

    Args:
        rate: requests a second; 0 sets no limit.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._burst = max(1.0, rate * _BURST_SECONDS)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_seconds(self, client: str, now: float) -> int:
        """Count one request.

        Args:
            client: who sends it.
            now: seconds on a clock that never goes back.
        Returns:
            0 where it is allowed, else in how many seconds one will be.
        """
        if self._rate <= 0:
            return 0
        left, then = self._buckets.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        is_allowed = left >= 1.0
        self._buckets[client] = (left - is_allowed, now)
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)  # who has been silent longest
        return 0 if is_allowed else math.ceil((1.0 - left) / self._rate)
