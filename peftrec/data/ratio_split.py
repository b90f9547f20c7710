"""A share of each user's events validates and tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from peftrec.config import Range
from peftrec.data.case_choice import Targets, check_fractions, choose_cases, require_cases, told, told_leaks
from peftrec.data.sequence import Sequences
from peftrec.data.split import Split, SplitConfig


@dataclass(frozen=True, kw_only=True)
class Ratio(SplitConfig):
    """Each user's last events test, those before validate, the first ones train.

    Of n events floor(n * fraction), but at least one, go to each of validation and test, as long as one is left to
    train. Users with fewer than three events are for training only. It leaks as leave-one-out does, over a longer
    stretch.

    Args:
        valid_fraction: share of a user's events.
        test_fraction: share of a user's events.
        targets: which events of a part are targets: a user's `first`, `last`, or `all`; the history of each is all that
            the user did before it.
    """

    kind: ClassVar[str] = "ratio"
    valid_fraction: Annotated[float, Range(gt=0, lt=1)] = 0.1
    test_fraction: Annotated[float, Range(gt=0, lt=1)] = 0.1
    targets: Targets = "all"

    def __post_init__(self) -> None:
        check_fractions(self.valid_fraction, self.test_fraction)

    def split(self, sequences: Sequences) -> Split:
        """Cuts each user with at least three events twice."""
        lengths = sequences.lengths
        enough = lengths >= 3
        test_sizes, valid_sizes = (
            np.maximum(np.floor(np.round(lengths * fraction, 6)).astype(np.int64), 1)
            for fraction in (self.test_fraction, self.valid_fraction)
        )
        test_starts = lengths - np.where(enough, np.minimum(test_sizes, lengths - 2), 0)
        train_lengths = test_starts - np.where(enough, np.minimum(valid_sizes, test_starts - 1), 0)
        valid = choose_cases(sequences, train_lengths, test_starts, self.targets)
        test = choose_cases(sequences, test_starts, lengths, self.targets)
        for name, cases in (("validation", valid), ("test", test)):
            why = f"{int(enough.sum()):,} of {len(lengths):,} {sequences.unit}s have the 3 events that it needs"
            weights = "" if sequences.weights is None else "; what weighs below data.min_target_weight is no target"
            require_cases(cases, self.kind, name, why + weights)
        return Split(
            train_lengths=train_lengths,
            valid=valid,
            test=test,
            leaks=told_leaks(
                sequences,
                f"A split by ratio leaks across {sequences.unit}s in time: it trains on events later than other "
                f"{sequences.unit}s' test events.",
                "other sessions of the same person train too, earlier and later ones",
            ),
            note=f"{told(sequences, valid, test)}; {int((~enough).sum()):,} {sequences.unit}s have fewer than 3 events "
            f"and only train",
        )
