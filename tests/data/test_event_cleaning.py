"""Bots, sessions and repeats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from peftrec.config import InputError, RecipeError, parse_section
from peftrec.data import CleaningConfig, Dataset, SampleConfig, SessionConfig
from peftrec.data.attribute import NumericAttribute
from peftrec.data.sources.tables import TablesConfig
from peftrec.data.split import GlobalTime

if TYPE_CHECKING:
    from .conftest import Workspace

HEADER = "user_id,item_id,timestamp\n"
DAY, HOUR, MINUTE = 86_400, 3_600, 60
START = 1_700_000_000


def histories(dataset: Dataset) -> dict[str, str]:
    """Ids of each user's items, one letter each."""
    sequences = dataset.sequences
    bounds = zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
    return {
        user: "".join(dataset.catalogue.ids[item][:1] for item in sequences.items[start:stop])
        for user, (start, stop) in zip(sequences.user_ids, bounds, strict=True)
    }


def rows(user: str, *events: tuple[str, int]) -> str:
    return "".join(f"{user},{item},{START + seconds}\n" for item, seconds in events)


class TestBots:
    def test_a_rate_within_any_day(self, workspace: Workspace) -> None:
        hasty = rows("hasty", ("b", 0), ("c", 20 * HOUR), ("d", 30 * HOUR), ("e", 43 * HOUR))  # three within 23 hours
        steady = rows("steady", ("b", 0), ("c", HOUR), ("d", DAY), ("e", DAY + HOUR))  # the third exactly a day later
        workspace.write("interactions.csv", HEADER + hasty + steady)
        dataset = workspace.load_unsplit(cleaning=CleaningConfig(bot_events_per_day=2))
        assert histories(dataset) == {"steady": "bcde"}
        step = "bots: over 2 events a day"
        assert (dataset.report.removed(step, "users"), dataset.report.removed(step)) == (1, 4)
        assert len(workspace.load_unsplit(cleaning=CleaningConfig(bot_events_per_day=3)).sequences) == 2

    def test_the_order_of_the_file_does_not_matter(self, workspace: Workspace) -> None:
        events = rows("u", ("b", 9), ("c", 5 * DAY), ("d", 8)) + rows("v", ("b", 1))
        workspace.write("interactions.csv", HEADER + events)
        assert histories(workspace.load_unsplit(cleaning=CleaningConfig(bot_events_per_day=1))) == {"v": "b"}

    def test_events_in_all(self, workspace: Workspace) -> None:
        many = rows("u", *(("bcde"[day % 4], day * DAY) for day in range(5)))
        workspace.write("interactions.csv", HEADER + many + rows("v", ("b", 0), ("c", 1), ("d", 2)))
        dataset = workspace.load_unsplit(cleaning=CleaningConfig(bot_events=4, bot_events_per_day=3))
        assert histories(dataset) == {"v": "bcd"}
        assert dataset.report.removed("bots: over 4 events", "users") == 1
        assert dataset.report.removed("bots: over 3 events a day", "users") == 0

    def test_all_are_bots(self, workspace: Workspace) -> None:
        workspace.write("interactions.csv", HEADER + rows("u", ("b", 0), ("c", 1)))
        with pytest.raises(InputError, match=r"the cleaning step 'bots: over 1 events' took the last 1 users"):
            workspace.load_unsplit(cleaning=CleaningConfig(bot_events=1))


