"""Whether the machine is idle, and who keeps it busy."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from peftrec.benchmark.speed.machine import BUSY, other_work
from peftrec.config import InputError

# Load average a core above which something has computed in the last minute; starting this process adds some.
LOAD: Final = 0.35
_WINDOW_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 10.0
_SHOWN: Final = 3


def require_idle(wait_seconds: float, say: Callable[[str], None]) -> None:
    """Return when nothing else computes.

    Two things must hold: over some seconds others took at most 10 % of the machine, and the load average of the last
    minute is at most 0.35 a core.

    Args:
        wait_seconds: that may pass before it is idle.
        say: is handed a line when it is waited for.
    Raises:
        InputError: if the machine is still busy then, with what computes.
    """
    ends, told = time.monotonic() + wait_seconds, False
    while True:
        busy = _busy()
        if busy is None:
            return
        if time.monotonic() >= ends:
            raise InputError(
                f"the machine is busy: {busy}; costs are measured with nothing beside them. Stop it, or pass --wait"
            )
        if not told:
            say(f"waiting: {busy}")
            told = True
        time.sleep(min(_PAUSE_SECONDS, max(0.0, ends - time.monotonic())))


def _busy() -> str | None:
    """Say what keeps the machine busy; None where it is idle."""
    before = _processor_seconds()
    share = other_work(_WINDOW_SECONDS)
    if share is not None and share > BUSY:
        return f"other processes take {share:.0%} of it{_names(before)}"
    with contextlib.suppress(OSError):
        load = os.getloadavg()[0] / (os.cpu_count() or 1)
        if load > LOAD:
            return f"its load average of the last minute is {load:.2f} a core"
    return None


def _names(before: dict[tuple[int, str], float]) -> str:
    """Return the names of those that have computed most since; no command lines, which may hold secrets."""
    taken = {key: seconds - before.get(key, 0.0) for key, seconds in _processor_seconds().items()}
    most = sorted((key for key in taken if taken[key] > 0 and key[0] != os.getpid()), key=lambda key: -taken[key])
    names = list(dict.fromkeys(name for _, name in most))[:_SHOWN]
    return f" ({', '.join(names)})" if names else ""


def _processor_seconds() -> dict[tuple[int, str], float]:
    """Return what each process has computed by now, by number and name; nothing where the system does not tell."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
            found[int(folder.name), name] = (int(rest[11]) + int(rest[12])) / os.sysconf("SC_CLK_TCK")
    return found
