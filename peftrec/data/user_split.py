"""Some users never train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError, Range
from peftrec.data.case_choice import check_fractions, choose_cases, draw_parts, of_people, told, told_leaks
from peftrec.data.sequence import Sequences
from peftrec.data.split import Split, SplitConfig


@dataclass(frozen=True, kw_only=True)
class UserHoldout(SplitConfig):
    """Random users validate, others test, and nothing of either trains; the rest trains with all events.

    Drawn from the users with a target that has a history, by their ids: the order of the rows does not matter. The
    model is told a held-out user's history only when it is asked. Where users are cut into sessions, people are drawn,
    and none of their sessions trains.

    Args:
        valid_fraction: share of the users.
        test_fraction: share of the users.
        seed: of the draw.
        targets: which events of a held-out user are targets: the `last`, or `all` from the second on; the history of
            each is all before it.
    """

    kind: ClassVar[str] = "user_holdout"
    valid_fraction: Annotated[float, Range(gt=0, lt=1)] = 0.1
    test_fraction: Annotated[float, Range(gt=0, lt=1)] = 0.1
    seed: Annotated[int, Range(ge=0)] = 0
    targets: Literal["last", "all"] = "last"

    def __post_init__(self) -> None:
        check_fractions(self.valid_fraction, self.test_fraction)

    def split(self, sequences: Sequences) -> Split:
        """Draws the users."""
        lengths = sequences.lengths
        able = np.unique(choose_cases(sequences, np.zeros_like(lengths), lengths, "last").users)
        if not len(able):
            raise InputError(
                f"data.split.kind: user_holdout leaves no test case: none of {len(lengths):,} {sequences.unit}s has "
                f"two events"
            )
        what = "users with two events" if sequences.owners is None else "people with a session of two events"
        fractions = (self.valid_fraction, self.test_fraction)
        held = draw_parts(_people_by_id(sequences, able), fractions, self.seed, self.kind, what)
        people = sequences.people
        part_of_person = np.zeros(int(people.max()) + 1, dtype=np.int64)
        part_of_person[held[0]], part_of_person[held[1]] = 1, 2
        part = part_of_person[people]
        rest = np.flatnonzero(part == 0)
        starts, train_lengths = np.zeros_like(lengths), np.where(part == 0, lengths, 0)
        valid = choose_cases(sequences, starts, np.where(part == 1, lengths, 0), self.targets)
        test = choose_cases(sequences, starts, np.where(part == 2, lengths, 0), self.targets)
        return Split(
            train_lengths=train_lengths,
            valid=valid,
            test=test,
            leaks=told_leaks(
                sequences,
                "A hold-out of users leaks in time: it trains on events of other users that are later than test "
                "events; of the held-out users themselves it trains on nothing.",
                "people are held out whole, so that no session of a held-out person trains",
            ),
            note=f"{told(sequences, valid, test)}, none of whom trains; {len(rest):,} {sequences.unit}s"
            f"{of_people(sequences, rest)} train; seed {self.seed}",
        )


def _people_by_id(sequences: Sequences, able: NDArray[np.int64]) -> NDArray[np.int64]:
    """The people to whom some sequences belong, each once, in the order of the least id of all their sequences."""
    people = sequences.people[np.argsort(np.array(sequences.user_ids, dtype=np.str_), kind="stable")]
    ordered = people[np.sort(np.unique(people, return_index=True)[1])]
    return ordered[np.isin(ordered, sequences.people[able])]
