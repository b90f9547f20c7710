"""Attributes: read from columns, fitted to what trains alone, and every way in which they can be wrong."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from peftrec.config import InputError, RecipeError, parse_section, section_to_dict
from peftrec.data import AttributeTable, Dataset, FittedAttributes, fit_attributes
from peftrec.data.attribute import CategoricalAttribute, DateAttribute, MultiAttribute, NumericAttribute
from peftrec.data.sources.tables import TablesConfig

if TYPE_CHECKING:
    from .conftest import Workspace

# Items 0012, b and c have training events under leave-one-out; d is only a test target, and e has no event.
INTERACTIONS = """user_id,item_id,timestamp
u1,0012,1700000000
u1,b,1700000100
u1,c,1700000200
u1,d,1700000300
u2,b,1700000050
u2,c,1700000100
u2,0012,1700000150
u2,d,1700000250
u3,c,1700000300
"""
ITEMS = """item_id,title,price,brand,released,tags
0012,Red Wine,10,Acme,2024-01-01,red|dry
b,Blue Cheese,,Acme,2024-01-03,blue
c,Green Tea,40,Bold,,dry | green |dry
d,Black Bread,1000,Cold,2030-06-15,rye
e,White Rice,,,,
"""
CONFIGS: dict[str, Any] = {
    "price": NumericAttribute(),
    "brand": CategoricalAttribute(),
    "released": DateAttribute(cyclic=("month", "weekday")),
    "tags": MultiAttribute(),
}


def load(workspace: Workspace, content: str | None = ITEMS, **values: Any) -> Dataset:
    workspace.write("interactions.csv", INTERACTIONS)
    if content is not None:
        workspace.write("items.csv", content)
    return workspace.load(**{"item_attributes": CONFIGS, **values})


def fitted(dataset: Dataset, subject: str = "items") -> FittedAttributes:
    return fit_attributes(dataset)[subject]


def table_of(dataset: Dataset) -> AttributeTable:
    assert dataset.item_attributes is not None
    return dataset.item_attributes


def test_numbers_by_hand(workspace: Workspace) -> None:
    dataset = load(workspace)
    assert dataset.item_counts().tolist() == [1, 2, 2, 0, 0]
    found = fitted(dataset)
    # Trained are 10, nothing, 40: mean 25, deviation 15.
    price = found.columns["price"]
    assert (price.mean, price.deviation, price.learns_missing) == (25.0, 15.0, True)  # type: ignore[union-attr]
    features = found.encode(table_of(dataset))
    assert features.numbers.dtype == np.float32
    np.testing.assert_allclose(features.numbers[:, :2], [[-1, 0], [0, 1], [1, 0], [65, 0], [0, 1]])
    # Trained days are 19723 and 19725: 19724 +- 1; 2030-06-15 is 22080.
    np.testing.assert_allclose(features.numbers[:, 2:4], [[-1, 0], [1, 0], [0, 1], [22080 - 19724, 0], [0, 1]])
    sine = np.sin(2 * np.pi * np.array([0, 0, 5 / 12]))  # January, January, June
    np.testing.assert_allclose(features.numbers[:, 4], [sine[0], sine[1], 0, sine[2], 0], atol=1e-6)
    np.testing.assert_allclose(features.numbers[:, 5], [1, 1, 0, np.cos(2 * np.pi * 5 / 12), 0], atol=1e-6)
    # 2024-01-01 was a Monday, 2030-06-15 will be a Saturday.
    angles = 2 * np.pi * np.array([0, 2, 5]) / 7
    np.testing.assert_allclose(features.numbers[[0, 1, 3], 6], np.sin(angles), atol=1e-6)
    np.testing.assert_allclose(features.numbers[[0, 1, 3], 7], np.cos(angles), atol=1e-6)
    assert features.numbers[[2, 4], 6:].tolist() == [[0, 0], [0, 0]]
    assert features.known.tolist() == [True, True, True, True, False]
    assert found.num_numbers == features.numbers.shape[1] == 8


def test_labels_by_hand(workspace: Workspace) -> None:
    dataset = load(workspace)
    found = fitted(dataset)
    # Of the items that train, two are of Acme and one of Bold; 'dry' is on two of them, however often.
    assert found.columns["brand"].vocabulary == ("Acme",)  # type: ignore[union-attr]
    assert found.columns["tags"].vocabulary == ("dry",)  # type: ignore[union-attr]
    assert found.vocabulary_sizes == (2, 2)
    brand, tags = found.encode(table_of(dataset)).codes
    assert brand.tolist() == [[1], [1], [0], [0], [-1]]
    assert tags.tolist() == [[0, 1], [0, -1], [1, 0], [0, -1], [-1, -1]]
    every = fitted(load(workspace, item_attributes={"tags": MultiAttribute(min_count=1)}))
    assert every.columns["tags"].vocabulary == ("blue", "dry", "green", "red")  # type: ignore[union-attr]


def test_what_does_not_train_changes_nothing(workspace: Workspace) -> None:
    first = fitted(load(workspace))
    changed = ITEMS.replace("d,Black Bread,1000,Cold,2030-06-15,rye", "d,Black Bread,-7,Acme,1999-01-01,blue|red")
    changed = changed.replace("e,White Rice,,,,", "e,White Rice,5,Acme,2020-02-02,green")
    other = load(workspace, changed)
    assert fitted(other).to_json() == first.to_json()
    assert other.content_hash() != load(workspace).content_hash()
    # What trains does change it.
    assert fitted(load(workspace, ITEMS.replace("b,Blue Cheese,,", "b,Blue Cheese,30,"))).to_json() != first.to_json()


def test_the_logarithm(workspace: Workspace) -> None:
    dataset = load(workspace, item_attributes={"price": NumericAttribute(log1p=True)})
    found = fitted(dataset)
    low, high = np.log(11.0), np.log(41.0)
    middle, half = (low + high) / 2, (high - low) / 2
    standard = found.encode(table_of(dataset)).numbers[:, 0]
    np.testing.assert_allclose(standard, [-1, 0, 1, (np.log(1001) - middle) / half, 0], rtol=1e-6)
    with pytest.raises(InputError, match=r"items\.csv, column 'price': data row 4 holds -1; log1p needs numbers above"):
        load(workspace, ITEMS.replace("1000", "-1"), item_attributes={"price": NumericAttribute(log1p=True)})


def test_a_column_of_one_number_says_nothing(workspace: Workspace) -> None:
    items = ITEMS.replace(",10,", ",.1,").replace("Cheese,,", "Cheese,.1,").replace(",40,", ",0.1,")
    dataset = load(workspace, items, item_attributes={"price": NumericAttribute()})
    found = fitted(dataset)
    # Nothing trained lacks it either, so that the indicator stays 0.
    assert found.to_json()["price"] == {"mean": pytest.approx(0.1), "deviation": 0.0, "learns_missing": False}
    assert not found.encode(table_of(dataset)).numbers.any()


def test_what_is_known_of_no_column_teaches_nothing_of_missing_ones(workspace: Workspace) -> None:
    configs = {"price": NumericAttribute()}
    assert not fitted(load(workspace, item_attributes=configs)).columns["price"].learns_missing  # type: ignore[union-attr]


def test_a_column_without_values_in_training_is_refused(workspace: Workspace) -> None:
    items = ITEMS.replace(",10,", ",,").replace(",40,", ",,")
    with pytest.raises(InputError, match=r"data\.item_attributes\.price: no value is there for the items that have"):
        fitted(load(workspace, items))
    with pytest.raises(InputError, match=r"brand: .* events in at least 3 of them; leave it out or lower min_count"):
        fitted(load(workspace, item_attributes={"brand": CategoricalAttribute(min_count=3)}))


@pytest.mark.parametrize(
    ("column", "was", "now", "message"),
    [
        ("price", ",40,", ",cheap,", "column 'price': data row 3 holds 'cheap'; a numeric attribute needs a number"),
        ("price", ",40,", ",inf,", "column 'price': data row 3 holds 'inf'"),
        ("released", "2024-01-03", "soon", "column 'released': data row 2 holds 'soon'; a date attribute needs a"),
        ("released", "2024-01-03", "1700000000", "column 'released': data row 2 holds '1700000000'; a date att"),
    ],
)
def test_mixed_columns_are_refused(workspace: Workspace, column: str, was: str, now: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(workspace, ITEMS.replace(was, now), item_attributes={column: CONFIGS[column]})


def test_values_that_say_nothing(workspace: Workspace) -> None:
    configs = {
        "price": NumericAttribute(missing=("-1", "unkonwn")),
        "brand": CategoricalAttribute(missing=("none",)),
        "released": DateAttribute(cyclic=("month", "weekday"), missing=("soon",)),
        "tags": MultiAttribute(missing=("odd",)),
    }
    items = ITEMS.replace("b,Blue Cheese,,Acme", "b,Blue Cheese, -1.0 ,Acme")
    items = items.replace("e,White Rice,,,,", "e,White Rice,unkonwn,none,soon,odd")
    items = items.replace("dry | green |dry", "dry | green |odd|dry")
    said, plain = load(workspace, items, item_attributes=configs), load(workspace)
    assert table_of(said).plain() == table_of(plain).plain()
    rows = [{"price": -1, "brand": "none", "released": "soon", "tags": ["odd", "dry"]}]
    assert fitted(said).encode_rows(rows, ["x"]).codes[1].tolist() == [[1]]
    assert fitted(said).encode_rows([{**rows[0], "tags": "odd"}], ["x"]).known.tolist() == [False]
    with pytest.raises(InputError, match=r"data row 2 holds ' -1\.0 x'"):
        load(workspace, items.replace("-1.0 ", "-1.0 x"), item_attributes=configs)


def test_what_is_no_date_is_named_with_the_list_of_what_says_nothing(workspace: Workspace) -> None:
    items = "item_id,title,released\na,A,2024-05-01\nb,B,\nc,C,someday\n"
    with pytest.raises(
        InputError,
        match=r"items\.csv, column 'released': data row 3 holds 'someday'; a date attribute needs a date or nothing in "
        r"every row, .*2024-05-01.*; name values that say nothing in its list `missing`$",
    ):
        load(workspace, items, item_attributes={"released": DateAttribute()})


def test_years_are_no_dates(workspace: Workspace) -> None:
    with pytest.raises(InputError, match=r"holds numbers up to 1000, which are too small .*, use kind: numeric"):
        load(workspace, item_attributes={"price": DateAttribute()})


def test_a_column_that_is_not_there_is_named(workspace: Workspace) -> None:
    with pytest.raises(InputError, match=r"no column 'prize' \(named by data\.item_attributes\)\. Did you mean 'pr"):
        load(workspace, item_attributes={"prize": NumericAttribute()})


def test_types_of_parquet(workspace: Workspace) -> None:
    frame = pl.DataFrame(
        {
            "item_id": ["0012", "b", "c", "d", "e"],
            "title": list("vwxyz"),
            "price": [10.0, float("nan"), 40.0, 1000.0, None],
            "brand": [5.0, 5.0, 6.0, 7.0, None],
            "released": [datetime.date(2024, 1, 1), datetime.date(2024, 1, 3), None, datetime.date(2030, 6, 15), None],
            "tags": [["red", " dry"], ["blue"], ["dry", "green", ""], ["rye"], None],
            "new": [True, False, True, True, None],
        }
    )
    frame.write_parquet(workspace.root / "items.parquet")
    configs = {**CONFIGS, "new": CategoricalAttribute()}
    dataset = load(workspace, None, items="items.parquet", item_attributes=configs)
    here = fitted(dataset)
    text = load(workspace)
    there = fitted(text)
    assert here.to_json()["brand"] == {"vocabulary": ["5"]}  # as a CSV file would have it
    assert here.to_json()["new"] == {"vocabulary": ["true"]}
    features, expected = here.encode(table_of(dataset)), there.encode(table_of(text))
    np.testing.assert_array_equal(features.numbers, expected.numbers)
    for found, wanted in zip(features.codes, expected.codes, strict=False):
        np.testing.assert_array_equal(found, wanted)
    with pytest.raises(InputError, match=r"column 'tags': holds lists; for several values in a row use kind: multi"):
        load(workspace, None, items="items.parquet", item_attributes={"tags": CategoricalAttribute()})
    with pytest.raises(InputError, match=r"column 'new': data row 1 holds True; a numeric attribute needs a number"):
        load(workspace, None, items="items.parquet", item_attributes={"new": NumericAttribute()})


def test_of_items_with_one_id_the_first_counts(workspace: Workspace) -> None:
    dataset = load(workspace, ITEMS + "b,Another,77,Bold,2000-01-01,rye\n")
    assert table_of(dataset).plain() == table_of(load(workspace)).plain()
    assert "price: 2 missing, brand: 1 missing" in str(dataset.report)


USERS = "user_id,age,job\nu2,40,nurse\nu1,20,nurse\nu9,99,judge\n"


def test_users(workspace: Workspace) -> None:
    workspace.write("users.csv", USERS)
    configs = {"age": NumericAttribute(), "job": CategoricalAttribute()}
    dataset = load(workspace, users="users.csv", item_attributes=None, user_attributes=configs)
    assert dataset.sequences.user_ids == ("u1", "u2", "u3")
    assert dataset.user_texts is None
    assert dataset.item_attributes is None
    found = fitted(dataset, "users")
    assert dataset.user_attributes is not None
    features = found.encode(dataset.user_attributes)
    np.testing.assert_allclose(features.numbers, [[-1, 0], [1, 0], [0, 0]])
    assert features.codes[0].tolist() == [[1], [1], [-1]]
    assert features.known.tolist() == [True, True, False]
    assert "u1" not in str(dataset.report)  # the report is published
    assert "age: 1 missing, job: 1 missing" in str(dataset.report)
    # Beside a text of the same table.
    both = load(workspace, users="users.csv", user_attributes=configs, user_template="{job}")
    assert both.user_texts == ("nurse", "nurse", "")
    workspace.write("users.csv", USERS + "u2,40,nurse\nu1,21,nurse\n")
    with pytest.raises(InputError, match=r"column 'age': data rows 2 and 5 say different things of the user 'u1'"):
        load(workspace, users="users.csv", user_attributes=configs)


def test_users_without_training_events_do_not_count(workspace: Workspace) -> None:
    from peftrec.data.split import GlobalTime

    workspace.write("users.csv", USERS + "u3,1000,judge\n")
    configs = {"age": NumericAttribute()}
    split = GlobalTime(valid_fraction=0.2, test_fraction=0.2)
    dataset = load(workspace, users="users.csv", item_attributes=None, user_attributes=configs, split=split)
    assert dataset.split.train_lengths.tolist()[2] == 0
    assert fitted(dataset, "users").to_json()["age"] == {"mean": 30.0, "deviation": 10.0, "learns_missing": False}


def test_rows_of_python(workspace: Workspace) -> None:
    dataset = load(workspace)
    found = fitted(dataset)
    rows: list[dict[str, Any]] = [
        {"price": 40, "brand": "Acme", "released": datetime.date(2024, 1, 1), "tags": ["dry", "new"]},
        {"price": "10", "brand": "Unheard", "released": "2024-01-03T12:00:00Z", "tags": "dry|dry"},
        {},
        {"price": None, "brand": " "},
    ]
    features = found.encode_rows(rows, ["w", "x", "y", "z"])
    np.testing.assert_allclose(features.numbers[:, :4], [[1, 0, -1, 0], [-1, 0, 1.5, 0], [0, 1, 0, 1], [0, 1, 0, 1]])
    assert features.codes[0].tolist() == [[1], [0], [-1], [-1]]
    assert features.codes[1].tolist() == [[1, 0], [1, -1], [-1, -1], [-1, -1]]
    assert features.known.tolist() == [True, True, False, False]
    # The same values give the same numbers as in the table.
    alone = found.encode_rows([{"price": "10", "brand": "Acme", "released": "2024-01-01", "tags": "red|dry"}], ["w"])
    np.testing.assert_array_equal(alone.numbers[0], found.encode(table_of(dataset)).numbers[0])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"prize": 1},
            r"item 'x': 'prize' is no attribute of this run\. Did you mean 'price'\? There are price",
        ),
        ({"price": "cheap"}, r"item 'x', attribute 'price' holds 'cheap'; a numeric attribute needs a number"),
        ({"price": True}, "attribute 'price' holds True; a numeric"),
        ({"released": "soon"}, "attribute 'released' holds 'soon'; a date attribute needs a"),
        ({"released": 2024}, "attribute 'released': holds numbers up to 2024"),
        ({"brand": ["a", "b"]}, "attribute 'brand': holds lists"),
        ({"brand": {"a": 1}}, "attribute 'brand' holds Struct.* values"),
        ({"tags": [["a"]]}, "attribute 'tags' holds List.* values"),
        ("Acme", "item 'x': attributes are a mapping of columns to values, got 'Acme'"),
    ],
)
def test_wrong_rows_of_python(workspace: Workspace, row: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fitted(load(workspace)).encode_rows([row], ["item 'x'"])


def test_json_gives_the_same_numbers(workspace: Workspace) -> None:
    dataset = load(workspace)
    found = fitted(dataset)
    again = FittedAttributes.from_json(CONFIGS, json.loads(json.dumps(found.to_json())))
    assert again.to_json() == found.to_json()
    one, other = (fit.encode(table_of(dataset)) for fit in (found, again))
    np.testing.assert_array_equal(one.numbers, other.numbers)
    with pytest.raises(ValueError, match="it must hold the columns price"):
        FittedAttributes.from_json({"price": NumericAttribute()}, found.to_json())
    with pytest.raises(InputError, match="read with other settings"):
        fitted(load(workspace, item_attributes={"price": NumericAttribute()})).encode(table_of(dataset))


RECIPE: dict[str, Any] = {"interactions": "a.csv", "items": "b.csv"}


def test_in_a_recipe() -> None:
    values = {
        **RECIPE,
        "item_attributes": {
            "price": {"kind": "numeric", "log1p": True},
            "released": {"kind": "date", "cyclic": ["month"]},
            "tags": {"kind": "multi", "separator": " "},
        },
    }
    config = parse_section(TablesConfig, values)
    assert config.item_attributes == {
        "price": NumericAttribute(log1p=True),
        "released": DateAttribute(cyclic=("month",)),
        "tags": MultiAttribute(separator=" "),
    }
    plain = section_to_dict(config)
    assert plain["item_attributes"]["tags"] == {"kind": "multi", "missing": [], "min_count": 2, "separator": " "}
    plain.pop("kind")
    assert parse_section(TablesConfig, plain) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"item_attributes": {"price": {}}}, r"data\.item_attributes\.price\.kind: missing\. One of: numeric, cat"),
        ({"item_attributes": {"price": {"kind": "number"}}}, r"price\.kind: unknown kind 'number' .*mean 'numeric'"),
        ({"item_attributes": {"price": {"kind": "numeric", "log": True}}}, r"price\.log: unknown key\. Did you mean"),
        ({"item_attributes": {"day": {"kind": "date", "cyclic": ["year"]}}}, r"cyclic\[0\]: 'year' .*is not allowed"),
        ({"item_attributes": {"day": {"kind": "date", "cyclic": ["month"] * 2}}}, r"cyclic: .* names a cycle twice"),
        ({"item_attributes": {"tags": {"kind": "multi", "separator": ""}}}, r"tags\.separator: is empty"),
        ({"item_attributes": {"brand": {"kind": "categorical", "min_count": 0}}}, r"min_count: 0 is out of range"),
        ({"item_attributes": {}}, r"data\.item_attributes: is empty; name columns with their kinds"),
        ({"user_attributes": {"age": {"kind": "numeric"}}}, r"user_attributes: age have no table to be read from; .*"),
        (
            {"users": "u.csv"},
            r"users: 'u\.csv' is read only where something asks for it; .* or name columns in data\.user_attrib",
        ),
    ],
)
def test_wrong_recipes(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_section(TablesConfig, {**RECIPE, **values}, path="data")
