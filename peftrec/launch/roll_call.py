"""Naming the process that does not answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch.distributed import PrefixStore  # type: ignore[attr-defined]

from peftrec.config import InputError

if TYPE_CHECKING:
    from peftrec.launch.ranks import Ranks

# How long those that are late only are waited for, once it is clear that one does not come.
_LATE_SECONDS = 5.0


def arrivals() -> Any:
    """Return where processes count how often they have come to where they meet; None where torch has no such place."""
    found = getattr(dist.distributed_c10d, "_get_default_store", None)
    return None if found is None else PrefixStore("peftrec-arrivals", found())


@contextlib.contextmanager
def together(ranks: Ranks) -> Iterator[None]:
    """Say which process is gone or hangs, where one that takes part in something is waited for in vain.

    Raises:
        InputError: naming the processes that do not come.
    """
    came = None if ranks.arrivals is None else ranks.arrivals.add(str(ranks.index), 1)
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:300]
        absent = [] if came is None else _absent(ranks, came)
        if not absent:
            raise InputError(
                f"process {ranks.index} of {ranks.count} (counted from 0) lost the others, who are all there: {reason}"
            ) from error
        names = ", ".join(str(index) for index in absent)
        raise InputError(
            f"process {names} of {ranks.count} (counted from 0) does not answer process {ranks.index}: it was killed, "
            f"ran out of memory, or hangs; what it said last tells more. Start again with --resume. ({reason})"
        ) from error


def _absent(ranks: Ranks, came: int) -> list[int]:
    """Return the processes that have not come as often as this one; where all have, those that do not give up with it.

    The latter hang where processes meet: whoever lives there is told, as this one was, that it waits in vain.
    """
    store, end = ranks.arrivals, time.monotonic() + _LATE_SECONDS
    others = [index for index in range(ranks.count) if index != ranks.index]
    try:
        store.add(_gives_up(ranks.index), 1)
        while True:
            late = [index for index in others if store.add(str(index), 0) < came]
            silent = [index for index in others if not store.add(_gives_up(index), 0)]
            if not (late or silent) or time.monotonic() > end:
                return late or silent
            time.sleep(0.1)
    except RuntimeError:  # whoever keeps the counts is gone
        return []


def _gives_up(index: int) -> str:
    return f"{index} gives up"
