"""Rules: what each hides, what is refused, and that nothing forbidden is ever let through."""

from __future__ import annotations

import datetime
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftrec.config import InputError, RecipeError, parse_section
from peftrec.data.item_field import FieldValue
from peftrec.retrieval.recommendation import Item, Suppressed
from peftrec.retrieval.reranking.field_fact import texts_of
from peftrec.retrieval.rules import (
    Audit,
    AuditLog,
    RuleBook,
    RuleFile,
    read_rules,
)
from peftrec.retrieval.rules.hide_text import LATE

FIELDS = ("category", "price", "in_stock")


def item(item_id: str, title: str = "a thing", text: str = "some text", **fields: FieldValue) -> Item:
    return Item(item_id=item_id, title=title, text=text, fields=fields)


SHOP = (
    item("1", "Green tea", category="tea", price=4.0, in_stock=True),
    item("2", "Red wine", category=("wine", "gift"), price=12.0, in_stock=True),
    item("3", "Bread knife", "sharp steel", category="kitchen", price=30.0, in_stock=False),
    item("4", "Mystery box"),
)


def file_of(*rules: dict[str, Any], **more: Any) -> RuleFile:
    return parse_section(RuleFile, {"rules": list(rules), **more})


def book(*rules: dict[str, Any], items: tuple[Item, ...] = SHOP) -> RuleBook:
    return RuleBook(file_of(*rules), items, FIELDS, "rules.yaml")


def hidden(rules: RuleBook, age: float | None = None) -> list[str]:
    return [one.item_id for one, is_hidden in zip(SHOP, rules.verdicts.hidden(age), strict=True) if is_hidden]


@pytest.mark.parametrize(
    ("rule", "ids", "reason"),
    [
        ({"kind": "hide_items", "items": ["3", 1, "not there"]}, ["1", "3"], "its id is listed"),
        ({"kind": "hide_matching", "where": {"category": "wine"}}, ["2"], "its category is 'wine, gift'"),
        ({"kind": "hide_matching", "where": {"price": {"ge": 12}}}, ["2", "3"], "its price is '12'"),
        ({"kind": "hide_matching", "where": {"price": {"gt": 12, "lt": 30}}}, [], None),
        ({"kind": "hide_matching", "where": {"price": {"missing": True}}}, ["4"], "its price is missing"),
        ({"kind": "hide_matching", "where": {"in_stock": False}}, ["3"], "its in_stock is 'False'"),
        ({"kind": "hide_matching", "where": {"in_stock": True, "price": {"le": 5}}}, ["1"],
         "its in_stock is 'True' and its price is '4'"),
        ({"kind": "show_only", "where": {"category": {"none_of": ["gift"]}}}, ["2"], "its category is 'wine, gift'"),
        ({"kind": "show_only", "where": {"price": {"le": 12}}}, ["3", "4"], "its price is '30'"),
        ({"kind": "hide_text", "pattern": r"\bkni(fe|ves)\b"}, ["3"], "its title has 'knife'"),
        ({"kind": "hide_text", "pattern": "STEEL", "on": ["text"]}, ["3"], "its text has 'steel'"),
        ({"kind": "hide_text", "pattern": "STEEL", "ignore_case": False}, [], None),
        ({"kind": "hide_text", "pattern": "steel", "on": ["title"]}, [], None),
    ],
)  # fmt: skip
def test_each_kind_hides_what_it_says(rule: dict[str, Any], ids: list[str], reason: str | None) -> None:
    rules = book(rule)
    assert hidden(rules) == ids
    if ids:
        row = [one.item_id for one in SHOP].index(ids[0])
        assert rules.verdicts.why(row) == (f"{rule['kind']} 1", reason)
    shown = [row for row, one in enumerate(SHOP) if one.item_id not in ids]
    assert [rules.verdicts.why(row) for row in shown] == [None] * len(shown)


def test_who_tells_no_age_is_under_age() -> None:
    rules = book(
        {"kind": "minimum_age", "name": "drinks", "field": "category", "values": ["wine", "beer"], "age": 18},
        {"kind": "hide_items", "items": ["4"]},
    )
    for age in (None, 17.9, -1, float("nan")):
        assert hidden(rules, age) == ["2", "4"]
        assert rules.verdicts.why(1, age) == ("drinks", "its category is 'wine', shown from 18 years on")
    for age in (18, 99.0):
        assert hidden(rules, age) == ["4"]
        assert rules.verdicts.why(1, age) is None
    assert rules.verdicts.why(3, 18) == ("hide_items 2", "its id is listed")


