"""What fails on one process fails on all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from peftrec.config import InputError
from peftrec.launch.ranks import Ranks


@contextlib.contextmanager
def all_or_none(ranks: Ranks) -> Iterator[None]:
    """Wait at the end for all processes, and stop all if one has failed: none is left waiting for it.

    Inside, a process must not wait for others: one that has failed would not come.

    Args:
        ranks: the processes.
    Raises:
        InputError: where another process has failed; where this one has, what it failed with.
    """
    if ranks.alone:
        yield
        return
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    (failed,) = ranks.total([float(failure is not None)])
    if failure is not None:
        raise failure
    if failed:
        raise InputError(f"{failed:.0f} of {ranks.count} processes failed and say why; this one stops with them")
