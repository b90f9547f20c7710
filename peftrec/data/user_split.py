"""Some users never train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from peftrec.config import InputError, Range
from peftrec.data.case_choice import check_fractions, choose_cases, draw_parts, told
from peftrec.data.sequence import Sequences
from peftrec.data.split import Split, SplitConfig


@dataclass(frozen=True, kw_only=True)
class UserHoldout(SplitConfig):
    """Random users validate, others test, and nothing of either trains; the rest trains with all events.

    Drawn from the users with a target that has a history, by their ids: the order of the rows does not matter. The
    model is told a held-out user's history only when it is asked.

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
        by_id = able[np.argsort(np.array([sequences.user_ids[user] for user in able], dtype=np.str_), kind="stable")]
        if not len(able):
            raise InputError(
                f"data.split.kind: user_holdout leaves no test case: none of {len(lengths):,} users has two events"
            )
        fractions = (self.valid_fraction, self.test_fraction)
        valid_users, test_users = draw_parts(by_id, fractions, self.seed, self.kind, "users with two events")

        part = np.zeros(len(lengths), dtype=np.int64)
        part[valid_users], part[test_users] = 1, 2
        starts, train_lengths = np.zeros_like(lengths), np.where(part == 0, lengths, 0)
        valid = choose_cases(sequences, starts, np.where(part == 1, lengths, 0), self.targets)
        test = choose_cases(sequences, starts, np.where(part == 2, lengths, 0), self.targets)
        return Split(
            train_lengths=train_lengths,
            valid=valid,
            test=test,
            leaks="A hold-out of users leaks in time: it trains on events of other users that are later than test "
            "events; of the held-out users themselves it trains on nothing.",
            note=f"{told(valid, test)}, none of whom trains; {len(lengths) - len(valid_users) - len(test_users):,} "
            f"users train; seed {self.seed}",
        )