def test_of_several_rules_the_first_is_named() -> None:
    rules = book(
        {"kind": "hide_text", "pattern": "knife", "name": "no knives"},
        {"kind": "hide_items", "items": ["3", "4"], "name": "recalled"},
    )
    assert rules.verdicts.why(2) == ("no knives", "its title has 'knife'")
    assert rules.verdicts.why(3) == ("recalled", "its id is listed")
    assert rules.names == ("no knives", "recalled")


def test_a_limit_of_lists_becomes_a_constraint() -> None:
    rules = book(
        {"kind": "at_most", "field": "category", "most": 2, "name": "mixed"}, {"kind": "hide_items", "items": [1]}
    )
    ((name, cap),) = rules.limits
    assert (name, cap.field, cap.most, cap.is_hard) == ("mixed", "category", 2, True)
    assert hidden(rules) == ["1"]


def test_a_pattern_that_goes_back_and_forth_is_stopped() -> None:
    catastrophe = {"kind": "hide_text", "pattern": "^(a|aa)+$", "name": "letters"}
    endless = item("5", "a" * 60 + "!")
    with pytest.raises(InputError) as error:
        book(catastrophe, items=(*SHOP, endless))
    assert str(error.value) == "rules.yaml, rule 1 ('letters'): takes too long on item '5'; write a simpler pattern"
    # An item that comes later is hidden rather than let through unread, and the service goes on.
    rules = book(catastrophe)
    rules.judge([4], [endless])
    assert rules.verdicts.hidden().tolist() == [False] * 4 + [True]
    assert rules.verdicts.why(4) == ("letters", LATE)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"kind": "hide_matching", "where": {"categori": "tea"}, "name": "no tea"}],
         "rules.yaml, rule 1 ('no tea'): items have no field 'categori'. Did you mean 'category'? Of them there are"),
        ([{"kind": "at_most", "field": "brand", "most": 2}], "rule 1 ('at_most 1'): items have no field 'brand'."),
        ([{"kind": "minimum_age", "field": "kind", "values": ["x"], "age": 18}], "items have no field 'kind'"),
        ([{"kind": "hide_items", "items": ["1"]}, {"kind": "show_only", "where": {"category": "cheese"}}],
         "rules.yaml, rule 2 ('show_only 2'): hides every item (its category is 'tea', and so on)"),
        ([{"kind": "hide_items", "items": ["1", "2"]}, {"kind": "hide_items", "items": ["3", "4"]}],
         "rules.yaml: the rules together hide every item"),
    ],
)  # fmt: skip
def test_rules_that_do_not_fit_the_catalogue_are_refused(rules: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError) as error:
        book(*rules)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: []", "rules.yaml: rules: is empty"),
        ("{}", "rules: missing"),
        ("rules: [{kind: hide_item, items: [a]}]", "unknown kind 'hide_item' (str). Did you mean 'hide_items'?"),
        ("rules: [{kind: hide_items, items: []}]", "rules[0].items: is empty"),
        ("rules: [{kind: hide_items, items: [a], reason: x}]", "rules[0].reason: unknown key."),
        ("rules: [{kind: hide_text, pattern: ' '}]", "rules[0].pattern: is empty; it would be found in every text"),
        ("rules: [{kind: hide_text, pattern: 'x*'}]", "rules[0].pattern: 'x*' is found in an empty text"),
        ("rules: [{kind: hide_text, pattern: '(x'}]", "rules[0].pattern: '(x' is no regular expression"),
        ("rules: [{kind: hide_text, pattern: x, on: []}]", "rules[0].on: is empty"),
        ("rules: [{kind: hide_text, pattern: x, on: [titel]}]", "on[0]: 'titel' (str) is not allowed."),
        ("rules: [{kind: hide_matching, where: {}}]", "rules[0].where: is empty"),
        ("rules: [{kind: hide_matching, where: {price: {above: 3}}}]", "where.fields.price: unknown key 'above'."),
        ("rules: [{kind: hide_matching, where: {price: {ge: many}}}]", "where.fields.price.ge: expected a number"),
        ("rules: [{kind: minimum_age, field: a, values: [], age: 18}]", "rules[0].values: is empty"),
        ("rules: [{kind: minimum_age, field: a, values: [b], age: 0}]", "rules[0].age: 0.0 is out of range"),
        ("rules: [{kind: at_most, field: a, most: 0}]", "rules[0].most: 0 is out of range"),
        ("rules: [{kind: classifier, model: m, label: x, threshold: 2}]", "rules[0].threshold: 2.0 is out of range"),
        ("rules: [{kind: classifier, model: m, label: x, on: []}]", "rules[0].on: is empty"),
        ("rules: [{kind: hide_items, items: [a], name: n}, {kind: hide_items, items: [b], name: n}]", "named 'n'"),
        ("rules: [{kind: hide_items, items: [a]}]\naudit: {file: ' '}", "audit.file: is empty"),
        ("rules: [{kind: hide_items, items: [a]}]\naudit: {file: a, max_mib: 0}", "audit.max_mib: 0.0 is out of range"),
        ("rules: [{kind: hide_items, items: [a]}]\nblocked: [a]", "blocked: unknown key"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_by_name_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as error:
        read_rules(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_a_good_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(
        "rules:\n  - {kind: hide_items, items: [a, 7]}\naudit: {file: log.jsonl, keep: 2}\n", encoding="utf-8"
    )
    found = read_rules(path)
    assert found.names == ("hide_items 1",)
    assert found.audit == Audit(file="log.jsonl", keep=2)


WORDS = ("tea", "wine", "knife", "steel", "gift")
_values = st.one_of(
    st.none(), st.sampled_from(WORDS), st.lists(st.sampled_from(WORDS), min_size=1, unique=True).map(tuple)
)
_items = st.builds(
    lambda title, category, price: (title, category, price),
    st.sampled_from(WORDS),
    _values,
    st.one_of(st.none(), st.floats(0, 50, allow_nan=False)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), _items), max_size=25), st.sampled_from([None, 10.0, 30.0]))
