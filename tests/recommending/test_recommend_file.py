"""Lists for a table of users, written in parts."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import peftrec
from peftrec import recommending
from peftrec.config import InputError, RecipeError
from peftrec.launch import Ranks
from peftrec.recommender import Recommender
from peftrec.run import train

USERS: dict[str, list[str]] = {
    "a": ["wine0", "wine1"], "b": [], "c": ["tea3"], "d": ["bread0", "bread0", "wine2"],
    "e": [f"tea{n}" for n in range(10)],
}  # fmt: skip
COLUMNS = ["user_id", "rank", "score", "item_id", "title"]


@pytest.fixture(scope="module")
def recommender(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(make_recipe("training.num_epochs=1", output_dir=folder))
    return Recommender.from_pretrained(folder)


def expected(recommender: Recommender, k: int, **options: Any) -> list[tuple[str, int, str, str]]:
    lists = recommender.recommend_batch(list(USERS.values()), k, **options)
    return [
        (user, entry.rank, entry.item_id, entry.title)
        for user, found in zip(USERS, lists, strict=True)
        for entry in found
    ]


def write(folder: Path, form: str) -> Path:
    path = folder / f"users.{form}"
    if form == "csv":
        rows = [f'{user},"{",".join(history)}"' for user, history in USERS.items()]
        path.write_text("\n".join(["user_id,history", *rows]) + "\n", encoding="utf-8")
    elif form == "jsonl":
        rows = [json.dumps({"user_id": user, "history": history}) for user, history in USERS.items()]
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    else:
        pl.DataFrame({"user_id": list(USERS), "history": list(USERS.values())}).write_parquet(path)
    return path


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
@pytest.mark.parametrize("part", [2, 8192])
def test_rows_are_those_of_recommend_batch(
    form: str, suffix: str, part: int, recommender: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recommending, "_USERS_A_PART", part)
    path, output = write(tmp_path, form), tmp_path / f"lists.{suffix}"
    lines: list[str] = []
    counts = peftrec.recommend_file(recommender, path, output, 3, report=lines.append)
    frame = pl.read_parquet(output) if suffix == "parquet" else pl.read_ndjson(output)
    assert frame.columns == COLUMNS
    assert frame.select("user_id", "rank", "item_id", "title").rows() == expected(recommender, 3)
    assert counts == {"users": 5, "rows": 15, "without_history": 1}
    assert len(lines) == (3 if part == 2 else 1)
    assert sorted(child.name for child in tmp_path.iterdir()) == sorted([path.name, output.name])


def test_lists_may_be_shorter_and_hold_the_history(recommender: Recommender, tmp_path: Path) -> None:
    path = write(tmp_path, "jsonl")
    peftrec.recommend_file(recommender, path, tmp_path / "lists.parquet", 100)
    peftrec.recommend_file(recommender, path, tmp_path / "kept.parquet", 100, exclude_history=False)
    found = pl.read_parquet(tmp_path / "lists.parquet").group_by("user_id", maintain_order=True).len()
    assert found.rows() == [("a", 38), ("b", 40), ("c", 39), ("d", 38), ("e", 30)]
    assert len(pl.read_parquet(tmp_path / "kept.parquet")) == 200


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"user_id": "x", "history": ["wine0", "wien1"]}', "data row 2: no item has the id 'wien1'. Did you mean"),
        ('{"user_id": null, "history": []}', "data row 2 has no user_id"),
        ('{"user_id": "x", "history": ["wine0", null]}', "data row 2: history is no list"),
        ('{"user_id": "x", "history": {"a": 1}}', "users.jsonl"),
        ('{"user_id": "x"', "line 2 is no JSON object"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_left(
    line: str, message: str, recommender: Recommender, tmp_path: Path
) -> None:
    path, output = tmp_path / "users.jsonl", tmp_path / "lists.parquet"
    path.write_text(f'{{"user_id": "a", "history": ["wine0"]}}\n{line}\n', encoding="utf-8")
    with pytest.raises(InputError) as refused:
        peftrec.recommend_file(recommender, path, output)
    assert message in str(refused.value)
    assert str(path) in str(refused.value)
    assert list(tmp_path.iterdir()) == [path]


RUNS = {
    "times": (
        "method.kind=frozen",
        "user.time_intervals=true",
        "training.num_epochs=3",
        "optimizer.head_learning_rate=0.05",
    ),
    "events": (
        "data.event_words={view: saw, buy: got}",
        "profile={method: null, max_tokens: 40, item_tokens: 8, attribute_tokens: 8}",
    ),
    "attributes": (
        "data.users=users.csv",
        "data.user_template='{taste}'",
        "profile={method: null, max_tokens: 40, item_tokens: 8, attribute_tokens: 8}",
    ),
    "user_attributes": (
        "data.users=users.csv",
        "data.user_attributes={age: {kind: numeric}, taste: {kind: categorical}}",
        "training.num_epochs=2",
    ),
}


@pytest.fixture(scope="module")
def told(
    write_toy: Callable[[Path], Path], make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Recommender]:
    """Runs that read something of users beside their histories."""
    data = write_toy(tmp_path_factory.mktemp("told"))
    rows = (data / "interactions.csv").read_text().splitlines()
    kinds = [f"{row},{'view' if number % 3 else 'buy'}" for number, row in enumerate(rows[1:])]
    (data / "interactions.csv").write_text("\n".join([f"{rows[0]},event", *kinds]) + "\n")
    tastes = dict(row.split(",")[:2] for row in rows[1:])
    known = [f"{user},{20 + len(item)},{item[:-1]}" for user, item in tastes.items()]
    (data / "users.csv").write_text("\n".join(["user_id,age,taste", *known]) + "\n")

    @functools.cache
    def run(what: str) -> Recommender:
        folder = data / what
        train(make_recipe("training.num_epochs=1", *RUNS[what], output_dir=folder, data=data))
        return Recommender.from_pretrained(folder)

    return run


TOLD: dict[str, tuple[list[Any], list[Any]]] = {
    "times": ([[0, 1000], [], [5]], [[0, 9_000_000], [], [5]]),
    "events": ([["view", "view"], [], ["buy"]], [["buy", "buy"], [], ["buy"]]),
    "attributes": (["wine", "tea", ""], ["tea", "tea", "tea"]),
    "user_attributes": (
        [{"age": 20, "taste": "wine"}, {"age": None, "taste": "tea"}, {"age": None, "taste": None}],
        [{"age": 70, "taste": "tea"}, {"age": 30, "taste": None}, {"age": 25, "taste": "wine"}],
    ),
}
THREE = [["tea1", "tea2"], [], ["wine0"]]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("what", TOLD)
def test_what_a_table_tells_reaches_the_lists(
    what: str, form: str, told: Callable[[str], Recommender], tmp_path: Path
) -> None:
    recommender, path, scores = told(what), tmp_path / f"users.{form}", []
    for values in TOLD[what]:
        lists = recommender.recommend_batch(THREE, 4, **{what: values})
        columns = pl.DataFrame(values).to_dict(as_series=False) if what == "user_attributes" else {what: values}
        table = {"user_id": ["a", "b", "c"], "history": THREE, **columns}
        if form == "csv":
            as_text = {
                name: [json.dumps(cell) if isinstance(cell, list) else cell for cell in column]
                for name, column in table.items()
            }
            pl.DataFrame(as_text).write_csv(path)
        else:
            frame = pl.DataFrame(table)
            frame.write_ndjson(path) if form == "jsonl" else frame.write_parquet(path)
        peftrec.recommend_file(recommender, path, tmp_path / "lists.parquet", 4, overwrite=True)
        found = pl.read_parquet(tmp_path / "lists.parquet")
        assert found["item_id"].to_list() == [entry.item_id for entries in lists for entry in entries]
        expected = [entry.score for entries in lists for entry in entries]
        assert found["score"].to_list() == pytest.approx(expected, abs=1e-6)
        scores.append(expected)
    assert scores[0] != pytest.approx(scores[1], abs=1e-4), "it makes a difference what is told"


@pytest.mark.parametrize(
    ("what", "column", "message"),
    [
        (
            "times",
            "more",
            "nothing reads the column 'more'. Leave it out; there may be user_id, history, events, times, attributes",
        ),
        ("times", "age", "nothing reads the column 'age'"),
        ("times", "time", "nothing reads the column 'time'. Did you mean 'times'?"),
        (
            "user_attributes",
            "agee",
            "nothing reads the column 'agee'. Did you mean 'age'? Leave it out; there may be user_id, history, events, "
            "times, attributes, age, taste",
        ),
        ("times", "events", "kinds of events were given, but this run reads none"),
        ("times", "attributes", "attributes were given, but this run reads no users' texts"),
        ("events", "times", "times were given, but this run reads none"),
    ],
)
def test_a_column_that_nothing_reads_is_refused(
    what: str, column: str, message: str, told: Callable[[str], Recommender], tmp_path: Path
) -> None:
    path = tmp_path / "users.csv"
    path.write_text(f"user_id,history,{column}\na,,\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: {re.escape(message)}"):
        peftrec.recommend_file(told(what), path, tmp_path / "lists.parquet")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("what", "wrong", "message"),
    [
        ("times", {"times": [7, "x"]}, "times: place 2 holds 'x'; a time must be"),
        ("times", {"times": [7]}, "1 times for 2 items; each item has one time"),
        ("times", {"times": [7, ""]}, "times: an empty one is no time"),
        ("times", {"times": [9, 7]}, "histories are oldest first, but 7 comes after 9"),
        ("times", {"times": [1_600_000_000_000, 1_600_000_000_000]}, "1600000000000 is read as milliseconds"),
        ("events", {"events": ["view", "bye"]}, "'bye' is not a kind of event of this run; there are view, buy"),
        (
            "user_attributes",
            {"age": "old"},
            "the user, attribute 'age' holds 'old'; a numeric attribute needs a number",
        ),
        ("events", {"history": ["tea1", "tae2"]}, "no item has the id 'tae2'. Did you mean 'tea2'"),
    ],
)
@pytest.mark.parametrize("part", [2, 3, 8192])
def test_the_row_is_named_whatever_is_wrong_in_it(
    what: str, wrong: dict[str, Any], message: str, part: int, told: Callable[[str], Recommender],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The sixth line of the file, of which the second is empty, is wrong; the last would be, too."""
    monkeypatch.setattr(recommending, "_USERS_A_PART", part)
    more = {"times": {"times": [3, 5]}, "events": {"events": ["buy", "buy"]}, "user_attributes": {"age": 5}}[what]
    right = {"user_id": "a", "history": ["tea1", "tea2"], **more}
    rows = [
        right,
        {},
        right,
        {**right, "history": [], **{name: [] for name in more if name == what}},
        right,
        {**right, **wrong},
        right,
        {**right, **wrong},
    ]
    path = tmp_path / "users.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: data row 6: .*{re.escape(message)}"):
        peftrec.recommend_file(told(what), path, tmp_path / "lists.parquet")
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_or_read_is_refused_first(recommender: Recommender, tmp_path: Path) -> None:
    path = write(tmp_path, "parquet")
    with pytest.raises(RecipeError, match=r"must end in one of \.parquet, \.jsonl"):
        peftrec.recommend_file(recommender, path, tmp_path / "lists.csv")
    with pytest.raises(RecipeError, match="there is no such folder"):
        peftrec.recommend_file(recommender, path, tmp_path / "gone" / "lists.parquet")
    (tmp_path / "lists.jsonl").write_text("mine")
    with pytest.raises(RecipeError, match="is there already"):
        peftrec.recommend_file(recommender, path, tmp_path / "lists.jsonl")
    assert (tmp_path / "lists.jsonl").read_text() == "mine"
    peftrec.recommend_file(recommender, path, tmp_path / "lists.jsonl", 1, overwrite=True)
    assert len(pl.read_ndjson(tmp_path / "lists.jsonl")) == 5
    pl.DataFrame({"user_id": ["a"], "items": [["wine0"]]}).write_parquet(path)
    with pytest.raises(
        InputError, match=r"no column 'history' \(item ids, oldest first\). Columns there: user_id, items"
    ):
        peftrec.recommend_file(recommender, path, tmp_path / "lists.parquet")
    pl.DataFrame({"user_id": ["a"], "history": [["wine0"]], "times": [["1714559400"]]}).write_parquet(path)
    with pytest.raises(InputError, match="times were given, but this run reads none"):
        peftrec.recommend_file(recommender, path, tmp_path / "lists.parquet")


