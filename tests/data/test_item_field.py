"""Fields of items: from tables, from values, and through the item table of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from peftrec.config import InputError, RecipeError
from peftrec.data import Catalogue, load_dataset
from peftrec.data.item_field import FieldValue, field_value, fields_of, read_item_fields
from peftrec.data.table import RawTable
from peftrec.publishing.item_table import ITEMS, read_items, write_items


def read(values: list[Any], dtype: Any = None) -> tuple[FieldValue, ...]:
    frame = pl.DataFrame({"id": [str(place) for place in range(len(values))], "x": pl.Series(values, dtype=dtype)})
    ids = list(frame["id"])
    return read_item_fields(RawTable("items.csv", frame, ("id", "x")), "id", ["x"], ids, "|")["x"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a ", None, " "], ("a", None, None)),
        (["1", "2.5", None], (1.0, 2.5, None)),
        (["1", "nan", "-3e2"], (1.0, None, -300.0)),
        (["007", "8"], ("007", "8")),
        (["1", "x"], ("1", "x")),
        (["0.5", "0"], (0.5, 0.0)),
        (["true", "False", None], (True, False, None)),
        (["a|b", "c", "", "b | b|"], (("a", "b"), ("c",), None, ("b",))),
        ([None, None], (None, None)),
        ([1, 2, None], (1.0, 2.0, None)),
        ([1.5, float("nan")], (1.5, None)),
        ([True, None], (True, None)),
        ([["a", "b "], [], None, ["c", None]], (("a", "b"), None, None, ("c",))),
    ],
)
def test_columns_become_plain_values(values: list[Any], expected: tuple[Any, ...]) -> None:
    assert read(values, pl.String if values == [None, None] else None) == expected


def test_of_rows_with_one_id_the_first_counts_and_items_without_a_row_have_nothing() -> None:
    frame = pl.DataFrame({"id": [" a", "a", None, "b"], "x": ["1", "2", "3", "4"]})
    table = RawTable("items.csv", frame, ("id", "x"))
    assert read_item_fields(table, "id", ["x"], ["b", "a", "c"], "|") == {"x": (4.0, 1.0, None)}
    with pytest.raises(InputError, match=r"no column 'y' \(named by data\.item_fields\)"):
        read_item_fields(table, "id", ["y"], ["a"], "|")
    with pytest.raises(InputError, match="flatten it"):
        read([{"a": 1}])


@pytest.mark.parametrize("value", [{"a": 1}, [1], ["a", None], object(), float("nan"), float("-inf"), 10**999])
def test_values_that_no_field_holds(value: Any) -> None:
    with pytest.raises(InputError, match=r"^here: "):
        field_value(value, "here")


def test_a_catalogue_has_the_fields_of_its_recipe(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    plain, kept = make_recipe(), make_recipe("data.item_fields=[category, title]")
    catalogue = load_dataset(kept.data).catalogue
    assert set(catalogue.fields["category"]) == {"wine", "cheese", "bread", "tea"}
    assert fields_of(catalogue.fields, 0) == {"category": "wine", "title": catalogue.titles[0]}
    assert load_dataset(plain.data).catalogue.fields == {}
    # What is kept beside the items is not learned from.
    assert load_dataset(plain.data).content_hash() == load_dataset(kept.data).content_hash()
    with pytest.raises(InputError, match=r"no column 'colour' \(named by data\.item_fields\)"):
        load_dataset(make_recipe("data.item_fields=[colour]").data)
    with pytest.raises(RecipeError, match=r"data\.item_fields: must be distinct"):
        make_recipe("data.item_fields=[category, category]")


def test_fields_survive_the_item_table_and_old_tables_are_read(tmp_path: Path) -> None:
    fields: dict[str, tuple[FieldValue, ...]] = {
        "tags": (None, ("a", "ü|"), None), "price": (None, 2.5, None), "stock": (True, None, False),
        "nothing": (None, None, None),
    }  # fmt: skip
    catalogue = Catalogue(("1", "2", "3"), ("x", "y", "z"), ("X", "Y", "Z"), fields)
    write_items(tmp_path, catalogue)
    assert read_items(tmp_path) == catalogue
    rows = [json.loads(line) for line in (tmp_path / ITEMS).read_text(encoding="utf-8").splitlines()]
    assert rows[1]["fields"] == {"tags": ["a", "ü|"], "price": 2.5}
    bare = Catalogue(("1", "2"), ("x", "y"), ("X", "Y"))
    write_items(tmp_path, bare)
    assert "fields" not in (tmp_path / ITEMS).read_text(encoding="utf-8")
    assert read_items(tmp_path) == bare


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ('"fields": [1]', "line 2: is not an item .fields are a mapping"),
        ('"fields": {"price": {"a": 1}}', "line 2: is not an item .price: "),
        ('"fields": {"price": NaN}', "line 2: is not an item .price: nan is no finite number"),
        ('"fields": {"price": "dear"}', r"field 'price' holds 1\.0 and 'dear'; a field's values are all of one kind"),
    ],
)
def test_item_tables_with_broken_fields(tmp_path: Path, second: str, expected: str) -> None:
    rows = ['{"item_id": "1", "title": "a", "text": "a", "fields": {"price": 1}}',
            '{"item_id": "2", "title": "a", "text": "a", ' + second + "}"]  # fmt: skip
    (tmp_path / ITEMS).write_text("\n".join(rows) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=expected):
        read_items(tmp_path)


def test_fields_have_one_value_an_item() -> None:
    with pytest.raises(ValueError, match="field 'price' has 1 values for 2 items"):
        Catalogue(("1", "2"), ("x", "y"), ("X", "Y"), {"price": (1.0,)})
