"""Lists as they are shown: rules before the cut, then re-ranking; nothing forbidden, k items wherever there are k."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from peftrec.config import InputError, parse_section
from peftrec.retrieval.list_plan import ListPlan
from peftrec.retrieval.recommendation import Item
from peftrec.retrieval.reranking import FieldFacts, Reranking
from peftrec.retrieval.reranking.field_fact import days_since, texts_of
from peftrec.retrieval.rules import RuleBook, RuleFile

KINDS = ("tea", "wine", "bread", "cheese")
NEVER = {"kind": "hide_text", "pattern": "forbidden", "name": "words"}
MINORS = {"kind": "minimum_age", "field": "kind", "values": ["wine"], "age": 18, "name": "age"}
MIXED = {"kind": "at_most", "field": "kind", "most": 2, "name": "mixed"}


class Shop:
    """Items by chance, and a search that sorts."""

    def __init__(self, seed: int, num_items: int = 40) -> None:
        rng = np.random.default_rng(seed)
        self.scores = rng.normal(size=num_items)
        self.items = [
            Item(
                item_id=f"i{row}",
                title="a forbidden thing" if row and rng.random() < 0.3 else "a thing",
                text="text",
                fields={"kind": str(rng.choice(KINDS))} if rng.random() < 0.9 else {},
            )
            for row in range(num_items)
        ]
        self.vectors = rng.normal(size=(num_items, 4)).astype(np.float32)
        self.asked: list[int] = []
        nothing = np.full(num_items, np.nan)
        self.facts = FieldFacts(
            ("kind",),
            lambda name, row: self.items[row].fields.get(name),
            self.vectors.__getitem__,
            nothing.__getitem__,
            0,
        )

    def search(self, count: int, hidden_N: NDArray[np.bool_] | None) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        self.asked.append(count)
        order = np.argsort(-self.scores, kind="stable")
        if hidden_N is not None:
            order = order[~hidden_N[order]]
        return order[:count], self.scores[order[:count]]

    def plan(self, *rules: dict[str, Any], steps: list[dict[str, Any]] | None = None, candidates: int = 12) -> ListPlan:
        file = parse_section(RuleFile, {"rules": list(rules)}) if rules else None
        reranking = None if steps is None else parse_section(Reranking, {"steps": steps, "candidates": candidates})
        return ListPlan(reranking, None if file is None else RuleBook(file, self.items, ("kind",)))

    def make(self, plan: ListPlan, k: int, age: float | None = None) -> tuple[list[int], dict[str, tuple[str, str]]]:
        found = plan.make(self.search, self.facts, lambda row: self.items[row].item_id, k, age=age)
        assert found.scores.tolist() == self.scores[found.rows].tolist()
        return found.rows.tolist(), {one.item_id: (one.rule, one.reason) for one in found.suppressed}

    def may_be_shown(self, row: int, age: float | None) -> bool:
        one = self.items[row]
        return "forbidden" not in one.title and (one.fields.get("kind") != "wine" or (age is not None and age >= 18))


def test_without_rules_and_steps_a_list_is_the_best_items() -> None:
    shop = Shop(0)
    plan = shop.plan()
    assert plan.is_plain
    assert not shop.plan(NEVER).is_plain
    assert not shop.plan(steps=[{"kind": "mmr", "diversity": 0.5}]).is_plain
    rows, suppressed = shop.make(plan, 5)
    assert rows == np.argsort(-shop.scores)[:5].tolist()
    assert suppressed == {}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 45), st.sampled_from([None, 12.0, 30.0]))
def test_k_items_come_back_wherever_there_are_k_that_may_be_shown(seed: int, k: int, age: float | None) -> None:
    shop = Shop(seed)
    plan = shop.plan(NEVER, MINORS)
    rows, suppressed = shop.make(plan, k, age)
    order = np.argsort(-shop.scores, kind="stable").tolist()
    assert rows == [row for row in order if shop.may_be_shown(row, age)][:k]
    assert list(suppressed) == [f"i{row}" for row in order[:k] if not shop.may_be_shown(row, age)]
    for name, (rule, reason) in suppressed.items():
        title = shop.items[int(name[1:])].title
        assert (rule, reason) == (
            ("words", "its title has 'forbidden'")
            if "forbidden" in title
            else ("age", "its kind is 'wine', shown from 18 years on")
        )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.booleans(), st.sampled_from([None, 30.0]))
def test_a_limit_holds_and_the_list_is_as_long_as_it_allows(
    seed: int, k: int, with_steps: bool, age: float | None
) -> None:
    shop = Shop(seed)
    steps = [{"kind": "mmr", "diversity": 0.4}, {"kind": "exposure", "field": "kind", "values": ["tea"], "share": 0.8}]
    rows, suppressed = shop.make(shop.plan(NEVER, MINORS, MIXED, steps=steps if with_steps else None), k, age)
    shown = Counter(value for row in rows for value in texts_of(shop.items[row].fields.get("kind")))
    assert max(shown.values(), default=0) <= 2
    assert all(shop.may_be_shown(row, age) for row in rows)
    allowed = [shop.items[row].fields.get("kind") for row in range(40) if shop.may_be_shown(row, age)]
    most = sum(kind is None for kind in allowed) + sum(
        min(2, count) for kind, count in Counter(allowed).items() if kind
    )
    assert len(rows) == min(k, most)
    assert not {f"i{row}" for row in rows} & set(suppressed)
    if not with_steps:
        # What would have stood in the list, but for one rule or another, is told with its reason.
        order = np.argsort(-shop.scores, kind="stable").tolist()
        passed = [row for row in order if shop.may_be_shown(row, age)][:k]
        hidden = [row for row in order[:k] if not shop.may_be_shown(row, age)]
        assert set(suppressed) == {f"i{row}" for row in [*hidden, *passed]} - {f"i{row}" for row in rows}


def test_reasons_of_limits_are_told() -> None:
    shop = Shop(3, num_items=4)
    shop.scores = np.array([4.0, 3.0, 2.0, 1.0])
    for row in range(4):
        shop.items[row] = Item(item_id=f"i{row}", title="t", text="t", fields={"kind": "tea" if row < 3 else "wine"})
    rows, suppressed = shop.make(shop.plan(MIXED), 3)
    assert rows == [0, 1, 3]
    assert suppressed == {"i2": ("mixed", "the list has 2 of kind 'tea'")}
    # One that the end of the list cut off is not told as suppressed.
    assert shop.make(shop.plan({**MIXED, "most": 1}), 1) == ([0], {})


def test_one_search_does_where_little_is_hidden() -> None:
    shop = Shop(5, num_items=200)
    shop.items = [
        Item(item_id=f"i{row}", title="forbidden" if row < 5 else "t", text="t", fields={}) for row in range(200)
    ]
    plan = shop.plan(NEVER)
    shop.make(plan, 10)
    assert shop.asked == [26]
    shop.scores[:5] = 9.0
    shop.scores[5:] -= 20.0
    shop.items = [
        Item(item_id=f"i{row}", title="forbidden" if row < 20 else "t", text="t", fields={}) for row in range(200)
    ]
    shop.scores[:20] = 9.0
    shop.asked.clear()
    rows, _ = shop.make(shop.plan(NEVER), 10)
    assert len(rows) == 10
    assert min(rows) >= 20
    assert shop.asked == [26, 10]


@pytest.mark.parametrize(
    ("value", "days"),
    [
        (None, float("nan")),
        (1970.0, -181.0),
        ("1970-01-02", -1.0),
        ("1970-01-01T12:00:00", -0.5),
        ("1970-01-01T12:00:00+12:00", 0.0),
    ],
)
def test_dates_are_read(value: Any, days: float) -> None:
    np.testing.assert_allclose(days_since(value, 0.0, "out"), days)


@pytest.mark.parametrize("value", ["soon", 12.5, 3.0, True, ("2020-01-01",)])
def test_what_is_no_date_is_named(value: Any) -> None:
    with pytest.raises(InputError, match=r"field 'out' holds .*; a date is written 2024-05-31, or is a year"):
        days_since(value, 0.0, "out")


def test_facts_of_fields() -> None:
    values = {"kind": [("a", "b"), "c", None], "out": [2020.0, "2020-07-01", None]}
    added = np.array([0.0, np.nan, 86_400.0])
    facts = FieldFacts(("kind", "out"), lambda name, row: values[name][row], None, added.__getitem__, 86_400.0)
    rows = np.array([2, 0, 1])
    groups = facts.groups("kind", rows)
    assert (groups.names, groups.places.tolist(), groups.offsets.tolist()) == (("a", "b", "c"), [0, 1, 2], [0, 0, 2, 3])
    assert facts.days_old(None, rows).tolist()[:2] == [0.0, 1.0]
    assert np.isnan(facts.days_old(None, rows)[2])
    found = facts.days_old("out", rows)
    assert np.isnan(found[0])
    assert found[1] == found[2]
    with pytest.raises(InputError, match=r"items have no field 'knd'. Did you mean 'kind'"):
        facts.groups("knd", rows)
    with pytest.raises(InputError, match="items have no field 'when'"):
        facts.days_old("when", rows)
    with pytest.raises(InputError, match="this run has no vectors of items"):
        facts.vectors(rows)
    assert [texts_of(value) for value in (None, True, 3.0, 2.5, "x", ("x", "y"))] == [
        (), ("true",), ("3",), ("2.5",), ("x",), ("x", "y")
    ]  # fmt: skip
