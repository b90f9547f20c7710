"""Splits by ratio, of users, of items; new users; several targets a user: by hand, and what must hold of any data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftrec.config import InputError, RecipeError, parse_section
from peftrec.data import Cases, Catalogue, CleaningReport, Dataset, Sequences, Split, SplitConfig, TrainingWindows
from peftrec.data.cold_item_split import ColdItems
from peftrec.data.ratio_split import Ratio
from peftrec.data.sources.tables import TablesConfig
from peftrec.data.split import GlobalTime, LeaveOneOut
from peftrec.data.user_split import UserHoldout

if TYPE_CHECKING:
    from .conftest import Workspace

MakeSequences = Callable[..., Sequences]


def rows(cases: Cases) -> list[tuple[int, int, int]]:
    """User, length of the history, target."""
    return list(zip(cases.users.tolist(), cases.history_lengths.tolist(), cases.targets.tolist(), strict=True))


def weighed(sequences: Sequences, weights: list[float]) -> Sequences:
    return replace(sequences, weights=np.array(weights, dtype=np.float32))


class TestGlobalTime:
    # validation is [5, 8), test from 8 on; user 3 begins in the test period, user 2 in validation
    EVENTS: ClassVar[Any] = ([[0, 1, 2, 3, 4], [5, 6], [7, 8], [9, 10]], [[0, 1, 5, 8, 9], [2, 3], [6, 7], [8, 9]])
    FRACTIONS: ClassVar[dict[str, Any]] = {
        "valid_fraction": 3 / 11,
        "test_fraction": 4 / 11,
    }  # cut at the 4th and the 7th event

    def split(self, make_sequences: MakeSequences, **values: Any) -> Split:
        return GlobalTime(**self.FRACTIONS, **values).split(make_sequences(*self.EVENTS))

    def test_first_is_the_default(self, make_sequences: MakeSequences) -> None:
        split = self.split(make_sequences, targets="first")
        assert rows(split.valid) == [(0, 2, 2)]
        assert rows(split.test) == [(0, 3, 3)]
        assert split.train_lengths.tolist() == [2, 2, 0, 0]
        assert self.split(make_sequences).note == split.note

    def test_last_and_all_know_what_came_before_in_the_period(self, make_sequences: MakeSequences) -> None:
        assert rows(self.split(make_sequences, targets="last").test) == [(0, 4, 4)]
        assert rows(self.split(make_sequences, targets="all").test) == [(0, 3, 3), (0, 4, 4)]
        assert (
            "1 users give 1 validation cases and 1 give 2 test cases" in self.split(make_sequences, targets="all").note
        )

    def test_new_users(self, make_sequences: MakeSequences) -> None:
        split = self.split(make_sequences, new_users="keep", targets="all")
        assert rows(split.valid) == [(0, 2, 2), (2, 1, 8)]
        assert rows(split.test) == [(0, 3, 3), (0, 4, 4), (3, 1, 10)]
        assert split.train_lengths.tolist() == [2, 2, 0, 0]
        assert "1 of these without a training event; 1 users begin in the test period and are kept" in split.note

    def test_a_new_user_with_one_event_gives_no_case(self, make_sequences: MakeSequences) -> None:
        split = GlobalTime(valid_fraction=0.25, test_fraction=0.25, new_users="keep").split(
            make_sequences([[0, 1, 2, 3], [4, 5, 6], [7]], [[0, 1, 4, 6], [2, 3, 5], [7]])
        )
        assert rows(split.test) == [(0, 3, 3)]


class TestRatio:
    def test_shares_of_each_user(self, make_sequences: MakeSequences) -> None:
        sequences = make_sequences([list(range(10)), [10, 11, 12], [13, 14], [15, 16, 17, 18, 19]])
        split = Ratio(valid_fraction=0.2, test_fraction=0.3).split(sequences)
        # 10: 2 validate, 3 test; 3: one each at least; 2: trains; 5: one each
        assert split.train_lengths.tolist() == [5, 1, 2, 3]
        assert rows(split.valid) == [(0, 5, 5), (0, 6, 6), (1, 1, 11), (3, 3, 18)]
        assert rows(split.test) == [(0, 7, 7), (0, 8, 8), (0, 9, 9), (1, 2, 12), (3, 4, 19)]
        assert "leaks across users in time" in split.leaks
        assert split.note == (
            "3 users give 4 validation cases and 3 give 5 test cases; 1 users have fewer than 3 events and only train"
        )

    def test_first_and_last(self, make_sequences: MakeSequences) -> None:
        sequences = make_sequences([list(range(10))])
        assert rows(Ratio(test_fraction=0.3, targets="first").split(sequences).test) == [(0, 7, 7)]
        assert rows(Ratio(test_fraction=0.3, targets="last").split(sequences).test) == [(0, 9, 9)]

    def test_one_is_left_to_train(self, make_sequences: MakeSequences) -> None:
        split = Ratio(valid_fraction=0.1, test_fraction=0.85).split(make_sequences([[0, 1, 2, 3]]))
        assert split.train_lengths.tolist() == [1]
        assert (len(split.valid), len(split.test)) == (1, 2)

    def test_a_share_that_is_whole_only_nearly(self, make_sequences: MakeSequences) -> None:
        split = Ratio(valid_fraction=0.1, test_fraction=0.29).split(make_sequences([list(range(100))]))
        assert len(split.test) == 29

    def test_nothing_left(self, make_sequences: MakeSequences) -> None:
        with pytest.raises(InputError, match=r"ratio leaves no validation case: 0 of 2 users have the 3 events"):
            Ratio().split(make_sequences([[0, 1], [2]]))


class TestUserHoldout:
    def test_no_event_of_a_held_out_user_trains(self, make_sequences: MakeSequences) -> None:
        sequences = make_sequences([[user, user + 1, user + 2] for user in range(9)] + [[0]])
        split = UserHoldout(valid_fraction=2 / 9, test_fraction=3 / 9).split(sequences)
        valid, test = set(split.valid.users.tolist()), set(split.test.users.tolist())
        assert (len(valid), len(test), len(valid & test)) == (2, 3, 0)
        assert 9 not in valid | test  # has one event, and no history to ask with
        assert split.train_lengths.tolist() == [0 if user in valid | test else 3 for user in range(9)] + [1]
        assert rows(split.test) == [(user, 2, user + 2) for user in sorted(test)]
        assert "of the held-out users themselves it trains on nothing" in split.leaks
        assert "5 users train; seed 0" in split.note

    def test_all_targets(self, make_sequences: MakeSequences) -> None:
        sequences = make_sequences([[user, user + 1, user + 2] for user in range(4)])
        split = UserHoldout(valid_fraction=0.25, test_fraction=0.25, targets="all").split(sequences)
        user = int(split.test.users[0])
        assert rows(split.test) == [(user, 1, user + 1), (user, 2, user + 2)]

    def test_the_draw_goes_by_ids_and_seed(self, make_sequences: MakeSequences) -> None:
        sequences = make_sequences([[user, 50] for user in range(30)])
        order = np.random.default_rng(1).permutation(30)
        shuffled = Sequences(
            tuple(f"u{user}" for user in order), sequences.offsets, sequences.items.reshape(30, 2)[order].ravel()
        )

        def drawn(events: Sequences, **values: Any) -> set[str]:
            return {events.user_ids[user] for user in UserHoldout(**values).split(events).test.users}

        assert drawn(sequences) == drawn(shuffled)
        assert drawn(sequences, test_fraction=0.2) > drawn(sequences)
        assert drawn(sequences, valid_fraction=0.3) == drawn(sequences)
        assert drawn(sequences, seed=1) != drawn(sequences)

    def test_a_share_of_less_than_one_user(self, make_sequences: MakeSequences) -> None:
        sequences = make_sequences([[0, 1]] * 5)
        with pytest.raises(
            InputError, match=r"data\.split\.test_fraction: 0\.1 of 5 users with two events is less than"
        ):
            UserHoldout(valid_fraction=0.2).split(sequences)
        with pytest.raises(InputError, match="none of 2 users has two events"):
            UserHoldout().split(make_sequences([[0], [1]]))


class TestColdItems:
    def test_by_hand(self, make_sequences: MakeSequences, monkeypatch: pytest.MonkeyPatch) -> None:
        # 8 validates, 9 tests
        monkeypatch.setattr("peftrec.data.cold_item_split.draw_parts", lambda *_: (np.array([8]), np.array([9])))
        sequences = make_sequences(
            [[0, 9, 1, 8, 9, 2], [9, 0], [8, 9], [3, 4, 9]], [[1, 2, 3, 4, 5, 6], [1, 2], [1, 2], [1, 2, 3]]
        )
        split = ColdItems().split(sequences)
        left = split.sequences
        assert left is not None
        assert left.items.tolist() == [0, 1, 2, 0, 3, 4]
        assert left.offsets.tolist() == [0, 3, 4, 4, 6]
        assert left.times is not None
        assert left.times.tolist() == [1, 3, 6, 2, 1, 2]
        rated = ColdItems().split(replace(sequences, ratings=np.arange(13, dtype=np.float32))).sequences
        assert rated is not None
        assert rated.ratings is not None
        assert rated.ratings.tolist() == [0, 2, 5, 7, 10, 11]
        assert split.train_lengths.tolist() == [3, 1, 0, 2]
        # The first event of a held-out item alone; users 1 and 2 have no history that is not held out.
        assert rows(split.test) == [(0, 1, 9), (3, 2, 9)]
        assert rows(split.valid) == [(0, 2, 8)]
        assert split.test.histories(left, 0, 2).tolist() == [[-1, 0], [3, 4]]
        assert "no event of a held-out item is trained on, its text is read" in split.leaks
        assert "1 and 1 of 7 items with events never train, 7 events of theirs taken out" in split.note

    def test_first_and_last(self, make_sequences: MakeSequences, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("peftrec.data.cold_item_split.draw_parts", lambda *_: (np.array([9]), np.array([7, 8])))
        sequences = make_sequences([[0, 7, 1, 8, 9]])
        assert rows(ColdItems(targets="first").split(sequences).test) == [(0, 1, 7)]
        assert rows(ColdItems(targets="last").split(sequences).test) == [(0, 2, 8)]
        assert rows(ColdItems(targets="all").split(sequences).test) == [(0, 1, 7), (0, 2, 8)]

    def test_nothing_left(self, make_sequences: MakeSequences) -> None:
        with pytest.raises(
            InputError, match=r"data\.split\.valid_fraction: 0\.1 of 4 items with events is less than one"
        ):
            ColdItems(test_fraction=0.5).split(make_sequences([[0, 1], [2, 3]]))
        with pytest.raises(InputError, match=r"cold_items leaves no validation case: no user has an event of the 1"):
            ColdItems(valid_fraction=0.25, test_fraction=0.25).split(make_sequences([[0], [1], [2], [3]]))

    def test_in_a_data_set(self, workspace: Workspace) -> None:
        turned = [("bcde"[turn:] + "bcde"[:turn]) for turn in range(4)]
        events = [f"u{user},{item},{place}\n" for user in range(8) for place, item in enumerate(turned[user % 4])]
        workspace.write("interactions.csv", "user_id,item_id,timestamp\n" + "".join(events))
        split = ColdItems(valid_fraction=0.25, test_fraction=0.5)
        dataset = workspace.load(split=split)
        held = set(dataset.split.valid.targets.tolist()) | set(dataset.split.test.targets.tolist())
        assert len(held) == 3
        assert (dataset.item_counts() > 0).sum() == 1
        assert len(dataset.sequences.items) == 8
        # Who asks for other targets measures on other data, though the same events are left to train.
        first = workspace.load(split=replace(split, targets="first"))
        assert first.sequences.items.tolist() == dataset.sequences.items.tolist()
        assert first.content_hash() != dataset.content_hash()
        assert workspace.load(split=split).content_hash() == dataset.content_hash()


def test_targets_are_only_what_weighs(make_sequences: MakeSequences) -> None:
    sequences = weighed(make_sequences([[0, 1, 2, 3, 4, 5], [6, 7, 8]]), [0, 1, 0, 1, 0, 0, 1, 0, 1])
    split = LeaveOneOut().split(sequences)
    # user 0: the targets are 1 and 3; user 1 has one target after its first event
    assert rows(split.test) == [(0, 3, 3)]
    assert rows(split.valid) == [(0, 1, 1)]
    assert split.train_lengths.tolist() == [1, 3]
    assert "1 have fewer than 2 targets after their first event and only train" in split.note
    holdout = UserHoldout(valid_fraction=0.5, test_fraction=0.49, targets="all")
    with pytest.raises(InputError, match=r"test_fraction: 0\.49 of 2 users"):
        holdout.split(sequences)
    times = replace(sequences, times=np.array([0, 1, 2, 3, 4, 5, 0, 1, 6]))
    # cuts at 1 and 4: user 0 has targets at 1 and 3, and what follows weighs nothing
    split = GlobalTime(valid_fraction=0.3, test_fraction=0.3, targets="all").split(times)
    assert rows(split.valid) == [(0, 1, 1), (0, 3, 3)]
    assert rows(split.test) == [(1, 2, 8)]
    with pytest.raises(InputError, match=r"two of them targets after the first \(data\.min_target_weight\)"):
        LeaveOneOut().split(weighed(sequences, [1, 0, 0, 0, 0, 0, 1, 1, 0]))
    with pytest.raises(
        InputError, match=r"ratio leaves no validation case.*below data\.min_target_weight is no target"
    ):
        Ratio().split(weighed(sequences, [1, 0, 0, 0, 0, 0, 1, 0, 0]))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"kind": "ratio", "test_fraction": 1.0}, r"data\.split\.test_fraction: 1\.0 is out of range"),
        ({"kind": "ratio", "valid_fraction": 0.5, "test_fraction": 0.5}, r"data\.split: .*below 1, got 1"),
        ({"kind": "user_holdout", "targets": "first"}, r"data\.split\.targets: 'first' .* One of: last, all"),
        ({"kind": "cold_items", "seed": -1}, r"data\.split\.seed: -1 is out of range"),
        ({"kind": "global_time", "new_users": "some"}, r"data\.split\.new_users: 'some' .* One of: drop, keep"),
        ({"kind": "cold_item"}, r"data\.split\.kind: unknown kind 'cold_item'.*Did you mean 'cold_items'"),
    ],
)
def test_in_a_recipe(split: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_section(TablesConfig, {"interactions": "i.csv", "items": "t.csv", "split": split}, path="data")


_SPLITS: dict[str, Callable[[str, int], SplitConfig]] = {
    "leave_one_out": lambda _targets, _seed: LeaveOneOut(),
    "ratio": lambda targets, _: Ratio(valid_fraction=0.2, test_fraction=0.2, targets=targets),  # type: ignore[arg-type]
    "global_time": lambda targets, seed: GlobalTime(
        valid_fraction=0.2,
        test_fraction=0.3,
        targets=targets,
        new_users=("keep", "drop")[seed % 2],  # type: ignore[arg-type]
    ),
    "user_holdout": lambda targets, seed: UserHoldout(
        valid_fraction=0.3,
        test_fraction=0.3,
        targets="all" if targets == "first" else targets,
        seed=seed,  # type: ignore[arg-type]
    ),
    "cold_items": lambda targets, seed: ColdItems(valid_fraction=0.2, test_fraction=0.3, targets=targets, seed=seed),  # type: ignore[arg-type]
}
_users = st.lists(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 30)), max_size=9), min_size=1, max_size=8)


@pytest.mark.parametrize("kind", _SPLITS)
@settings(max_examples=60, deadline=None)
@given(users=_users, targets=st.sampled_from(["first", "last", "all"]), seed=st.integers(0, 5), data=st.data())
def test_what_holds_of_every_split(
    kind: str, users: list[list[tuple[int, int]]], targets: str, seed: int, data: st.DataObject
) -> None:
    events = [sorted(user, key=lambda event: event[1]) for user in users]
    flat = [event for user in events for event in user]
    offsets = np.cumsum([0, *(len(user) for user in events)]).astype(np.int64)
    weights = data.draw(st.none() | st.lists(st.sampled_from([0.0, 1.0]), min_size=len(flat), max_size=len(flat)))
    sequences = Sequences(
        tuple(f"u{number}" for number in range(len(events))),
        offsets,
        np.array([item for item, _ in flat], dtype=np.int64),
        np.array([time for _, time in flat], dtype=np.int64),
        weights=None if weights is None else np.array(weights, dtype=np.float32),
    )
    if not flat:
        return
    try:
        split = _SPLITS[kind](targets, seed).split(sequences)
    except InputError:
        return
    left = sequences if split.sequences is None else split.sequences
    assert len(split.train_lengths) == len(left) == len(sequences)
    assert (split.train_lengths <= left.lengths).all()
    valid, test = set(rows(split.valid)), set(rows(split.test))
    assert len(valid) == len(split.valid) > 0
    assert len(test) == len(split.test) > 0
    assert not valid & test
    for user, length, target in valid | test:
        assert 1 <= length <= left.lengths[user]
        start = int(left.offsets[user])
        if kind != "cold_items":
            # The target is the event right after its history, lies behind what trains, and may be a target.
            assert left.items[start + length] == target
            assert length >= split.train_lengths[user]
            assert left.times is not None
            assert left.times[start : start + length].max() <= left.times[start + length]
            assert left.weights is None or left.weights[start + length] > 0
        else:
            # The history is what stays of the events before the first one of the target that may be a target.
            first = int(offsets[user])
            asked = next(
                place
                for place, (item, _) in enumerate(events[user])
                if item == target and (weights is None or weights[first + place] > 0)
            )
            stay = set(left.items.tolist())
            assert length == sum(item in stay for item, _ in events[user][:asked])
    if kind == "cold_items":
        held = {target for _, _, target in valid | test}
        assert not held & set(left.items.tolist())
        assert not {target for _, _, target in valid} & {target for _, _, target in test}
    if targets != "all" and kind != "user_holdout":
        assert len(set(split.test.users.tolist())) == len(split.test)
    catalogue = Catalogue(*(tuple(f"i{number}" for number in range(12)),) * 3)
    try:
        windows = TrainingWindows(Dataset(catalogue, left, split, CleaningReport(())), 3)
    except InputError:
        return
    trained = {
        (int(user), int(batch.starts[row]) + place)
        for batch in windows.epoch(seed, 0, 4)
        for row, user in enumerate(batch.users)
        for place in range(1 + int((batch.inputs[row] >= 0).sum()))
    }
    assert all(place < split.train_lengths[user] for user, place in trained)
