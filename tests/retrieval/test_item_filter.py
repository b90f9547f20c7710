"""Filters: how they are read, what they let through, and what is said about wrong ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftrec.config import InputError
from peftrec.data.item_field import FieldValue
from peftrec.retrieval import FieldRule, FieldTable, Filter

FIELDS: dict[str, tuple[FieldValue, ...]] = {
    "category": ("tea", "wine", None, "tea", "bread"),
    "price": (1.0, 20.0, 5.5, None, 0.0),
    "in_stock": (True, False, True, None, True),
    "tags": (("new", "hot"), ("hot",), None, ("cold", "new"), ("hot", "new")),
}


def passed(rules: Any, table: FieldTable | None = None) -> list[int]:
    view = (table or FieldTable(FIELDS)).view
    mask = view.mask(Filter.parse({"fields": rules}).fields)
    return list(range(5)) if mask is None else np.flatnonzero(mask).tolist()


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"category": "tea"}, [0, 3]),
        ({"category": {"any_of": ["tea", "bread"]}}, [0, 3, 4]),
        ({"category": {"any_of": ["unheard of"]}}, []),
        ({"category": {"any_of": []}}, []),
        ({"category": {"none_of": ["tea"]}}, [1, 2, 4]),
        ({"category": {"any_of": ["tea", "wine"], "none_of": ["tea"]}}, [1]),
        ({"category": {"missing": True}}, [2]),
        ({"category": {"missing": False}}, [0, 1, 3, 4]),
        ({"price": {"ge": 1, "le": 5.5}}, [0, 2]),
        ({"price": {"gt": 1, "lt": 20}}, [2]),
        ({"price": {"le": 0}}, [4]),
        ({"price": 20}, [1]),
        ({"price": {"none_of": [20, 0]}}, [0, 2, 3]),
        ({"price": {"missing": True}}, [3]),
        ({"in_stock": True}, [0, 2, 4]),
        ({"in_stock": {"none_of": [False]}}, [0, 2, 3, 4]),
        ({"tags": "hot"}, [0, 1, 4]),
        ({"tags": {"any_of": ["cold", "hot"], "none_of": ["new"]}}, [1]),
        ({"tags": "new", "category": "tea", "price": {"missing": False}}, [0]),
    ],
)
def test_what_a_filter_lets_through(rules: Any, expected: list[int]) -> None:
    assert passed(rules) == expected


def test_true_is_not_one() -> None:
    """Python takes True and 1.0 for equal, also as keys of what is kept."""
    table = FieldTable(FIELDS)
    assert passed({"in_stock": True}, table) == [0, 2, 4]
    with pytest.raises(InputError, match=r"in_stock: holds true and false, so 1\.0 is never among them"):
        passed({"in_stock": 1}, table)
    assert passed({"price": 1}, table) == [0]
    with pytest.raises(InputError, match="price: holds numbers, so True is never"):
        passed({"price": True}, table)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], r"filter: expected a mapping, found \[\]"),
        ({"field": {}}, r"filter: unknown key 'field'\. Did you mean 'fields'\? Known here: fields, blocked, only"),
        ({"fields": ["a"]}, "filter.fields: expected a mapping of fields to rules"),
        ({"fields": {"price": {}}}, "filter.fields.price: is empty; there may be any_of"),
        ({"fields": {"price": {"min": 3}}}, "filter.fields.price: unknown key 'min'"),
        ({"fields": {"price": {"ge": "3"}}}, "filter.fields.price.ge: expected a number, found '3'"),
        ({"fields": {"price": {"ge": True}}}, "filter.fields.price.ge: expected a number, found True"),
        ({"fields": {"price": {"ge": None}}}, "filter.fields.price.ge: expected a number, found None"),
        ({"fields": {"price": {"le": float("nan")}}}, "filter.fields.price.le: nan is no finite number"),
        ({"fields": {"price": {"le": 10**400}}}, "is no finite number"),
        ({"fields": {"price": {"missing": 1}}}, "filter.fields.price.missing: expected true or false, found 1"),
        ({"fields": {"price": None}}, r"filter.fields.price: expected a value, or a mapping"),
        ({"fields": {"price": [1, 2]}}, r"filter.fields.price: expected a value, or a mapping such as"),
        ({"fields": {"category": {"any_of": "tea"}}}, "any_of: expected a list of values, found 'tea'"),
        ({"fields": {"category": {"none_of": [["tea"]]}}}, r"none_of: \['tea'\] is no text, number or boolean"),
        ({"fields": {"category": " "}}, "category: ' ' is no text"),
        ({"blocked": "7"}, "filter.blocked: expected a list of item ids, found '7'"),
        ({"only": {"a": 1}}, "filter.only: expected a list of item ids"),
        ({"blocked": [1.5]}, "filter.blocked: 1.5 is no item id"),
        ({"blocked": [True]}, "filter.blocked: True is no item id"),
    ],
)
def test_filters_that_are_wrong(value: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        Filter.parse(value)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (
            {"prize": 3},
            r"filter.fields: items have no field 'prize'\. Did you mean 'price'\? Of them there are category",
        ),
        ({"category": {"ge": 3}}, "filter.fields.category: holds texts; ge, gt, le and lt are for numbers"),
        ({"category": 3}, r"filter.fields.category: holds texts, so 3\.0 is never among them"),
        ({"tags": {"none_of": [True]}}, "filter.fields.tags: holds texts, so True is never among them"),
    ],
)
def test_rules_that_do_not_fit_the_fields(rules: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        passed(rules)


def test_where_no_fields_are_kept() -> None:
    with pytest.raises(InputError, match=r"no field 'price'\. Of them none are kept \(data\.item_fields\)"):
        FieldTable({}).view.mask({"price": FieldRule()})


def test_a_filter_is_read_as_it_is() -> None:
    assert Filter.parse(None) == Filter()
    wanted = Filter.parse({"blocked": [7, "a"], "only": []})
    assert (wanted.blocked, wanted.only) == (frozenset({"7", "a"}), frozenset())
    assert Filter.parse(wanted) is wanted


VALUES = {
    "category": st.sampled_from([None, "tea", "wine", "bread", ""]),
    "price": st.sampled_from([None, 0, 1.5, 3]),
    "tags": st.lists(st.sampled_from(["a", "b", "c"]), max_size=3),
}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_changes_are_those_of_plain_rows(data: st.DataObject) -> None:
    """Under any changes the table answers as rows do that are read one by one; views stay as they were."""
    row = st.fixed_dictionaries(VALUES)
    part = st.fixed_dictionaries({}, optional=VALUES)
    rows: list[dict[str, Any]] = data.draw(st.lists(row, min_size=1, max_size=6))
    table = FieldTable(dict.fromkeys(VALUES, (None,) * 1))
    table.replace([0], table.read(rows[:1], ["first"]))
    table.append(table.read(rows[1:], ["more"] * (len(rows) - 1)))
    rule = FieldRule.parse(
        data.draw(st.sampled_from([{"any_of": ["tea", "a"]}, {"none_of": ["wine", "b"]}, {"missing": True}])), "rule"
    )
    bounds = FieldRule(ge=1.0, le=2.0)
    for _ in range(data.draw(st.integers(0, 4))):
        before = table.view
        held = [before.values(place) for place in range(len(rows))]
        if data.draw(st.booleans()):
            more = data.draw(st.lists(part, min_size=1, max_size=3))
            table.append(table.read(more, ["new"] * len(more)))
            rows = [*rows, *more]
        else:
            place, change = data.draw(st.integers(0, len(rows) - 1)), data.draw(part)
            table.replace([place], table.read([change], ["changed"]))
            rows = [*rows[:place], rows[place] | change, *rows[place + 1 :]]
        assert [before.values(place) for place in range(len(held))] == held
    for name in ("category", "tags"):
        own = [set([row.get(name)] if isinstance(row.get(name), str) else row.get(name) or []) - {""} for row in rows]
        expected = [
            (rule.any_of is None or bool(values & set(rule.any_of)))
            and not values & set(rule.none_of)
            and (rule.missing is None or bool(values) != rule.missing)
            for values in own
        ]
        mask = table.view.mask({name: rule})
        assert mask is not None
        assert mask.tolist() == expected
    known = any(row.get("price") is not None for row in rows) or any("price" in view for view in [table.view.values(0)])
    if known:
        mask = table.view.mask({"price": bounds})
        assert mask is not None
        assert mask.tolist() == [row.get("price") is not None and 1 <= row["price"] <= 2 for row in rows]


def test_values_that_do_not_belong_to_a_field() -> None:
    table = FieldTable(FIELDS)
    for row, expected in (
        ({"prize": 1}, r"a, fields: items have no field 'prize'\. Did you mean 'price'"),
        ({"price": "dear"}, r"a, field 'price', beside values that are there, holds 1\.0 and 'dear'"),
        ({"category": 3}, "holds 'tea' and 3.0; a field's values are all of one kind"),
        ({"in_stock": 1}, "holds True and 1.0"),
        ({"price": float("inf")}, "a, field 'price': inf is no finite number"),
        ({"category": {"a": 1}}, "is no text, number, boolean or list of texts"),
        ({"tags": ["a", 1]}, "is no text, number, boolean or list of texts"),
        ([1], r"a: fields are a mapping of fields to values, got '\[1\]'"),
    ):
        with pytest.raises(InputError, match=expected):
            table.read([row], ["a"])  # type: ignore[list-item]
    assert table.read([{"tags": " one ", "price": 3}], ["a"]) == [{"tags": "one", "price": 3.0}]
