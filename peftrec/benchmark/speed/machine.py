"""What the machine can do, and whether something else computes on it meanwhile."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import torch

_STAT = Path("/proc/stat")
# Share of all cores; what an idle machine does by itself stays below.
BUSY = 0.1


class GemmPeak:
    """The rate of a square fp32 matrix product on the device that torch computes on by itself.

    Args:
        size: n; the product is (n, n) by (n, n), 2 n^3 FLOP.
        repeats: products a measurement, of which the median counts.
    """

    def __init__(self, size: int = 2048, repeats: int = 3) -> None:
        self._left, self._right = torch.rand(size, size), torch.rand(size, size)
        self._out = torch.empty(size, size)
        self.size, self.repeats = size, repeats
        self.measure()  # warm

    def measure(self) -> float:
        """Return FLOP/s."""
        seconds = []
        for _ in range(self.repeats):
            began = time.perf_counter()
            torch.mm(self._left, self._right, out=self._out)
            seconds.append(time.perf_counter() - began)
        return 2 * float(self.size) ** 3 / statistics.median(seconds)


def memory_bandwidth(mib: int = 256, repeats: int = 5) -> float:
    """Return bytes read and written a second by copying a tensor that no cache holds; the best of several.

    Args:
        mib: size of the tensor.
        repeats: copies.
    """
    source = torch.zeros(mib * 2**18)
    target = torch.empty_like(source)
    target.copy_(source)
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        target.copy_(source)
        seconds.append(time.perf_counter() - began)
    return 2 * mib * 2**20 / min(seconds)


class OtherWork:
    """The share of all cores that other processes take while a context runs: `share`, None where it cannot be known."""

    def __init__(self) -> None:
        self.share: float | None = None

    def __enter__(self) -> OtherWork:
        self._began, self._busy, self._own = time.perf_counter(), _busy_seconds(), _own_seconds()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        busy = _busy_seconds()
        if busy is None or self._busy is None:
            return
        others = busy - self._busy - (_own_seconds() - self._own)
        wall = time.perf_counter() - self._began
        self.share = max(0.0, others / (wall * (os.cpu_count() or 1)))


def undisturbed(measure: Callable[[], float], tries: int = 3) -> float:
    """Return what is measured while others take at most `BUSY` of the machine; the last of the tries as it is.

    Args:
        measure: run anew each time.
        tries: at most.
    """
    for left in reversed(range(tries)):
        with OtherWork() as watch:
            found = measure()
        if not left or watch.share is None or watch.share <= BUSY:
            break
    return found


def other_work(seconds: float = 1.0) -> float | None:
    """Watch for a while without computing and return the share of the machine that others take.

    Falls back on the load average a core, which says what was a minute ago, where the system does not tell.
    """
    with OtherWork() as watch:
        time.sleep(seconds)
    if watch.share is None:
        with contextlib.suppress(OSError):
            return min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    return watch.share


def _busy_seconds() -> float | None:
    """Return the seconds that all cores together have worked since the system began."""
    try:
        fields = _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system, _, _, irq, soft = (int(field) for field in fields[1:8])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
