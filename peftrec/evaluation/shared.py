"""Cases dealt out over processes, and what was found for them brought together.

Shapes: C cases, W numbers a case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data import Cases
from peftrec.launch import Ranks, all_or_none

if TYPE_CHECKING:
    from peftrec.data import Sequences


def shared_rows(
    find: Callable[[Cases], NDArray[np.int64]], cases: Cases, sequences: Sequences, processes: Ranks | None
) -> NDArray[np.int64]:
    """Find something for every case, each process for its share of them.

    What is found travels with user, length of the history and target of its case, and must come back as the cases of
    the split: each once, in their order.

    Args:
        find: some of the cases, perhaps none, to a row for each.
        cases: all of them, the same on every process.
        sequences: the users' events.
        processes: that share the work; None for this one alone.
    Returns:
        The rows of all cases on every process, shape (C, W).
    Raises:
        InputError: what `find` raises, on the process that it was raised on; on the others that one has failed; on all
            of them if what came back is not of these cases.
    """
    if processes is None or processes.alone:
        return find(cases)
    here = slice(*processes.rows(len(cases)))
    own = Cases(cases.users[here], cases.history_lengths[here], cases.targets[here])
    with all_or_none(processes):
        rows = find(own)
    found = processes.joined(np.concatenate([_keys(own), rows], axis=1))
    with all_or_none(processes):
        _check_keys(found[:, :3], cases, sequences, processes.count)
    return found[:, 3:]


def _keys(cases: Cases) -> NDArray[np.int64]:
    """Return what tells cases apart: a user may have a target again, later."""
    return np.stack([cases.users, cases.history_lengths, cases.targets], axis=1)


def _check_keys(found: NDArray[np.int64], cases: Cases, sequences: Sequences, count: int) -> None:
    """See that what came back is of the cases, each once and in their order."""
    expected = _keys(cases)
    if np.array_equal(found, expected):
        return
    shorter = min(len(found), len(expected))
    differs = np.flatnonzero((found[:shorter] != expected[:shorter]).any(axis=1))
    place = int(differs[0]) if len(differs) else shorter
    if place < len(expected):
        user, _, target = expected[place]
        first = f"case {place:,}, of user {sequences.user_ids[user]!r} with target {target}, is not where it should be"
    else:
        first = "there are more than that"
    raise InputError(
        f"{count} processes found something for {len(found):,} cases, and the split has {len(expected):,}: {first}; "
        f"all processes must read the same data"
    )
