"""Data as they come: what is wrong is an error that says what, or is counted; what is only odd goes through."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from peftrec.config import InputError
from peftrec.data import Sequences, SplitConfig, inspect_dataset
from peftrec.data.cold_item_split import ColdItems
from peftrec.data.ratio_split import Ratio
from peftrec.data.split import GlobalTime, LeaveOneOut
from peftrec.data.user_split import UserHoldout

if TYPE_CHECKING:
    from .conftest import Workspace

HEADER = "user_id,item_id,timestamp\n"


@pytest.mark.parametrize(
    ("split", "events", "message"),
    [
        (LeaveOneOut(), [[0, 1], [2, 3]], r"^data\.split\.kind: leave_one_out leaves no test case: none of the 2"),
        (Ratio(), [[0, 1], [2, 3]], r"ratio leaves no validation case: 0 of 2 users have the 3 events"),
        (
            GlobalTime(),
            [[0], [1], [2], [3], [4]],
            r"^data\.split\.kind: global_time leaves no validation case: no user has an",
        ),
        (UserHoldout(), [[0, 1], [2, 3]], r"valid_fraction: 0\.1 of 2 users with two events is less than one"),
        (UserHoldout(), [[0], [1]], r"user_holdout leaves no test case: none of 2 users has two events"),
        (ColdItems(), [[0, 1], [2, 3]], r"valid_fraction: 0\.1 of 4 items with events is less than one"),
        (
            ColdItems(valid_fraction=0.4, test_fraction=0.4),
            [[0], [1], [2], [3], [4]],
            r"cold_items leaves no validation",
        ),
    ],
)
def test_a_split_that_leaves_nothing(
    make_sequences: Callable[..., Sequences], split: SplitConfig, events: list[list[int]], message: str
) -> None:
    times = [list(range(number, number + len(user))) for number, user in enumerate(events)]
    with pytest.raises(InputError, match=message) as caught:
        split.split(make_sequences(events, times))
    assert "\n" not in str(caught.value)


def test_a_description_of_a_million_characters(workspace: Workspace) -> None:
    long = "word " * 200_000
    workspace.write("items.csv", f'item_id,title,text\n0012,Red,"{long}"\nb,Blue,x\nc,Green,\nd,Black,y\ne,White,z\n')
    dataset = workspace.load(template="{title}. {text}")
    assert len(dataset.catalogue.texts[0]) == len("Red. ") + 999_999
    found = inspect_dataset(dataset)
    assert found.texts.characters.percentiles[100] == 1_000_004
    assert found.texts.lengths.percentiles[100] == 200_001


ODD_TITLES = (
    "🎉👩‍👩‍👧 Party Hat 🏳️‍🌈", "שלום עולם ‏(אדום)", "قبعة حمراء ﷺ", "e\u0301clair ﬁne ß",
    "\u202eevil\u202c", "\U0001f469\u200d",
)  # fmt: skip


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_emoji_and_text_from_right_to_left(workspace: Workspace, form: str) -> None:
    items = pl.DataFrame({"item_id": [f"🎈{place}" for place in range(6)], "title": ODD_TITLES})
    events = pl.DataFrame(
        {"user_id": ["משתמש"] * 4, "item_id": [f"🎈{place}" for place in (0, 1, 4, 2)], "timestamp": [1, 2, 3, 4]}
    )
    for name, frame in (("items", items), ("interactions", events)):
        path = workspace.root / f"{name}.{form}"
        {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[form](path)
    dataset = workspace.load(interactions=f"interactions.{form}", items=f"items.{form}")
    assert dataset.catalogue.titles == ODD_TITLES
    assert dataset.sequences.user_ids == ("משתמש",)
    assert dataset.sequences.items.tolist() == [0, 1, 4, 2]
    assert inspect_dataset(dataset).texts.languages["Hebrew"] == 1


def test_all_titles_are_the_same(workspace: Workspace) -> None:
    workspace.write("items.csv", "item_id,title\n" + "".join(f"{item},Hat\n" for item in ("0012", *"bcde")))
    dataset = workspace.load()
    assert len(dataset.catalogue) == 5
    found = inspect_dataset(dataset)
    assert (found.texts.same_title, found.texts.same_text, found.texts.frequent_title) == (5, 5, ("Hat", 5))
    assert "5 share their text with another" in str(dataset.report)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("timestamp", ["1700000000", "yesterday"], r"column 'timestamp': data row 2 holds 'yesterday'; a time must be"),
        ("timestamp", ["2024-05-01", "1700000000"], r"column 'timestamp': data row \d holds"),
        ("timestamp", ["1700000000", "1700000000000"], r"mixed units"),
        (
            "rating",
            ["5", "good"],
            r"column 'rating': data row 2 holds 'good'; data\.cleaning\.min_rating needs a number",
        ),
    ],
)
def test_columns_of_mixed_types(workspace: Workspace, column: str, values: list[str], message: str) -> None:
    from peftrec.data import CleaningConfig

    rows = {"user_id": ["u", "u"], "item_id": ["b", "c"], "timestamp": ["1", "2"], "rating": ["5", "4"], column: values}
    workspace.write("interactions.csv", "")
    pl.DataFrame(rows).write_csv(workspace.root / "interactions.csv")
    with pytest.raises(InputError, match=message):
        workspace.load(cleaning=CleaningConfig(min_rating=1))


def test_ids_of_mixed_types_are_text(workspace: Workspace) -> None:
    rows: list[dict[str, Any]] = [
        {"user_id": user, "item_id": item, "timestamp": place}
        for place, (user, item) in enumerate([(1, "b"), ("1", "c"), (2.0, 7), (1, "7"), ("x", "d")])
    ]
    workspace.write("interactions.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    workspace.write("items.csv", "item_id,title\nb,B\nc,C\nd,D\n7,Seven\n")
    dataset = workspace.load_unsplit(interactions="interactions.jsonl")
    assert dataset.sequences.user_ids == ("1", "2", "x")
    assert dataset.sequences.items.tolist() == [0, 1, 3, 3, 2]


def test_nested_values_are_refused(workspace: Workspace) -> None:
    workspace.write("items.jsonl", '{"item_id": "b", "title": {"en": "B"}}\n{"item_id": "c", "title": {"en": "C"}}\n')
    with pytest.raises(InputError, match=r"column 'title' holds Struct.* values; flatten it to text first"):
        workspace.load(items="items.jsonl")
