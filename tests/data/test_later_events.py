"""Later events behind those of a data set: histories go on, the later ones are the targets, and what does not fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from peftrec.config import InputError, RecipeError
from peftrec.data import (
    LaterPeriod,
    Timeline,
    TrainingWindows,
    begin_timeline,
    events_since,
    extend,
    load_dataset,
    read_later_tables,
)
from peftrec.data.cleaning_config import CleaningConfig, SessionConfig
from peftrec.data.item_field import fields_of
from peftrec.data.sources.tables import TablesConfig
from peftrec.data.split import GlobalTime

ITEMS = "item_id,title,color\nA,apple,red\nB,bread,\nC,cheese,yellow\nD,date,brown\n"
EARLY = [("u1", "A", 1), ("u2", "B", 2), ("u1", "B", 3), ("u2", "C", 4), ("u1", "C", 5), ("u3", "A", 6), ("u3", "B", 7)]
HOUR = 3_600
BASE = 1_600_000_000
Extend = Callable[..., Timeline]


def table(rows: list[tuple[Any, ...]], header: str = "user_id,item_id,timestamp") -> str:
    lines = [f"{row[0]},{row[1]},{BASE + HOUR * row[2]}" + "".join(f",{value}" for value in row[3:]) for row in rows]
    return "\n".join([header, *lines]) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "items.csv").write_text(ITEMS, encoding="utf-8")
    (tmp_path / "interactions.csv").write_text(table(EARLY), encoding="utf-8")
    return tmp_path


def config_of(folder: Path, **settings: Any) -> TablesConfig:
    return TablesConfig(root=str(folder), interactions="interactions.csv", items="items.csv", **settings)


def go_on(
    folder: Path,
    later: str,
    items: str | None = None,
    period: LaterPeriod | None = None,
    begun: Timeline | None = None,
    **settings: Any,
) -> tuple[Timeline, Timeline]:
    config = config_of(folder, **settings)
    (folder / "later.csv").write_text(later, encoding="utf-8")
    if items is not None:
        (folder / "new.csv").write_text(items, encoding="utf-8")
    tables = read_later_tables(config, folder / "later.csv", None if items is None else folder / "new.csv")
    begun = begin_timeline(load_dataset(config)) if begun is None else begun
    return begun, extend(begun, config, tables, period or LaterPeriod(valid_fraction=0.2, test_fraction=0.2))


LATER = [
    ("u4", "A", 10), ("u1", "D", 11), ("u2", "D", 12), ("u4", "B", 13), ("u2", "A", 14), ("u3", "C", 15),
    ("u1", "A", 16), ("u2", "B", 17), ("u3", "D", 18), ("u4", "C", 19),
]  # fmt: skip


def test_histories_go_on_and_later_events_are_the_targets(folder: Path) -> None:
    begun, grown = go_on(folder, table(LATER))
    old, new = begun.dataset, grown.dataset
    assert new.sequences.user_ids == (*old.sequences.user_ids, "u4")
    assert new.catalogue == old.catalogue
    ids = [[new.catalogue.ids[item] for item in new.sequences.items[a:b]] for a, b in pairs(new.sequences.offsets)]
    assert ids == [["A", "B", "C", "D", "A"], ["B", "C", "D", "A", "B"], ["A", "B", "C", "D"], ["A", "B", "C"]]
    assert all((np.diff(new.sequences.times[a:b]) >= 0).all() for a, b in pairs(new.sequences.offsets))
    # Six train, two validate, two test; the first event of all that u4 has is no target.
    assert new.split.train_lengths.tolist() == [4, 4, 3, 2]
    cases = [
        [
            (new.sequences.user_ids[u], n, new.catalogue.ids[t])
            for u, n, t in zip(c.users, c.history_lengths, c.targets, strict=True)
        ]
        for c in (new.split.valid, new.split.test)
    ]
    assert cases == [[("u1", 4, "A"), ("u2", 4, "B")], [("u3", 3, "D"), ("u4", 2, "C")]]
    assert (
        events_since(old, new).tolist()
        == [False] * 3 + [True] * 2 + [False] * 2 + [True] * 3 + [False] * 2 + [True] * 2 + [True] * 3
    )


def pairs(offsets: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    return list(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))


def targets_of(dataset: Any, epoch: int = 1) -> list[tuple[str, str]]:
    found = []
    for batch in TrainingWindows(dataset, 5).epoch(0, epoch, 2):
        for row, column in zip(*np.nonzero(batch.targets >= 0), strict=True):
            user, item = batch.users[row], batch.targets[row, column]
            found.append((dataset.sequences.user_ids[user], dataset.catalogue.ids[item]))
    return sorted(found)


def test_only_new_events_are_learned_unless_some_are_replayed(folder: Path) -> None:
    _, grown = go_on(folder, table(LATER))
    new = [("u1", "D"), ("u2", "A"), ("u2", "D"), ("u3", "C"), ("u4", "B")]
    assert targets_of(grown.dataset) == new
    # Leave-one-out has kept B and C of u1 from training; only what was learned comes again. Others have two events.
    period = LaterPeriod(valid_fraction=0.2, test_fraction=0.2, replay=1.0)
    _, whole = go_on(folder, table(LATER), period=period)
    assert targets_of(whole.dataset) == sorted([*new, ("u2", "C"), ("u3", "B")])
    period = dataclasses.replace(period, replay=0.5)
    _, half = go_on(folder, table(LATER), period=period)
    drawn = [targets_of(half.dataset, epoch) for epoch in range(40)]
    assert all(set(new) <= set(targets) for targets in drawn)
    replayed = sum(len(targets) - len(new) for targets in drawn)
    assert 20 < replayed < 60


def test_an_earlier_update_is_replayed_and_what_it_held_out_is_not(folder: Path) -> None:
    _, first = go_on(folder, table(LATER))
    more = table([("u5", "A", 20), ("u5", "B", 21), ("u1", "B", 22), ("u2", "C", 23), ("u5", "C", 24), ("u1", "C", 25)])
    period = LaterPeriod(valid_fraction=0.2, test_fraction=0.2, replay=1.0)
    _, second = go_on(folder, more, period=period, begun=first)
    found = targets_of(second.dataset)
    assert ("u3", "C") in found  # learned in the first update
    assert ("u3", "D") not in found  # its test case
    assert ("u1", "B") in found
    prefix = second.dataset.sequences
    lengths = first.dataset.sequences.lengths
    for user, length in enumerate(lengths):
        a, b = first.dataset.sequences.offsets[user], prefix.offsets[user]
        assert np.array_equal(first.dataset.sequences.items[a : a + length], prefix.items[b : b + length])


def test_new_items_stand_behind_the_known_ones(folder: Path) -> None:
    rows = [*LATER[:2], ("u3", "E", 11), *LATER[2:]]
    new = "item_id,title,color\nE,egg,white\nA,another apple,green\nF,fig,\n,nameless,\nE,egg again,\n"
    begun, grown = go_on(folder, table(rows), new, item_fields=("color",))
    catalogue = grown.dataset.catalogue
    assert catalogue.ids == ("A", "B", "C", "D", "E", "F")
    assert catalogue.texts == (*begun.dataset.catalogue.texts, "egg", "fig")
    assert catalogue.titles[0] == "apple"
    assert fields_of(catalogue.fields, 4) == {"color": "white"}
    assert fields_of(catalogue.fields, 0) == {"color": "red"}
    assert grown.dataset.item_counts()[4] == 1


def test_rules_that_look_at_single_events_hold(folder: Path) -> None:
    rows = [(*row, 5) for row in LATER]
    rows[5] = (*LATER[5], 1)
    (folder / "interactions.csv").write_text(
        table([(*row, 5) for row in EARLY], "user_id,item_id,timestamp,rating"), encoding="utf-8"
    )
    header = "user_id,item_id,timestamp,rating"
    cleaning = CleaningConfig(min_rating=3, drop_repeats=True)
    _, grown = go_on(folder, table([*rows, rows[-1]], header), cleaning=cleaning)
    user = grown.dataset.sequences.user_ids.index("u3")
    a, b = pairs(grown.dataset.sequences.offsets)[user]
    assert [grown.dataset.catalogue.ids[item] for item in grown.dataset.sequences.items[a:b]] == ["A", "B", "D"]
    first = grown.dataset.sequences.user_ids.index("u1")
    a, b = pairs(grown.dataset.sequences.offsets)[first]
    assert [grown.dataset.catalogue.ids[item] for item in grown.dataset.sequences.items[a:b]] == ["A", "B", "C", "D"]
    report = grown.dataset.report
    assert report.removed("duplicate interactions") == 1
    assert report.removed("repeats of earlier events") > 0


def test_weights_of_kinds_stay_beside_the_replay(folder: Path) -> None:
    header = "user_id,item_id,timestamp,event"
    early = [(*row, "view" if row[1] == "B" else "buy") for row in EARLY]
    (folder / "interactions.csv").write_text(table(early, header), encoding="utf-8")
    later = [(*row, "view" if row[1] == "B" else "buy") for row in LATER]
    period = LaterPeriod(valid_fraction=0.2, test_fraction=0.2, replay=0.5)
    _, grown = go_on(folder, table(later, header), period=period, event_weights={"view": 0.5, "buy": 1.0})
    sequences = grown.dataset.sequences
    assert sequences.weights is not None
    held = {
        (sequences.user_ids[user], grown.dataset.catalogue.ids[item]): float(weight)
        for user, item, weight in zip(
            np.repeat(np.arange(4), sequences.lengths), sequences.items, sequences.weights, strict=True
        )
    }
    assert held["u3", "B"] == 0.25  # learned before, a view
    assert held["u2", "C"] == 0.5
    assert held["u4", "B"] == 0.5
    assert held["u4", "C"] == 1.0


def test_parquet_and_other_names_of_columns(folder: Path) -> None:
    text = (folder / "interactions.csv").read_text(encoding="utf-8").replace("user_id", "who")
    (folder / "interactions.csv").write_text(text, encoding="utf-8")
    columns = dataclasses.replace(config_of(folder).columns, user="who")
    config = config_of(folder, columns=columns)
    frame = pl.DataFrame({"who": [r[0] for r in LATER], "item_id": [r[1] for r in LATER],
                          "timestamp": [BASE + HOUR * r[2] for r in LATER]})  # fmt: skip
    frame.write_parquet(folder / "later.parquet")
    tables = read_later_tables(config, folder / "later.parquet", None)
    grown = extend(begin_timeline(load_dataset(config)), config, tables, LaterPeriod())
    assert len(grown.dataset.sequences) == 4
    with pytest.raises(InputError, match=r"later\.csv: no column 'who' \(named by data\.columns\.user\)"):
        go_on(folder, table(LATER), columns=columns)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("u1", "D", 3), *LATER],
            r"later\.csv: data row 1 happened at 2020-09-13T15:26:40\.000Z, before the last event",
        ),
        (
            [*LATER, ("u1", "E", 20), ("u2", "E", 21)],
            r"data row 11 is of the item 'E', which .* 2 events are of items that are not known \('E'\)",
        ),
        ([("u3", "B", 7)], r"holds no new event: the step 'repeats of earlier events' took the last 1"),
        ([("", "A", 12)], r"holds no new event: the step 'null user or item ids' took the last 1"),
        ([("u9", "A", 12), ("u8", "A", 13)], r"leave nothing to validate"),
    ],
)
def test_events_that_do_not_fit(folder: Path, rows: list[tuple[Any, ...]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        go_on(folder, table(rows))


def test_an_item_without_a_text_is_not_known(folder: Path) -> None:
    with pytest.raises(InputError, match=r"new\.csv has no row with a text for them"):
        go_on(folder, table([*LATER, ("u1", "E", 20)]), "item_id,title\nE,\nF,fig\n")
    with pytest.raises(InputError, match="name a table with their texts in --items"):
        go_on(folder, table([*LATER, ("u1", "E", 20)]))


def test_tables_that_cannot_be_read(folder: Path) -> None:
    config = config_of(folder)
    with pytest.raises(InputError, match=r"gone\.csv"):
        read_later_tables(config, folder / "gone.csv", None)
    (folder / "later.txt").write_text("x\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="a table's name must end in one of"):
        read_later_tables(config, folder / "later.txt", None)
    (folder / "bare.csv").write_text("user_id,item_id,when\nu1,A,5\n", encoding="utf-8")
    begun = begin_timeline(load_dataset(config))
    with pytest.raises(InputError, match=r"bare\.csv, column 'timestamp' is missing; columns there: .*when"):
        extend(begun, config, read_later_tables(config, folder / "bare.csv", None), LaterPeriod())


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"timestamps": "order"}, "timestamps: order"),
        ({"sessions": SessionConfig(gap_minutes=30)}, "sessions"),
        ({"cleaning": CleaningConfig(count_repeats=True)}, "cleaning.count_repeats"),
    ],
)
def test_data_that_nothing_can_be_put_behind(folder: Path, settings: dict[str, Any], key: str) -> None:
    begun = begin_timeline(load_dataset(config_of(folder)))
    (folder / "later.csv").write_text(table(LATER), encoding="utf-8")
    config = config_of(folder, **settings)
    tables = read_later_tables(config, folder / "later.csv", None)
    with pytest.raises(InputError, match=rf"data\.{key}: such a run cannot be updated, as .*train it anew"):
        extend(begun, config, tables, LaterPeriod())


def test_shares_that_leave_nothing() -> None:
    for wrong in ({"valid_fraction": 0.0}, {"test_fraction": 1.0}, {"replay": 1.5}, {"replay": -0.1},
                  {"valid_fraction": 0.6, "test_fraction": 0.4}, {"replay": float("nan")}):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(wrong))):
            LaterPeriod(**wrong)


def test_a_global_split_goes_on(folder: Path) -> None:
    split = GlobalTime(valid_fraction=0.3, test_fraction=0.2, new_users="keep", targets="all")
    begun, grown = go_on(folder, table(LATER), split=split)
    assert begun.learned_E.sum() == begun.dataset.split.train_lengths.sum()
    assert grown.dataset.sequences.weights is not None
    assert grown.dataset.sequences.weights.sum() == len(LATER)
