"""Splits of sessions: whose train, whose test, and whether what is said of them is true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftrec.config import InputError
from peftrec.data import Sequences, SessionConfig, SplitConfig, inspect_dataset, inspection_page
from peftrec.data.cold_item_split import ColdItems
from peftrec.data.ratio_split import Ratio
from peftrec.data.split import GlobalTime, LeaveOneOut
from peftrec.data.user_split import UserHoldout

if TYPE_CHECKING:
    from .conftest import Workspace

MakeSequences = Callable[..., Sequences]
INDEPENDENT = "Intervals and tests take sessions for independent, though several may be of one person."


def sessions(make_sequences: MakeSequences, owners: list[int]) -> Sequences:
    """Three events a session, one session after the other in time."""
    events = [[number, number + 1, number + 2] for number in range(len(owners))]
    times = [[10 * number, 10 * number + 1, 10 * number + 2] for number in range(len(owners))]
    counts: dict[int, int] = {}
    ids = []
    for owner in owners:
        counts[owner] = counts.get(owner, 0) + 1
        ids.append(f"u{owner}#{counts[owner]}")
    return replace(make_sequences(events, times), user_ids=tuple(ids), owners=np.array(owners))


class TestUserHoldout:
    def test_no_session_of_a_held_out_person_trains(self, make_sequences: MakeSequences) -> None:
        owners = [number % 7 for number in range(23)]
        sequences = sessions(make_sequences, owners)
        split = UserHoldout(valid_fraction=2 / 7, test_fraction=3 / 7).split(sequences)
        valid, test = ({owners[user] for user in cases.users} for cases in (split.valid, split.test))
        assert (len(valid), len(test), len(valid & test)) == (2, 3, 0)
        assert split.train_lengths.tolist() == [0 if owner in valid | test else 3 for owner in owners]
        assert len(split.test) == sum(owner in test for owner in owners)  # a case a session
        assert split.leaks.endswith(
            "Sequences are sessions: people are held out whole, so that no session of a held-out person trains. "
            + INDEPENDENT
        )
        num_train = int((split.train_lengths > 0).sum())
        assert split.note == (
            f"{len(split.valid)} sessions (of 2 people) give a validation case and {len(split.test)} (of 3 people) a "
            f"test case, none of whom trains; {num_train} sessions (of 2 people) train; seed 0"
        )

    def test_a_session_without_a_target_is_held_out_with_the_others(self, make_sequences: MakeSequences) -> None:
        events = [[0, 1], [2], [3, 4], [5], [6, 7], [8]]
        sequences = replace(make_sequences(events), owners=np.array([0, 0, 1, 1, 2, 2]))
        split = UserHoldout(valid_fraction=0.34, test_fraction=0.34).split(sequences)
        train = split.train_lengths.reshape(3, 2)
        assert sorted(train.sum(axis=1).tolist()) == [0, 0, 3]

    def test_the_order_of_the_rows_does_not_matter(self, make_sequences: MakeSequences) -> None:
        sequences = sessions(make_sequences, [number % 11 for number in range(33)])
        order = np.random.default_rng(1).permutation(33)
        assert sequences.owners is not None
        numbers = np.random.default_rng(2).permutation(11)
        shuffled = replace(
            sequences,
            user_ids=tuple(sequences.user_ids[place] for place in order),
            items=sequences.items.reshape(33, 3)[order].ravel(),
            owners=numbers[sequences.owners[order]],
        )

        def drawn(events: Sequences) -> set[str]:
            return {events.user_ids[user] for user in UserHoldout(test_fraction=0.3).split(events).test.users}

        assert drawn(sequences) == drawn(shuffled)

    def test_sessions_of_their_own_are_drawn_as_users_are(self, make_sequences: MakeSequences) -> None:
        users = make_sequences([[user, 50] for user in range(30)])
        plain = UserHoldout().split(users)
        alone = UserHoldout().split(replace(users, owners=np.arange(30)))
        assert alone.test.users.tolist() == plain.test.users.tolist()
        assert alone.valid.users.tolist() == plain.valid.users.tolist()

    def test_too_few_people(self, make_sequences: MakeSequences) -> None:
        with pytest.raises(InputError, match=r"test_fraction: 0\.1 of 2 people with a session of two events is less"):
            UserHoldout(valid_fraction=0.5).split(sessions(make_sequences, [0, 1] * 20))


@pytest.mark.parametrize("split", [LeaveOneOut(), Ratio()])
def test_other_sessions_of_the_same_person_train(make_sequences: MakeSequences, split: SplitConfig) -> None:
    found = split.split(sessions(make_sequences, [0, 1, 0]))
    assert "leaks across sessions in time: it trains on events later than other sessions' test events." in found.leaks
    assert found.leaks.endswith(
        f"Sequences are sessions: other sessions of the same person train too, earlier and later ones. {INDEPENDENT}"
    )
    assert found.note.startswith("3 sessions (of 2 people) give a")


def test_what_a_split_in_time_says(make_sequences: MakeSequences) -> None:
    # Cut at 80 and 100 ms: sessions 10 and 11 test, of person 0, who has trained, and of person 9, who is new.
    sequences = sessions(make_sequences, [0, 1, 2, 3, 0, 1, 2, 3, 4, 4, 0, 9])
    split = GlobalTime(valid_fraction=2 / 12, test_fraction=2 / 12, new_users="keep").split(sequences)
    assert split.test.users.tolist() == [10, 11]
    assert split.leaks == (
        "Nothing later than a test event is trained on. Sequences are sessions: earlier sessions of the same person "
        f"may train, later ones never do. {INDEPENDENT}"
    )
    assert split.note.startswith(
        "2 sessions (of 1 people) give a validation case and 2 (of 2 people) a test case, 2 of these sessions and 1 of "
        "these people without a training event; 2 sessions (the first ones of 1 people among them) begin in the test "
        "period and are kept, their first event as history; cuts at"
    )


def test_items_that_are_held_out_of_sessions(make_sequences: MakeSequences) -> None:
    sequences = sessions(make_sequences, [0, 1, 0, 2, 1, 0])
    split = ColdItems(valid_fraction=0.2, test_fraction=0.3, seed=1).split(sequences)
    assert split.sequences is not None
    assert split.sequences.owners is sequences.owners
    assert "Sequences are sessions: other sessions of the same person train too" in split.leaks
    assert " sessions (of " in split.note


def test_errors_speak_of_sessions(make_sequences: MakeSequences) -> None:
    sequences = replace(make_sequences([[0, 1], [2, 3]], [[0, 1], [5, 6]]), owners=np.array([0, 0]))
    with pytest.raises(
        InputError, match=r"none of the 2 sessions has 3 events .*; raise data\.sessions\.gap_minutes, or"
    ):
        LeaveOneOut().split(sequences)
    with pytest.raises(InputError, match=r"no session has an event in that period and one before it"):
        GlobalTime(valid_fraction=0.25, test_fraction=0.5).split(sequences)


@settings(max_examples=60, deadline=None)
@given(owners=st.lists(st.integers(0, 8), min_size=4, max_size=30), seed=st.integers(0, 5))
def test_nobody_trains_and_is_held_out(owners: list[int], seed: int) -> None:
    people = np.array(owners)
    offsets = np.arange(len(people) + 1) * 2
    ids = tuple(f"s{number}" for number in range(len(people)))
    sequences = Sequences(ids, offsets, np.arange(offsets[-1]), owners=people)
    try:
        split = UserHoldout(valid_fraction=0.3, test_fraction=0.3, seed=seed).split(sequences)
    except InputError:
        return
    parts = [people[split.train_lengths > 0], people[split.valid.users], people[split.test.users]]
    assert sum(map(len, parts)) == len(people)
    assert sum(len(set(part.tolist())) for part in parts) == len(set(owners))


def test_an_inspection_tells_sessions_from_people(workspace: Workspace) -> None:
    day = 86_400
    # ann and ben come every day, cleo on the last alone: ten sessions each, and one.
    visits = [(user, when) for when in range(10) for user in ("ann", "ben")] + [("cleo", 9)]
    rows = [
        f"{user},{item},{1_700_000_000 + when * day + place}\n"
        for user, when in visits
        for place, item in enumerate("bcd")
    ]
    workspace.write("interactions.csv", "user_id,item_id,timestamp\n" + "".join(rows))
    split = GlobalTime(new_users="keep", targets="all")
    found = inspect_dataset(workspace.load(sessions=SessionConfig(gap_minutes=30), split=split))
    assert (found.unit, found.users, found.people) == ("session", 21, 3)
    test = found.parts[2]
    assert (test.users, test.untrained_users, test.untrained_people) == (3, 3, 1)
    assert found.sequences[0].name == "events a session"
    page = inspection_page(found, "r.yaml")
    assert "sessions of 3 people" in page
    assert "sessions not trained on" in page
    assert "people not trained on" in page
    assert "users not trained on" not in page
    assert found.cleaning.remaining("kept", "sessions") == 21
    whole = inspect_dataset(workspace.load())
    assert (whole.unit, whole.users, whole.people) == ("user", 3, None)
    assert whole.parts[2].untrained_people is None
    page = inspection_page(whole, "r.yaml")
    assert "users not trained on" in page
    assert "people" not in page