def test_nothing_forbidden_is_let_through_whatever_comes_and_changes(
    changes: list[tuple[int, tuple[str, FieldValue, float | None]]], age: float | None
) -> None:
    """Items come in rows that may be skipped, and change; after each change the verdicts are those of plain Python."""
    rules = book(
        {"kind": "hide_text", "pattern": "knife"},
        {"kind": "hide_matching", "where": {"category": {"any_of": ["steel", "gift"]}}},
        {"kind": "hide_matching", "where": {"price": {"gt": 40}}},
        {"kind": "minimum_age", "field": "category", "values": ["wine"], "age": 18},
    )
    there: dict[int, Item] = dict(enumerate(SHOP))
    for row, (title, category, price) in changes:
        before = rules.verdicts
        held = before.hidden(age).copy()
        one = item(f"new {row}", title, category=category, price=price)
        rules.judge([row], [one])
        there[row] = one
        # What readers hold does not change under them.
        assert (before.hidden(age) == held).all()
        found = rules.verdicts.hidden(age)
        assert len(found) == max(there) + 1
        for place in range(len(found)):
            known = there.get(place)
            assert bool(found[place]) == (known is not None and forbidden(known, age))
            assert (rules.verdicts.why(place, age) is not None) == bool(found[place])


def forbidden(one: Item, age: float | None) -> bool:
    categories = texts_of(one.fields.get("category"))
    price = one.fields.get("price")
    return (
        "knife" in one.title.lower()
        or "knife" in one.text
        or bool({"steel", "gift"} & set(categories))
        or (isinstance(price, float) and price > 40)
        or ("wine" in categories and (age is None or age < 18))
    )


def test_what_rules_hid_is_counted_and_logged_without_users(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    kinds = [{"kind": "hide_items", "items": ["1"], "name": "recalled"}, {"kind": "hide_text", "pattern": "knife"}]
    rules = RuleBook(file_of(*kinds, audit={"file": str(path)}), SHOP, FIELDS)
    assert rules.counts == {"recalled": 0, "hide_text 2": 0}
    told = [Suppressed(item_id="1", rule="recalled", reason="its id is listed")]
    rules.record(told, user="anna")
    rules.record([])
    rules.record(told * 2)
    assert rules.counts == {"recalled": 3, "hide_text 2": 0}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [sorted(line) for line in lines] == [["item", "reason", "rule", "time"]] * 3
    assert "anna" not in path.read_text(encoding="utf-8")
    with_users = RuleBook(file_of(*kinds, audit={"file": str(path), "user_ids": True}), SHOP, FIELDS)
    with_users.record(told, user="anna")
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[-1])["user"] == "anna"


