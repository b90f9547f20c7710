from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from peftrec.data import CleaningConfig, CleaningReport, CleaningRow, Template
from peftrec.data.cleaning import keep_core
from peftrec.data.cleaning_step import Rules, Tables

if TYPE_CHECKING:
    from .conftest import Workspace

HEADER = "user_id,item_id,timestamp\n"


def test_null_ids_and_times(workspace: Workspace) -> None:
    workspace.write("interactions.csv", f"{HEADER}u,b,1\nu,,2\n,c,3\nu,c,\nu, ,4\nu,c,5\nu,d,6\n")
    workspace.write("items.csv", "item_id,title\n,Nobody\nb,B\nc,C\nd,D\n")
    report = workspace.load().report
    assert report.removed("null user or item ids") == 3
    assert report.removed("null times") == 1
    assert report.removed("null item ids", "items") == 1


def test_unknown_items_are_counted_with_examples(workspace: Workspace) -> None:
    workspace.write("interactions.csv", f"{HEADER}u,b,1\nu,x1,2\nu,x2,3\nu,x3,4\nu,x4,5\nu,x1,6\nu,c,7\nu,d,8\n")
    dataset = workspace.load()
    assert dataset.report.removed("unknown items") == 5
    assert "4 ids without an item, e.g. 'x1', 'x2', 'x3'" in str(dataset.report)
    assert len(dataset.sequences.items) == 3


def test_items_without_text_leave_with_their_interactions(workspace: Workspace) -> None:
    workspace.write("items.csv", "item_id,title,category\n0012,Wine,Drinks\nb,,\nc,Tea,\nd, ,Food\ne,<br>,\n")
    workspace.write("interactions.csv", f"{HEADER}u,b,1\nu,0012,2\nu,c,3\nu,d,4\n")
    dataset = workspace.load(template="{title}. {category}")
    assert dataset.catalogue.ids == ("0012", "c", "d")
    assert dataset.catalogue.texts == ("Wine. Drinks", "Tea", "Food")
    assert dataset.catalogue.titles == ("Wine", "Tea", "Food")  # an empty title shows the text
    assert dataset.report.removed("items without text", "items") == 2
    assert dataset.report.removed("items without text") == 1
    assert dataset.sequences.items.tolist() == [0, 1, 2]


def test_duplicate_items_keep_the_first(workspace: Workspace) -> None:
    workspace.write("items.csv", "item_id,title\nb,First\nc,C\nb,Second\nd,D\nd,D\n0012,R\n")
    dataset = workspace.load()
    assert dataset.catalogue.ids == ("b", "c", "d", "0012")
    assert dataset.catalogue.texts[0] == "First"
    assert dataset.report.removed("duplicate item ids", "items") == 2
    assert "first kept; 1 ids with rows that differ" in str(dataset.report)


def test_duplicates_and_repeats(workspace: Workspace) -> None:
    workspace.write("interactions.csv", f"{HEADER}u,b,5\nu,b,5\nu,c,2\nu,b,1\nu,d,7\nv,b,5\n")
    dataset = workspace.load()
    assert dataset.report.removed("duplicate interactions") == 1
    assert dataset.sequences.items[:4].tolist() == dataset.catalogue.index(["b", "c", "b", "d"]).tolist()
    dataset = workspace.load(cleaning=CleaningConfig(drop_repeats=True))
    assert dataset.sequences.items[:3].tolist() == dataset.catalogue.index(["b", "c", "d"]).tolist()
    dataset = workspace.load(cleaning=CleaningConfig(drop_duplicates=False))
    assert len(dataset.sequences.items) == 6


def test_rating_threshold(workspace: Workspace) -> None:
    workspace.write(
        "interactions.csv",
        "user_id,item_id,rating,timestamp\nu,b,4,1\nu,c,3.5,2\nu,d,4.5,3\nu,e,5,4\nu,0012,1e0,5\n",
    )
    dataset = workspace.load(cleaning=CleaningConfig(min_rating=4))
    assert dataset.sequences.items.tolist() == dataset.catalogue.index(["b", "d", "e"]).tolist()
    assert dataset.report.removed("rating below 4") == 2


