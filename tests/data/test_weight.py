"""Weights of events: from a column, from counts; what they make of targets in training and evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from peftrec.config import InputError, RecipeError, parse_section
from peftrec.data import CleaningConfig, Columns, Dataset, Sequences, TrainingWindows
from peftrec.data.sources.tables import TablesConfig

if TYPE_CHECKING:
    from .conftest import Workspace

HEADER = "user_id,item_id,event,timestamp\n"
WEIGHTS = {"view": 0.1, "cart": 0.5, "purchase": 1.0, "hover": 0.0}
ROWS = "u,b,view,1\nu,c,cart,2\nu,d,hover,3\nu,e,purchase,4\nu,b,purchase,5\nv,b,view,1\nv,c,purchase,2\nv,d, cart ,3\n"


def load_events(workspace: Workspace, rows: str = ROWS, **values: Any) -> Dataset:
    workspace.write("interactions.csv", HEADER + rows)
    return workspace.load(**{"event_weights": WEIGHTS, **values})


def weights_of(dataset: Dataset) -> list[float]:
    assert dataset.sequences.weights is not None
    assert dataset.sequences.weights.dtype == np.float32
    return [round(float(weight), 4) for weight in dataset.sequences.weights]


def test_each_event_has_its_weight_and_those_of_none_are_dropped(workspace: Workspace) -> None:
    dataset = load_events(workspace)
    assert weights_of(dataset) == [0.1, 0.5, 1.0, 1.0, 0.1, 1.0, 0.5]
    assert dataset.report.removed("events of weight 0") == 1
    assert dataset.sequences.events is None
    assert load_events(workspace, event_weights=None).sequences.weights is None


def test_light_events_are_context_alone(workspace: Workspace) -> None:
    dataset = load_events(workspace, min_target_weight=0.5)
    assert weights_of(dataset) == [0, 0.5, 1.0, 1.0, 0, 1.0, 0.5]
    assert dataset.report.removed("weights", "targets") == 2
    assert "2 events weigh below 0.5 and are context alone" in str(dataset.report)
    only = load_events(workspace, min_target_weight=1.0)
    # v has one purchase; u tests its last and validates the one before, views and carts in their histories
    assert only.split.test.users.tolist() == [0]
    assert only.split.test.history_lengths.tolist() == [3]
    assert only.split.valid.history_lengths.tolist() == [2]


def test_weights_are_part_of_what_is_learned_from(workspace: Workspace) -> None:
    hashes = {
        load_events(workspace, **values).content_hash()
        for values in ({}, {"min_target_weight": 0.3}, {"event_weights": {**WEIGHTS, "cart": 0.6}})
    }
    assert len(hashes) == 3


def test_values_without_a_weight_are_listed_with_counts(workspace: Workspace) -> None:
    rows = ROWS + "v,e,wish,4\nv,e,wish,5\nv,e,share,6\nv,e,,7\n"
    message = (
        r"interactions\.csv, column 'event': holds events for which data\.event_weights has no weight: 'wish' "
        r"\(2 rows\), .*'share' \(1 rows\).* Values with a weight: view, cart, purchase, hover; 0 drops an event"
    )
    with pytest.raises(InputError, match=message) as caught:
        load_events(workspace, rows)
    assert "no value (1 rows)" in str(caught.value)
    with pytest.raises(InputError, match=r"'View' \(1 rows\)\. Did you mean 'view'\? Values"):
        load_events(workspace, "u,b,View,1\nu,c,cart,2\n")
    workspace.write("interactions.csv", "user_id,item_id,timestamp\nu,b,1\n")
    with pytest.raises(InputError, match=r"no column 'event' \(named by data\.columns\.event\)"):
        workspace.load(event_weights=WEIGHTS)


def test_the_heaviest_of_equal_moments_and_of_repeats_stays(workspace: Workspace) -> None:
    rows = "u,b,view,1\nu,b,purchase,1\nu,c,view,2\nu,c,purchase,3\nu,c,purchase,4\nu,d,view,5\nu,d,view,6\n"
    dataset = load_events(workspace, rows)
    assert weights_of(dataset) == [1.0, 0.1, 1.0, 1.0, 0.1, 0.1]
    assert "1 kinds of event beside" not in str(dataset.report)  # only words make kinds
    dataset = load_events(workspace, rows, cleaning=CleaningConfig(drop_repeats=True))
    assert weights_of(dataset) == [1.0, 1.0, 0.1]
    assert dataset.sequences.times is not None
    assert (dataset.sequences.times // 1000).tolist() == [1, 3, 5]


def test_ratings_are_weights_too(workspace: Workspace) -> None:
    dataset = workspace.load(
        columns=Columns(event="rating"), event_weights={"1": 0, "2": 0, "3": 0.25, "4": 0.5, "5.0": 1}
    )
    assert weights_of(dataset) == [1, 0.5, 0.25, 1, 0.5]


class TestCounts:
    COUNTED = "user_id,item_id,plays,timestamp\nu,b,8,1\nu,c,1,2\nu,d,0,3\nu,e,3,4\nv,b,2,5\n"

    def test_a_column(self, workspace: Workspace) -> None:
        workspace.write("interactions.csv", self.COUNTED)
        columns = Columns(count="plays")
        dataset = workspace.load_unsplit(columns=columns, weigh_counts=True)
        # 1 + log2 of 8, 1, 3, 2; what was never played is no event
        assert weights_of(dataset) == [4.0, 1.0, round(1 + float(np.log2(3)), 4), 2.0]
        assert dataset.report.removed("count below 1") == 1
        dataset = workspace.load_unsplit(columns=columns, cleaning=CleaningConfig(min_count=2))
        assert dataset.sequences.weights is None
        assert dataset.report.removed("count below 2") == 2

    def test_a_column_that_holds_no_numbers(self, workspace: Workspace) -> None:
        workspace.write("interactions.csv", self.COUNTED.replace("u,c,1", "u,c,often"))
        with pytest.raises(
            InputError, match=r"column 'plays': data row 2 holds 'often'; data\.cleaning\.min_count and"
        ):
            workspace.load_unsplit(columns=Columns(count="plays"), weigh_counts=True)
        workspace.write("interactions.csv", self.COUNTED.replace("u,c,1", "u,c,"))
        with pytest.raises(InputError, match=r"data row 2 holds no count \(None\), and so do 0 more"):
            workspace.load_unsplit(columns=Columns(count="plays"), weigh_counts=True)
        with pytest.raises(InputError, match=r"no column 'count' \(named by data\.columns\.count\)"):
            workspace.load_unsplit(weigh_counts=True)

    def test_repeats_become_one_event_the_newest(self, workspace: Workspace) -> None:
        workspace.write("interactions.csv", HEADER.replace(",event", "") + "u,b,1\nu,c,2\nu,b,3\nu,b,9\nu,d,4\nv,d,1\n")
        dataset = workspace.load_unsplit(cleaning=CleaningConfig(count_repeats=True), weigh_counts=True)
        assert dataset.sequences.items.tolist() == dataset.catalogue.index(["c", "d", "b", "d"]).tolist()
        assert weights_of(dataset) == [1.0, 1.0, round(1 + float(np.log2(3)), 4), 1.0]
        assert dataset.report.removed("repeats counted as one") == 2
        assert "1 hold more than one" in str(dataset.report)
        dataset = workspace.load_unsplit(cleaning=CleaningConfig(count_repeats=True, min_count=2))
        assert dataset.sequences.items.tolist() == dataset.catalogue.index(["b"]).tolist()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"event_weights": {}}, r"^data\.event_weights: is empty"),
        ({"event_weights": {"view": -1}}, r"^data\.event_weights\.view: -1 is out of range; it must be >= 0"),
        ({"event_weights": {"view": 0}}, r"^data\.event_weights: every weight is 0"),
        ({"event_weights": {" ": 1}}, r"^data\.event_weights: ' ' is no value"),
        ({"event_weights": {"5": 1, "5.0": 2}}, r"^data\.event_weights: '5' and '5\.0' are the same value"),
        ({"event_weights": {"view": "much"}}, r"^data\.event_weights\.view: expected a number"),
        ({"min_target_weight": 0.5}, r"^data\.min_target_weight: all events weigh alike"),
        ({"min_target_weight": 2, "event_weights": {"view": 1}}, r"^data\.min_target_weight: 2 lies above the largest"),
        ({"min_target_weight": 0, "event_weights": {"view": 1}}, r"^data\.min_target_weight: 0.0 is out of range"),
        (
            {"event_weights": {"view": 1}, "cleaning": {"count_repeats": True}},
            r"^data\.event_weights: tells kinds of events apart, but cleaning\.count_repeats counts them together",
        ),
        (
            {"cleaning": {"count_repeats": True, "drop_repeats": True}},
            r"^data\.cleaning\.count_repeats: true counts the repeats that drop_repeats takes away",
        ),
        ({"cleaning": {"drop_repeats": "often"}}, r"^data\.cleaning\.drop_repeats: .*One of: consecutive"),
    ],
)
def test_bad_values(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_section(TablesConfig, {"interactions": "i.csv", "items": "t.csv", **values}, path="data")


def test_counts_too_low_to_be_targets(workspace: Workspace) -> None:
    workspace.write("interactions.csv", TestCounts.COUNTED)
    with pytest.raises(InputError, match=r"none of 4 events weighs data\.min_target_weight \(9\) or more"):
        workspace.load(columns=Columns(count="plays"), weigh_counts=True, min_target_weight=9)


class TestTraining:
    def dataset(self, make_sequences: Callable[..., Sequences], weights: list[list[float]]) -> Dataset:
        from peftrec.data import Cases, Catalogue, CleaningReport, Split

        plain = make_sequences([list(range(len(user))) for user in weights])
        flat = np.array([weight for user in weights for weight in user], dtype=np.float32)
        none = Cases(*(np.empty(0, dtype=np.int64) for _ in range(3)))
        catalogue = Catalogue(*(tuple(f"i{item}" for item in range(20)),) * 3)
        return Dataset(catalogue, replace(plain, weights=flat), Split(plain.lengths, none, none), CleaningReport(()))

    def test_an_event_is_a_target_as_often_as_it_weighs(self, make_sequences: Callable[..., Sequences]) -> None:
        dataset = self.dataset(make_sequences, [[1, 2, 1, 0.5, 0, 2]] * 10)
        windows = TrainingWindows(dataset, 3)
        seen: Counter[int] = Counter()
        for epoch in range(300):
            for batch in windows.epoch(0, epoch, 8):
                seen.update(batch.targets[batch.targets >= 0].tolist())
        # 3,000 chances each, of 1, 1/2, 1/4, 0, 1
        assert seen[1] == seen[5] == 3000
        assert seen[4] == seen[0] == 0
        assert seen[2] == pytest.approx(1500, abs=140)
        assert seen[3] == pytest.approx(750, abs=120)

    def test_the_same_epoch_draws_the_same(self, make_sequences: Callable[..., Sequences]) -> None:
        dataset = self.dataset(make_sequences, [[1, 2, 1, 0.5, 0, 2]] * 10)
        windows = TrainingWindows(dataset, 3)
        epochs = [next(windows.epoch(1, epoch, 100)).targets.tolist() for epoch in (0, 0, 1)]
        assert epochs[0] == epochs[1] != epochs[2]

    def test_equal_weights_change_nothing(self, make_sequences: Callable[..., Sequences]) -> None:
        weighed = self.dataset(make_sequences, [[0.3] * 7, [0.3] * 4, [0.3]])
        plain = replace(weighed, sequences=replace(weighed.sequences, weights=None))
        for epoch in range(3):
            pairs = zip(*(TrainingWindows(data, 3).epoch(5, epoch, 2) for data in (weighed, plain)), strict=True)
            assert all(
                (one.targets == other.targets).all() and (one.users == other.users).all() for one, other in pairs
            )

    def test_no_batch_is_without_a_target(self, make_sequences: Callable[..., Sequences]) -> None:
        dataset = self.dataset(make_sequences, [[0, 1, 1000]] + [[0, 0.1, 0, 0.3]] * 20)
        drawn: Counter[int] = Counter()
        for epoch in range(40):
            for batch in TrainingWindows(dataset, 5).epoch(0, epoch, 1):
                assert (batch.targets >= 0).any()
                if batch.users[0]:
                    drawn.update(batch.targets[batch.targets >= 0].tolist())
        assert set(drawn) == {1, 3}
        assert drawn[3] / drawn[1] == pytest.approx(3, rel=0.4)

    def test_nothing_to_train_on(self, make_sequences: Callable[..., Sequences]) -> None:
        with pytest.raises(InputError, match=r"no user has two training events the second of which is a target"):
            TrainingWindows(self.dataset(make_sequences, [[1, 0], [1]]), 3)
