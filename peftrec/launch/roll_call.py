"""Naming the process that does not answer."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from peftrec.config import InputError

if TYPE_CHECKING:
    from peftrec.launch.ranks import Ranks

_ANSWER = datetime.timedelta(seconds=10)


@contextlib.contextmanager
def together(ranks: Ranks) -> Iterator[None]:
    """Say which process is gone or hangs, where one that takes part in something is waited for in vain.

    Raises:
        InputError: naming the processes that do not answer.
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:300]
        silent = _silent(ranks)
        if not silent:
            raise InputError(f"the {ranks.count} processes lost each other, though all answer: {reason}") from error
        names = ", ".join(str(index) for index in silent)
        raise InputError(
            f"process {names} of {ranks.count} (counted from 0) does not answer process {ranks.index}: it was killed, "
            f"ran out of memory, or hangs; what it said last tells more. Start again with --resume. ({reason})"
        ) from error


def _silent(ranks: Ranks) -> list[int]:
    """Call every other process and return those that do not answer within ten seconds."""
    others = [index for index in range(ranks.count) if index != ranks.index]
    silent, waits = [], {}
    for index in others:
        try:
            dist.isend(torch.ones(1), index, group=ranks.hosts)
            waits[index] = dist.irecv(torch.zeros(1), index, group=ranks.hosts)
        except RuntimeError:
            silent.append(index)
    for index, wait in waits.items():
        try:
            assert wait is not None
            wait.wait(_ANSWER)
        except RuntimeError:
            silent.append(index)
    return sorted(silent)
