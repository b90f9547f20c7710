"""Columns of JSON Lines whose types differ: read as text, and counted in the report."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from peftrec.config import InputError
from peftrec.data import mixed_type
from peftrec.data.table import read_table

if TYPE_CHECKING:
    from .conftest import Workspace


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    content = "\n".join(json.dumps(row) for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_the_report_counts_ids_that_are_no_texts(workspace: Workspace, suffix: str) -> None:
    events = [{"user_id": f"u{number % 99}", "item_id": "b", "timestamp": number} for number in range(597)]
    events += [{"user_id": user, "item_id": "c", "timestamp": 600} for user in (7, 7.0, True, None)]
    write(workspace.root / f"events.{suffix}", events)
    items = [{"item_id": "b", "title": "7"}, {"item_id": "c", "title": ["Tea"]}, {"item_id": 9, "title": None}]
    write(workspace.root / f"items.{suffix}", items)
    dataset = workspace.load_unsplit(interactions=f"events.{suffix}", items=f"items.{suffix}")
    assert dataset.sequences.user_ids[-2:] == ("7", "true")
    rows = [row for row in dataset.report.rows if row.step == "mixed types"]
    assert [(row.subject, row.removed, row.remaining, row.note) for row in rows] == [
        ("interactions", 0, 601, "column 'user_id': 3 of 600 values are no text (7, 7.0, true) and are read as text"),
        ("items", 0, 3, "column 'item_id': 1 of 3 values is no text (9) and is read as text"),
        ("items", 0, 3, "column 'title': 1 of 2 values is no text ([\"Tea\"]) and is read as text"),
    ]


def test_users_are_looked_at_too(workspace: Workspace) -> None:
    write(workspace.root / "users.jsonl", [{"user_id": "u1", "age": "30"}, {"user_id": "u2", "age": 31}])
    dataset = workspace.load(users="users.jsonl", user_template="{age}")
    (row,) = (row for row in dataset.report.rows if row.step == "mixed types")
    assert (row.subject, row.remaining) == ("users", 2)
    assert row.note == "column 'age': 1 of 2 values is no text (31) and is read as text"


def test_only_columns_that_are_read_are_looked_at(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [{"a": "x", "b": "y"}, {"a": "x", "b": 7}])
    assert read_table(path, ["a"]).mixed == ()
    assert len(read_table(path, ["b"]).mixed) == 1


@pytest.mark.parametrize(
    "rows",
    [
        [{"a": "7"}, {"a": "true"}, {"a": "[x"}, {"a": None}],
        [{"a": "7", "b": {"a": 7}}, {"a": 'say "a": 7'}],  # the key at another depth, and in a text
        [{"a": 7}, {"a": 7.5}],  # numbers
        [{"a": ["x"]}, {"a": [1]}],  # lists
    ],
)
def test_columns_of_one_type(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    assert read_table(write(tmp_path / "t.jsonl", rows)).mixed == ()


def test_a_clean_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed_type, "_other_values", lambda *_: pytest.fail("read again"))
    read_table(write(tmp_path / "t.jsonl", [{"a": "u7", "b": 7}, {"a": "x", "b": 8}]))


@pytest.mark.parametrize("key", ["user id", "é", 'a"b', "a.b", "日"])
@pytest.mark.parametrize("escaped", [True, False])
def test_any_key(tmp_path: Path, key: str, escaped: bool) -> None:
    path = tmp_path / "t.jsonl"
    rows = [{key: "x"}, {key: 1}, {key: 2}, {key: {"long": "x" * 100}}, {key: -0.5}]
    text = "\r\n\r\n".join(json.dumps(row, ensure_ascii=escaped, separators=(" ,", "\t: ")) for row in rows)
    path.write_text(text, encoding="utf-8")
    (note,) = read_table(path).mixed
    assert note.startswith(f'column {key!r}: 4 of 5 values are no text (1, 2, {{"long": "xxxxxxxxxx…, …) and are')


@pytest.mark.parametrize(("values", "texts"), [([7, True], ["7", "true"]), ([{"b": 1}, 3], ['{"b": 1}', "3"])])
def test_types_that_the_parser_cannot_join(tmp_path: Path, values: list[Any], texts: list[str]) -> None:
    path = write(tmp_path / "t.jsonl", [{"a": value, "b": [1], "c": 2} for value in values])
    table = read_table(path)
    assert table.frame["a"].to_list() == texts
    assert table.frame["b"].dtype == pl.List(pl.Int64)
    assert table.frame.columns == ["a", "b", "c"]
    (note,) = table.mixed
    assert note.startswith("column 'a': 2 of 2 values are no text (")


def test_a_list_beside_its_value(tmp_path: Path) -> None:
    """The parser refuses the whole file, without saying where."""
    rows = [{"a": 7, "b": "x"}, {"a": [7], "c": 1}, {"a": "7", "b": None}]
    table = read_table(write(tmp_path / "t.jsonl", rows))
    assert table.column_names == ("a", "b", "c")
    assert table.frame.to_dict(as_series=False) == {
        "a": ["7", "[7]", "7"],
        "b": ["x", None, None],
        "c": [None, "1", None],
    }
    assert table.mixed[0].startswith("column 'a': 2 of 3 values are no text (7, [7])")
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"a": 7}\n{"a": [7]}\n{"a": \n')
    with pytest.raises(InputError, match=r"broken\.jsonl cannot be read as \.jsonl: line 3 is no JSON object"):
        read_table(broken)