def test_newest_events(workspace: Workspace) -> None:
    workspace.write("interactions.csv", f"{HEADER}u,b,1\nu,c,9\nu,d,9\nu,e,2\nv,b,1\n")
    dataset = workspace.load(cleaning=CleaningConfig(max_user_events=3))
    assert dataset.sequences.items.tolist() == dataset.catalogue.index(["e", "c", "d", "b"]).tolist()
    assert dataset.report.removed("newest 3 a user") == 1


def test_text_is_cleaned_in_every_field(workspace: Workspace) -> None:
    workspace.write("items.csv", 'item_id,title,category\nb,"A&amp;B  <b>C</b>",x&lt;br&gt;y\nc,C,\nd,D,\n0012,R,\n')
    dataset = workspace.load(template="{title}. {category}")
    assert dataset.catalogue.titles[0] == "A&B C"
    assert dataset.catalogue.texts[0] == "A&B C. x y"
    assert "1 items changed" in str(dataset.report)
    plain = workspace.load(cleaning=CleaningConfig(strip_html=False))
    assert plain.catalogue.texts[0] == "A&amp;B <b>C</b>"


def test_core_keeps_items_in_the_catalogue(workspace: Workspace) -> None:
    workspace.write("interactions.csv", f"{HEADER}u,b,1\nu,c,2\nu,d,3\nv,b,4\nv,c,5\nv,e,6\nu,b,7\nv,b,8\n")
    dataset = workspace.load(cleaning=CleaningConfig(min_item_events=2, min_user_events=3))
    assert len(dataset.catalogue) == 5
    assert set(dataset.sequences.items.tolist()) == set(dataset.catalogue.index(["b", "c"]).tolist())


def core_by_hand(events: list[tuple[int, int]], of_user: int, of_item: int) -> list[tuple[int, int]]:
    while True:
        users, items = Counter(user for user, _ in events), Counter(item for _, item in events)
        left = [(user, item) for user, item in events if users[user] >= of_user and items[item] >= of_item]
        if left == events:
            return left
        events = left


@settings(max_examples=50, deadline=None)
@given(
    events=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40),
    of_user=st.integers(1, 4),
    of_item=st.integers(1, 4),
)
def test_core_is_a_fixed_point(events: list[tuple[int, int]], of_user: int, of_item: int) -> None:
    frame = pl.DataFrame(events, schema=["user", "item"], orient="row")
    tables = Tables(frame, pl.DataFrame({"item": ["x"]}), "i", "t")
    config = CleaningConfig(min_user_events=of_user, min_item_events=of_item)
    left, _ = keep_core(tables, Rules(config, Template("{title}")))
    assert left.interactions.rows() == core_by_hand(events, of_user, of_item)


def test_report_prints_and_dumps() -> None:
    report = CleaningReport(
        (CleaningRow("read", "items", 0, 1200), CleaningRow("unknown items", "interactions", 5, 10_000, "e.g. 'x'"))
    )
    assert str(report).splitlines() == [
        "step           of            removed  remaining  note",
        "read           items               0      1,200",
        "unknown items  interactions        5     10,000  e.g. 'x'",
    ]
    assert json.loads(json.dumps(report.to_dict()))["rows"][1] == {
        "step": "unknown items",
        "subject": "interactions",
        "removed": 5,
        "remaining": 10_000,
        "note": "e.g. 'x'",
    }


def test_steps_add_up(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    rows = "".join(f"u{rng.integers(30)},{'bcdefx'[rng.integers(6)]},{rng.integers(50)}\n" for _ in range(400))
    workspace.write("interactions.csv", HEADER + rows)
    dataset = workspace.load(cleaning=CleaningConfig(min_user_events=3, drop_repeats=True, max_user_events=3))
    for subject in ("items", "interactions"):
        left: int | None = None
        for row in dataset.report.rows:
            if row.subject != subject or row.step.startswith("split"):
                continue
            assert left is None or row.remaining == left - row.removed
            left = row.remaining