def test_a_log_is_kept_to_its_size(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = AuditLog(Audit(file=str(path), max_mib=200 / 2**20, keep=2), lambda: datetime.datetime(2026, 1, 2))
    for number in range(12):
        log.write([{"rule": "r", "item": f"{number:02d}", "reason": "x" * 20}])
    sizes = [one.stat().st_size for one in sorted(tmp_path.iterdir())]
    assert [one.name for one in sorted(tmp_path.iterdir())] == ["log.jsonl", "log.jsonl.1", "log.jsonl.2"]
    assert max(sizes) <= 200
    lines = [line for name in (".2", ".1", "") for line in (tmp_path / f"log.jsonl{name}").read_text().splitlines()]
    items = [json.loads(line)["item"] for line in lines]
    assert items == [f"{number:02d}" for number in range(12 - len(items), 12)]
    assert len(items) >= 4
    with pytest.raises(InputError, match=r"audit.file: .*cannot be written"):
        AuditLog(Audit(file=str(tmp_path / "nowhere" / "log.jsonl")))


def test_lines_of_several_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    # Two logs, as two processes have them.
    logs = [AuditLog(Audit(file=str(path), max_mib=3000 / 2**20, keep=50)) for _ in range(2)]

    def work(log: AuditLog, name: str) -> None:
        for number in range(50):
            log.write([{"rule": "r", "item": f"{name}{number}", "reason": "ü" * 20}])

    threads = [threading.Thread(target=work, args=(logs[at % 2], "abcd"[at])) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [json.loads(line)["item"] for one in tmp_path.iterdir() for line in one.read_text("utf-8").splitlines()]
    assert sorted(found) == sorted(f"{name}{number}" for name in "abcd" for number in range(50))


@pytest.fixture(scope="module")
def folder(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random classifier of two labels."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    config = BertConfig.from_pretrained(tiny_bert, id2label={0: "fine", 1: "toxic"}, label2id={"fine": 0, "toxic": 1})
    BertForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)
    return folder


class TestClassifier:
    def scores(self, folder: Path, texts: list[str]) -> list[float]:
        """One text at a time, as plain transformers has it."""
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
        network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        with torch.no_grad():
            return [network(**tokenizer(text, return_tensors="pt")).logits.softmax(1)[0, 1].item() for text in texts]

    def test_it_hides_what_plain_transformers_scores_high(self, folder: Path) -> None:
        texts = ["red wine small", "green tea", "blue cheese large", "rye bread", "herb tea iced large", "rye bread"]
        expected = self.scores(folder, texts)
        threshold = float(np.median(expected))
        items = tuple(item(str(number), text=text) for number, text in enumerate(texts))
        rule = {"kind": "classifier", "model": str(folder), "label": "toxic", "threshold": threshold}
        rules = RuleBook(file_of(rule), items[:5], ())
        rules.judge([5], items[5:])
        clear = [number for number, score in enumerate(expected) if abs(score - threshold) > 1e-5]
        assert len(clear) >= 4
        found = rules.verdicts.hidden()
        assert [bool(found[number]) for number in clear] == [expected[number] >= threshold for number in clear]
        (judge,) = rules._judges.values()
        assert judge.num_scored == 5, "'rye bread' is scored once"
        row = next(number for number in clear if expected[number] >= threshold)
        assert rules.verdicts.why(row) == ("classifier 1", f"toxic {expected[row]:.2f}")

    def test_scores_outlive_the_process(self, folder: Path, tmp_path: Path) -> None:
        cache = tmp_path / "scores.json"
        rule = {"kind": "classifier", "model": str(folder), "label": "toxic", "threshold": 1.0, "cache": str(cache)}
        items = (item("1", text="green tea"), item("2", text="red wine"))
        for label, scored in (("toxic", 2), ("toxic", 0), ("fine", 2)):
            (judge,) = RuleBook(file_of({**rule, "label": label}), items, ())._judges.values()
            assert judge.num_scored == scored
        cache.write_text("[]", encoding="utf-8")
        with pytest.raises(InputError, match=r"rule 1 .*cache: .*scores.json is no file of scores"):
            RuleBook(file_of(rule), items, ())
        with pytest.raises(InputError, match="cache: there is no folder"):
            RuleBook(file_of({**rule, "cache": str(tmp_path / "no" / "s.json")}), items, ())

    def test_what_cannot_be_is_refused(self, folder: Path, tmp_path: Path) -> None:
        rule = {"kind": "classifier", "model": str(folder), "label": "rude"}
        with pytest.raises(InputError, match=r"rules, rule 1 \('classifier 1'\): label: .* there are fine, toxic"):
            RuleBook(file_of(rule), SHOP, ())
        with pytest.raises(InputError, match="is no text classifier that can be loaded"):
            RuleBook(file_of({**rule, "model": str(tmp_path)}), SHOP, ())