class TestSessions:
    EVENTS = (
        rows("ann", ("b", 0), ("c", 10 * MINUTE), ("d", 40 * MINUTE), ("e", 71 * MINUTE))
        + rows("ben", ("b", 0), ("c", 5))
        + rows("ann", ("0012", 70 * MINUTE))
    )

    def test_a_longer_pause_begins_another(self, workspace: Workspace) -> None:
        workspace.write("interactions.csv", HEADER + self.EVENTS)
        dataset = workspace.load_unsplit(sessions=SessionConfig(gap_minutes=29), cleaning=CleaningConfig())
        assert histories(dataset) == {"ann#1": "bc", "ann#2": "d", "ann#3": "0e", "ben#1": "bc"}
        # A pause of just so many minutes is none.
        dataset = workspace.load_unsplit(sessions=SessionConfig(gap_minutes=30))
        assert histories(dataset) == {"ann#1": "bcd0e", "ben#1": "bc"}
        row = next(row for row in dataset.report.rows if row.subject == "sessions")
        assert (row.step, row.remaining) == ("sessions by pauses over 30 minutes", 2)
        assert row.note == "of 2 users; 0 with one event; each now stands for a user"

    def test_steps_that_follow_take_them_for_users(self, workspace: Workspace) -> None:
        workspace.write("interactions.csv", HEADER + self.EVENTS + rows("ann", ("e", 72 * MINUTE)))
        cleaning = CleaningConfig(min_user_events=2, drop_repeats=True)
        dataset = workspace.load_unsplit(sessions=SessionConfig(gap_minutes=29), cleaning=cleaning)
        assert histories(dataset) == {"ann#1": "bc", "ann#3": "0e", "ben#1": "bc"}

    def test_texts_are_those_of_the_user(self, workspace: Workspace) -> None:
        workspace.write("interactions.csv", HEADER + self.EVENTS)
        workspace.write("users.csv", "user_id,age\nann,31\nben,\n")
        dataset = workspace.load_unsplit(
            sessions=SessionConfig(gap_minutes=29), users="users.csv", user_template="{age} years"
        )
        assert dataset.user_texts == ("31 years", "31 years", "31 years", "")

    def test_rows_of_the_report_count_sessions(self, workspace: Workspace) -> None:
        workspace.write("interactions.csv", HEADER + self.EVENTS)
        workspace.write("users.csv", "user_id,age\nann,31\nben,\n")
        told = {
            "users": "users.csv",
            "user_template": "{age} years",
            "user_attributes": {"age": NumericAttribute()},
        }
        for sessions, unit, size in ((SessionConfig(gap_minutes=29), "sessions", 3), (None, "users", 2)):
            values = {**told, "sample": SampleConfig(users=size), "sessions": sessions}
            report = workspace.load_unsplit(**values).report
            counted = {(row.step, row.subject): row.remaining for row in report.rows}
            steps = (f"sample of {size} {unit}", "user texts", "user attributes")
            assert {step: counted.get((step, unit)) for step in steps} == dict.fromkeys(steps, size)

    def test_owners_tell_whose_session_it_is(self, workspace: Workspace) -> None:
        workspace.write("interactions.csv", HEADER + self.EVENTS)
        sequences = workspace.load_unsplit(sessions=SessionConfig(gap_minutes=29)).sequences
        assert sequences.user_ids == ("ann#1", "ann#2", "ann#3", "ben#1")
        assert sequences.owners is not None
        assert sequences.owners.tolist() == [0, 0, 0, 1]
        assert workspace.load_unsplit().sequences.owners is None

    def test_they_suit_a_split_in_time_that_keeps_new_users(self, workspace: Workspace) -> None:
        visits = "".join(
            rows("ann", *((item, day * DAY + place) for place, item in enumerate("bcd"))) for day in range(10)
        )
        workspace.write("interactions.csv", HEADER + visits)
        split = GlobalTime(new_users="keep", targets="all")
        dataset = workspace.load(sessions=SessionConfig(gap_minutes=30), split=split)
        assert dataset.sequences.user_ids == tuple(f"ann#{day}" for day in range(1, 11))
        assert dataset.split.train_lengths.tolist() == [3] * 8 + [0, 0]
        assert dataset.split.test.users.tolist() == [9, 9]
        assert dataset.split.test.history_lengths.tolist() == [1, 2]

    def test_in_a_recipe(self) -> None:
        files = {"interactions": "i.csv", "items": "t.csv"}
        values: list[tuple[dict[str, Any], str]] = [
            ({"sessions": {"gap_minutes": 0}}, r"^data\.sessions\.gap_minutes: 0\.0 is out of range"),
            ({"sessions": {}}, r"^data\.sessions\.gap_minutes: missing"),
            ({"sessions": {"gap_minutes": 30}, "timestamps": "order"}, r"^data\.sessions: needs times, but data\.time"),
            (
                {"cleaning": {"bot_events_per_day": 9}, "timestamps": "order"},
                r"^data\.cleaning\.bot_events_per_day: needs times",
            ),
        ]
        for given, message in values:
            with pytest.raises(RecipeError, match=message):
                parse_section(TablesConfig, {**files, **given}, path="data")


class TestRepeats:
    def test_those_that_directly_follow_each_other(self, workspace: Workspace) -> None:
        events = rows("u", ("b", 5), ("b", 1), ("c", 2), ("c", 3), ("c", 4), ("d", 6), ("b", 7))
        workspace.write("interactions.csv", HEADER + events + rows("v", ("b", 7), ("b", 8), ("b", 9)))
        dataset = workspace.load_unsplit(cleaning=CleaningConfig(drop_repeats="consecutive"))
        assert histories(dataset) == {"u": "bcbdb", "v": "b"}
        assert dataset.report.removed("consecutive repeats") == 4
        assert dataset.sequences.times is not None
        assert (dataset.sequences.times // 1000 - START).tolist() == [1, 2, 5, 6, 7, 7]

    def test_kept_dropped_and_dropped_where_consecutive(self, workspace: Workspace) -> None:
        workspace.write("interactions.csv", HEADER + rows("u", ("b", 1), ("b", 2), ("c", 3), ("b", 4), ("d", 5)))
        for drop, expected in ((False, "bbcbd"), ("consecutive", "bcbd"), (True, "bcd")):
            cleaning = parse_section(CleaningConfig, {"drop_repeats": drop})
            assert histories(workspace.load_unsplit(cleaning=cleaning)) == {"u": expected}
