"""Which events become targets, and what every split says and checks of them."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data.case import Cases
from peftrec.data.sequence import Sequences

Targets = Literal["first", "last", "all"]


def choose_cases(sequences: Sequences, starts: NDArray[np.int64], stops: NDArray[np.int64], targets: Targets) -> Cases:
    """The cases of a part of each user's events; the history of each is all that the user did before its target.

    A user's first event of all has no history and is no target; neither are events of weight 0.

    Args:
        sequences: all events.
        starts: place of each user's first event that may be a target, among the user's events, shape (U,).
        stops: place after the last, shape (U,); a user whose stop is not beyond the start gives no case.
        targets: which of them: the first, the last, or all.
    Returns:
        The cases, users ascending, the targets of one user in order of time.
    """
    users, places = event_users(sequences), _places(sequences)
    inside = _may_be_target(sequences) & (places >= starts[users]) & (places < stops[users])
    chosen = pick_targets(users, np.flatnonzero(inside), targets)
    return Cases(users[chosen], places[chosen], sequences.items[chosen])


def pick_targets(users: NDArray[np.int64], chosen: NDArray[np.int64], targets: Targets) -> NDArray[np.int64]:
    """Of some events, each user's first, each user's last, or all.

    Args:
        users: whose event each is, shape (E,).
        chosen: indexes of events, ascending.
        targets: which of them to take.
    """
    if targets == "all" or not len(chosen):
        return chosen
    changes = np.diff(users[chosen]) != 0
    ends = [changes, [True]] if targets == "last" else [[True], changes]
    picked: NDArray[np.int64] = chosen[np.concatenate(ends)]
    return picked


def event_users(sequences: Sequences) -> NDArray[np.int64]:
    """In which sequence each event is, shape (E,)."""
    return np.repeat(np.arange(len(sequences), dtype=np.int64), sequences.lengths)


def last_two_places(sequences: Sequences) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the last two events of each user that may be targets, shape (U,) each; 0 where there are not two."""
    users, places = event_users(sequences), _places(sequences)
    chosen = np.flatnonzero(_may_be_target(sequences))
    counts = np.bincount(users[chosen], minlength=len(sequences))
    ends = np.cumsum(counts)
    enough = counts >= 2
    last, before = np.zeros(len(sequences), dtype=np.int64), np.zeros(len(sequences), dtype=np.int64)
    last[enough] = places[chosen[ends[enough] - 1]]
    before[enough] = places[chosen[ends[enough] - 2]]
    return before, last


def next_cases(sequences: Sequences, users: NDArray[np.int64], history_lengths: NDArray[np.int64]) -> Cases:
    """The cases whose targets are the events right after so many."""
    return Cases(users, history_lengths, sequences.items[sequences.offsets[users] + history_lengths])


def told(sequences: Sequences, valid: Cases, test: Cases) -> str:
    """How many users, or sessions of how many people, give how many cases, for the report."""
    valid_users, test_users = np.unique(valid.users), np.unique(test.users)
    of_valid, of_test = of_people(sequences, valid_users), of_people(sequences, test_users)
    begin = f"{len(valid_users):,} {sequences.unit}s{of_valid} give"
    if (len(valid_users), len(test_users)) == (len(valid), len(test)):
        return f"{begin} a validation case and {len(test_users):,}{of_test} a test case"
    return f"{begin} {len(valid):,} validation cases and {len(test_users):,}{of_test} give {len(test):,} test cases"


def of_people(sequences: Sequences, users: NDArray[np.int64]) -> str:
    """To how many people some sequences belong, for the report; "" where sequences are whole users."""
    return "" if sequences.owners is None else f" (of {num_people(sequences, users):,} people)"


def num_people(sequences: Sequences, users: NDArray[np.int64]) -> int:
    """To how many people some sequences belong."""
    return len(np.unique(sequences.people[users]))


def told_leaks(sequences: Sequences, leaks: str, of_sessions: str) -> str:
    """What leaks, for the report and for results.

    Args:
        sequences: all events.
        leaks: what does, in a sentence.
        of_sessions: what is true of the other sessions of a person, where sequences are sessions.
    """
    if sequences.owners is None:
        return leaks
    return (
        f"{leaks} Sequences are sessions: {of_sessions}. Intervals and tests take sessions for independent, though "
        f"several may be of one person."
    )


def check_fractions(valid_fraction: float, test_fraction: float) -> None:
    """Refuses fractions that leave nothing to train.

    Raises:
        ValueError: if they make up all.
    """
    if valid_fraction + test_fraction >= 1:
        raise ValueError(f"valid_fraction + test_fraction must be below 1, got {valid_fraction + test_fraction:g}")


def draw_parts(
    drawn_from: NDArray[np.int64], fractions: tuple[float, float], seed: int, kind: str, what: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two random parts that do not overlap, for validation and test.

    Args:
        drawn_from: indexes.
        fractions: of validation and of test; rounded down to whole numbers.
        seed: of the draw; with another share the same ones come first.
        kind: of the split, for the message.
        what: what the indexes are, for the message.
    Returns:
        Both parts, ascending.
    Raises:
        InputError: if a part is empty.
    """
    # rounded first: .29 * 100 is 29 only nearly
    sizes = [int(np.floor(round(len(drawn_from) * fraction, 6))) for fraction in fractions]
    for name, fraction, size in zip(("valid", "test"), fractions, sizes, strict=True):
        if size == 0:
            raise InputError(
                f"data.split.{name}_fraction: {fraction:g} of {len(drawn_from):,} {what} is less than one, so that "
                f"{kind} leaves nothing to {'validate' if name == 'valid' else 'test'}; give a larger share"
            )
    order = np.random.default_rng(seed).permutation(drawn_from)
    # Test from the head, validation from the tail: a larger share of one does not change the other.
    return np.sort(order[len(order) - sizes[0] :]), np.sort(order[: sizes[1]])


def share_with_a_case(sequences: Sequences, end: int | None, rest: float) -> str | None:
    """A share of all events that is enough for a period of time to hold a case of a user who was there before.

    Args:
        sequences: all events, with times.
        end: milliseconds since 1970 where the period ends; None where it has no end.
        rest: share of all events behind its end.
    Returns:
        The smallest such share; None where no share is enough.
    """
    times = sequences.times
    assert times is not None
    begins = np.minimum(sequences.offsets[:-1], len(times) - 1)  # of users without an event it is not read
    late = _may_be_target(sequences) & (times > times[begins][event_users(sequences)])
    late &= True if end is None else times < end
    if not late.any():
        return None
    num_before = int((times < times[late].max()).sum())
    return floored(1 - rest - num_before / len(times), len(times))


def floored(share: float, number: int) -> str:
    """A share of so many events, rounded down by less than an event: the events that it leaves stay as many."""
    digits = len(str(number)) + 1
    return f"{np.floor(round(share * 10**digits, 3)) / 10**digits:.{digits}f}".rstrip("0")


def require_cases(cases: Cases, kind: str, name: str, why: str) -> None:
    """Refuses a part without a case.

    Raises:
        InputError: naming split, part and reason.
    """
    if not len(cases):
        raise InputError(f"data.split.kind: {kind} leaves no {name} case: {why}")


def _places(sequences: Sequences) -> NDArray[np.int64]:
    return np.arange(len(sequences.items), dtype=np.int64) - np.repeat(sequences.offsets[:-1], sequences.lengths)


def _may_be_target(sequences: Sequences) -> NDArray[np.bool_]:
    may = _places(sequences) > 0
    return may if sequences.weights is None else may & (sequences.weights > 0)
