"""Some items never train: what texts alone can do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError, Range
from peftrec.data.case import Cases
from peftrec.data.case_choice import (
    Targets,
    check_fractions,
    draw_parts,
    event_users,
    pick_targets,
    require_cases,
    told,
    told_leaks,
)
from peftrec.data.sequence import Sequences
from peftrec.data.split import Split, SplitConfig


@dataclass(frozen=True, kw_only=True)
class ColdItems(SplitConfig):
    """Random items validate, others test, and no event of either trains or stands in a history.

    The events of held-out items are taken out of all sequences; what is left trains. A case asks for a user's first
    event of a held-out item, with all events before it of items that are not held out as history; where there are none,
    it is left out. Items are drawn from those with events, by their place in the item table.

    Args:
        valid_fraction: share of the items.
        test_fraction: share of the items.
        seed: of the draw.
        targets: which events of held-out items are targets: a user's `first`, `last`, or `all`.
    """

    kind: ClassVar[str] = "cold_items"
    valid_fraction: Annotated[float, Range(gt=0, lt=1)] = 0.1
    test_fraction: Annotated[float, Range(gt=0, lt=1)] = 0.1
    seed: Annotated[int, Range(ge=0)] = 0
    targets: Targets = "all"

    def __post_init__(self) -> None:
        check_fractions(self.valid_fraction, self.test_fraction)

    def split(self, sequences: Sequences) -> Split:
        """Draws the items and takes their events out."""
        touched = np.unique(sequences.items)
        fractions = (self.valid_fraction, self.test_fraction)
        held = draw_parts(touched, fractions, self.seed, self.kind, "items with events")
        part = np.zeros(int(touched[-1]) + 1, dtype=np.int64)
        part[held[0]], part[held[1]] = 1, 2
        part_E = part[sequences.items]
        kept = part_E == 0
        if not kept.any():
            raise InputError(
                f"data.split.kind: cold_items leaves nothing to train: all {len(kept):,} events are of held-out items"
            )
        running = np.concatenate([[0], np.cumsum(kept)])
        left = _events(sequences, kept, running[sequences.offsets])
        valid, test = (self._cases(sequences, part_E == number, running) for number in (1, 2))
        for name, cases, items in (("validation", valid, held[0]), ("test", test, held[1])):
            held_out = f"the {len(items):,} held-out items"
            why = f"no {sequences.unit} has an event of {held_out} after one of an item that is not held out"
            require_cases(cases, self.kind, name, why)
        return Split(
            train_lengths=left.lengths,
            valid=valid,
            test=test,
            leaks=told_leaks(
                sequences,
                "A hold-out of items leaks in time: it trains on events later than the test events, of the same users "
                "too; no event of a held-out item is trained on, its text is read.",
                "other sessions of the same person train too, earlier and later ones",
            ),
            note=f"{told(sequences, valid, test)}; {len(held[0]):,} and {len(held[1]):,} of {len(touched):,} items "
            f"with events never train, {int((~kept).sum()):,} events of theirs taken out; seed {self.seed}",
            sequences=left,
        )

    def _cases(self, sequences: Sequences, asked: NDArray[np.bool_], running: NDArray[np.int64]) -> Cases:
        """The cases of one part; histories are counted without what is held out."""
        users = event_users(sequences)
        if sequences.weights is not None:
            asked = asked & (sequences.weights > 0)
        chosen = np.flatnonzero(asked)
        pairs = users[chosen] * (int(sequences.items.max()) + 1) + sequences.items[chosen]
        chosen = chosen[np.sort(np.unique(pairs, return_index=True)[1])]  # the first of equal ones
        before = running[:-1] - running[sequences.offsets[users]]
        chosen = pick_targets(users, chosen[before[chosen] > 0], self.targets)
        return Cases(users[chosen], before[chosen], sequences.items[chosen])


def _events(sequences: Sequences, kept: NDArray[np.bool_], offsets: NDArray[np.int64]) -> Sequences:
    """The events that stay; users without any stay too, so that their indexes do."""
    return replace(
        sequences,
        offsets=offsets,
        items=sequences.items[kept],
        times=None if sequences.times is None else sequences.times[kept],
        events=None if sequences.events is None else sequences.events[kept],
        weights=None if sequences.weights is None else sequences.weights[kept],
        ratings=None if sequences.ratings is None else sequences.ratings[kept],
    )
