"""Kinds of events: from a column to codes that stay beside their events."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftrec.config import InputError, RecipeError, parse_section
from peftrec.data import Cases, CleaningConfig, Columns, Dataset, SampleConfig, Sequences, TrainingWindows, load_dataset
from peftrec.data.source import WHOLE_NUMBER, event_value
from peftrec.data.sources.movielens import MovieLensConfig
from peftrec.data.sources.tables import TablesConfig

if TYPE_CHECKING:
    from .conftest import Workspace

HEADER = "user_id,item_id,event,timestamp\n"
WORDS = {"view": "viewed", "cart": "looked at", "click": "viewed", "purchase": "bought"}


def load_events(workspace: Workspace, rows: str, **values: Any) -> Dataset:
    workspace.write("interactions.csv", HEADER + rows)
    return workspace.load(**{"event_words": WORDS, **values})


def words_of(dataset: Dataset) -> list[str]:
    assert dataset.event_words is not None
    assert dataset.sequences.events is not None
    assert dataset.sequences.events.dtype == np.int64
    return [dataset.event_words[code] for code in dataset.sequences.events]


def test_each_event_keeps_its_word(workspace: Workspace) -> None:
    dataset = load_events(workspace, "u,d,purchase,9\nv,b, click ,1\nu,b,view,1\nu,c,cart,5\n")
    assert dataset.event_words == ("viewed", "looked at", "bought")
    assert dataset.sequences.items.tolist() == dataset.catalogue.index(["b", "c", "d", "b"]).tolist()
    assert words_of(dataset) == ["viewed", "looked at", "bought", "viewed"]


def test_without_words_the_column_is_not_read(workspace: Workspace) -> None:
    dataset = load_events(workspace, "u,b,,1\nu,c,?,2\nu,d,x,3\n", event_words=None)
    assert dataset.sequences.events is None
    assert dataset.event_words is None


def test_cleaning_and_sampling_carry_the_kinds(workspace: Workspace) -> None:
    rows = (
        "u,b,view,1\n,c,cart,2\nu,nowhere,purchase,3\nu,c,purchase,4\nu,c,view,4\nu,b,purchase,5\nu,d,cart,6\n"
        "v,b,view,1\nv,c,purchase,2\nv,d,purchase,3\nw,b,view,1\n"
    )
    dataset = load_events(workspace, rows)
    viewed, looked, bought = "viewed", "looked at", "bought"
    # Of two kinds at one moment the first in the file stays, and the report counts the other.
    assert words_of(dataset) == [viewed, bought, bought, looked, viewed, bought, bought, viewed]
    assert "1 kinds of event beside the first kept" in str(dataset.report)
    cleaning = CleaningConfig(drop_repeats=True, min_user_events=2, max_user_events=3)
    dataset = load_events(workspace, rows + "u,e,view,7\n", cleaning=cleaning)
    assert dataset.sequences.user_ids == ("u", "v")
    assert words_of(dataset) == [bought, looked, viewed, viewed, bought, bought]
    by_user = {"u": [viewed, bought, bought, looked], "v": [viewed, bought, bought]}
    for seed in range(4):
        only = load_events(
            workspace, rows, sample=SampleConfig(users=1, seed=seed), cleaning=CleaningConfig(min_user_events=2)
        )
        assert words_of(only) == by_user[only.sequences.user_ids[0]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "u,b,view,1\nu,c,wish,2\nu,d,wish,3\n",
            r"column 'event': data row 2 holds 'wish', for which data\.event_words has no word; 1 more rows have "
            r"no word either\. Values with a word: view, cart, click, purchase",
        ),
        ("u,b,View,1\n", r"data row 1 holds 'View', for which data\.event_words has no word\. Did you mean 'view'\?"),
        (
            "u,b,view,1\nu,c,,2\n",
            r"data row 2 holds no value \(None\); data\.event_words needs one in every row\. Values with a word: view,",
        ),
        ("u,b,view,1\nu,c, ,2\n", r"data row 2 holds no value \(' '\)"),
    ],
)
def test_values_without_a_word(workspace: Workspace, rows: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_events(workspace, rows)
    assert str(workspace.root / "interactions.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_column(workspace: Workspace) -> None:
    with pytest.raises(
        InputError, match=r"no column 'event' \(named by data\.columns\.event\)\. .*Columns there: user"
    ):
        workspace.load(event_words=WORDS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, r"^data\.event_words: is empty; give each value of the column a word, such as \{view: viewed"),
        ({"view": " "}, r"^data\.event_words\.view: ' ' is no word"),
        ({" ": "viewed"}, r"^data\.event_words: ' ' is no value"),
        ({"5": "loved", "5.0": "liked"}, r"^data\.event_words: '5' and '5\.0' are the same value; keep one"),
        ({5: "loved"}, r"^data\.event_words: expected a text \(put it in quotes\), found 5 \(int\)"),
        ({"view": 1}, r"^data\.event_words\.view: expected a text \(put it in quotes\), found 1 \(int\)"),
    ],
)
def test_bad_words(words: dict[Any, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_section(TablesConfig, {"interactions": "i.csv", "items": "t.csv", "event_words": words}, path="data")


RATED = {"5": "loved", "4.0": "liked", "3.5": "bore", "1": "hated"}


@pytest.mark.parametrize("dtype", [pl.String, pl.Float64, pl.Float32])
@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_ratings_are_kinds_too(workspace: Workspace, dtype: Any, form: str) -> None:
    frame = pl.DataFrame(
        {"user_id": ["u"] * 5, "item_id": list("bcdeb"), "rating": [5.0, 4.0, 3.5, 1.0, 5.0], "timestamp": range(5)}
    ).with_columns(pl.col("rating").cast(dtype))
    path = workspace.root / f"interactions.{form}"
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[form](path)
    values = {"interactions": path.name, "event_words": RATED, "columns": Columns(event="rating")}
    assert words_of(workspace.load(**values)) == ["loved", "liked", "bore", "hated", "loved"]
    assert words_of(workspace.load(**values, cleaning=CleaningConfig(min_rating=4))) == ["loved", "liked", "loved"]


def test_whole_ratings_match_with_and_without_a_point(workspace: Workspace) -> None:
    for written in ("5", "5.0", "5.00", " 5 "):
        workspace.write("interactions.csv", f"user_id,item_id,rating,timestamp\nu,b,{written},1\nu,c,4,2\nu,d,4.0,3\n")
        for words in ({"5": "loved", "4": "liked"}, {"5.0": "loved", "4.00": "liked"}):
            dataset = workspace.load(event_words=words, columns=Columns(event="rating"))
            assert words_of(dataset) == ["loved", "liked", "liked"]
    # Ids that only look like numbers stay apart.
    workspace.write("interactions.csv", "user_id,item_id,rating,timestamp\nu,b,05,1\nu,c,5,2\nu,d,5.5,3\n")
    words = {"05": "first", "5": "second", "5.5": "third"}
    assert words_of(workspace.load(event_words=words, columns=Columns(event="rating"))) == ["first", "second", "third"]


@given(st.text(alphabet="0123456789.+- ab", max_size=8))
def test_recipes_and_columns_are_compared_alike(text: str) -> None:
    column = pl.Series([text]).str.strip_chars().str.replace(WHOLE_NUMBER, "$1")
    assert column[0] == event_value(text)


def test_batches_hold_the_kind_of_each_input(workspace: Workspace) -> None:
    rows = "".join(
        f"u{user},{'bcde'[(user + time) % 4]},{list(WORDS)[(user * 3 + time * time) % 4]},{time}\n"
        for user in range(12)
        for time in range(3 + user)
    )
    dataset = load_events(workspace, rows)
    sequences = dataset.sequences
    assert sequences.events is not None
    windows = TrainingWindows(dataset, 3)
    for epoch in range(3):
        for batch in windows.epoch(1, epoch, 4):
            assert batch.events is not None
            assert batch.events.shape == batch.inputs.shape
            assert ((batch.events < 0) == (batch.inputs < 0)).all()
            for row, user in enumerate(batch.users):
                first = int(sequences.offsets[user] + batch.starts[row])
                kinds = [int(kind) for kind in batch.events[row] if kind >= 0]
                assert kinds == sequences.events[first : first + len(kinds)].tolist()
    plain = TrainingWindows(load_events(workspace, rows, event_words=None), 3)
    assert all(batch.events is None for batch in plain.epoch(0, 0, 4))


def test_kinds_of_histories(make_sequences: Callable[..., Sequences]) -> None:
    plain = make_sequences([[1, 2, 3], [4], [5, 6, 7, 8]])
    assert plain.gather_events(plain.offsets[:-1], plain.lengths, 4) is None
    kinds = np.array([0, 1, 0, 1, 1, 0, 0, 1])
    sequences = Sequences(plain.user_ids, plain.offsets, plain.items, events=kinds)
    cases = Cases(np.array([2, 1, 0]), np.array([3, 0, 2]), np.array([8, 4, 3]))
    assert cases.event_histories(plain, 0, 3) is None
    assert cases.histories(sequences, 0, 3).tolist() == [[5, 6, 7], [-1, -1, -1], [-1, 1, 2]]
    assert [kind.tolist() for kind in [cases.event_histories(sequences, 0, 3)] if kind is not None] == [
        [[1, 0, 0], [-1, -1, -1], [-1, 0, 1]]
    ]
    shorter = cases.event_histories(sequences, 0, 99, 2)
    assert shorter is not None
    assert shorter.tolist() == [[0, 0], [-1, -1], [0, 1]]
    with pytest.raises(ValueError, match="max_length must be at least 1"):
        cases.event_histories(sequences, 0, 1, 0)


def test_kinds_must_fit(make_sequences: Callable[..., Sequences]) -> None:
    plain = make_sequences([[1, 2, 3]])
    with pytest.raises(AssertionError):
        Sequences(plain.user_ids, plain.offsets, plain.items, events=np.zeros(2, dtype=np.int64))


def test_other_kinds_are_other_data(workspace: Workspace) -> None:
    rows = "u,b,view,1\nu,c,cart,2\nu,d,purchase,3\n"
    plain = load_events(workspace, rows, event_words=None)
    hashes = {
        plain.content_hash(),
        load_events(workspace, rows).content_hash(),
        load_events(workspace, rows.replace("cart", "view")).content_hash(),
        load_events(workspace, rows, event_words={**WORDS, "cart": "kept"}).content_hash(),
    }
    assert len(hashes) == 4
    assert load_events(workspace, rows).content_hash() in hashes
    # Runs have stored the hashes of data without kinds and texts of users: they stay what they were.
    sequences = plain.sequences
    stored = hashlib.sha256(json.dumps([plain.catalogue.ids, plain.catalogue.texts, sequences.user_ids]).encode())
    for array in (sequences.offsets, sequences.items, plain.split.train_lengths):
        stored.update(array.tobytes())
    assert plain.content_hash() == stored.hexdigest()


def test_real_ratings_as_kinds(shared_data: Path) -> None:
    words = {"1": "hated", "2": "disliked", "3": "watched", "4": "liked", "5": "loved"}
    dataset = load_dataset(MovieLensConfig(root=str(shared_data), event_words=words))
    assert dataset.event_words == tuple(words.values())
    assert dataset.sequences.events is not None
    assert np.bincount(dataset.sequences.events).tolist() == [6110, 11370, 27145, 34174, 21201]
    del words["3"]
    with pytest.raises(InputError, match=r"'rating': data row \d+ holds '3', .* no word; 27,144 more rows have"):
        load_dataset(MovieLensConfig(root=str(shared_data), event_words=words))