class First(Ranks):
    """The first of two processes; what the other tells of its parts is made here."""

    def __init__(self, other: Callable[[Any], Any]) -> None:
        super().__init__(0, 2)
        self._other = other

    def total(self, values: Any) -> list[float]:
        return list(values)

    def joined(self, rows: Any) -> Any:
        return self._other(rows)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ([], "processes wrote 2 parts where .*users.jsonl has 3, each to be written once"),
        ([[0, 2, 2, 4]], "processes wrote 3 parts where .* has 3, each to be written once"),
        ([[1, 3, 2, 4]], r"part 1 was made of 3 users, but .*users.jsonl has 2 there"),
        ([[1, 2, 2, 4]], r"partial/000001\.jsonl: is not there"),
    ],
    ids=["not written", "written twice", "another table", "another folder"],
)
def test_parts_of_processes_must_be_those_of_the_table(
    other: list[list[int]],
    message: str,
    recommender: Recommender,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two real processes write what one does in tests/launch/test_shards.py."""
    monkeypatch.setattr(recommending, "_USERS_A_PART", 2)
    path = write(tmp_path, "jsonl")
    ranks = First(lambda own: np.concatenate([own, np.array(other, dtype=np.int64).reshape(-1, 4)]))
    with pytest.raises(InputError, match=message):
        peftrec.recommend_file(recommender, path, tmp_path / "lists.jsonl", 2, ranks=ranks)
    assert list(tmp_path.iterdir()) == [path]


def test_ids_that_are_numbers() -> None:
    from peftrec.data.table_part import history_cell

    assert history_cell([1, 2.0, "x"]) == ["1", "2", "x"]
    assert history_cell('[1, "a,b"]') == ["1", "a,b"]
    assert history_cell(" 5, 6 ") == ["5", "6"]
    assert history_cell(None) == history_cell("") == []
    assert history_cell("5,,6") is history_cell("[1") is history_cell(5) is history_cell([["a"]]) is None
