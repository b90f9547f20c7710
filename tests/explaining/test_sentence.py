"""Sentences: what they say in each case, and what people may put into templates and titles."""

from __future__ import annotations

from typing import Any

import pytest

from peftrec.config import InputError
from peftrec.explaining import HistoryEvidence, SentenceTemplates, WordEvidence
from peftrec.explaining.sentence import plain, sentence


def event(title: str, change: float, item_id: str | None = None, place: int = 0) -> HistoryEvidence:
    return HistoryEvidence(item_id=item_id or title, title=title, event=place, change=change, attention=None)


def word(text: str, attribution: float) -> WordEvidence:
    return WordEvidence(text=text, start=0, end=len(text), attribution=attribution)


def say(evidence: list[HistoryEvidence], words: list[WordEvidence] | None = None, basis: Any = "history") -> str:
    return sentence(SentenceTemplates(), basis, 10.0, evidence, words)


def test_each_case_is_said_as_it_is() -> None:
    both = [event("B", 1.0), event("A", 2.0), event("C", 0.5)]
    assert say(both) == "Because you had A and B."
    words = [word("red", 3.0), word("the", 0.05), word("wine", 4.0), word(".", 9.0), word("Red", 1.0), word("x", -5.0)]
    assert say(both, words) == "Because you had A and B; its text says 'wine' and 'red'."
    assert say([event("A", 0.05), event("B", -0.01)]) == "No single item of your history carries this."
    assert say([event("A", -0.5)]) == "No single item of your history carries this; A speaks against it."
    assert say([event("A", 1.0), event("B", -2.0)]) == "Because you had A; B speaks against it."
    assert say([event("A", 1.0), event("B", -0.5)]) == "Because you had A."
    assert say([], basis="popularity") == "Popular: nothing is known of you yet."
    assert say([], words, basis="attributes") == (
        "From what is known of you; there is no history; its text says 'wine' and 'red'."
    )


def test_an_item_that_was_had_twice_is_named_once() -> None:
    assert say([event("A", 3.0, place=4), event("A", 2.0, place=1), event("B", 1.0)]) == "Because you had A and B."
    assert say([event("A", 3.0, "1"), event("A", 2.0, "2")]) == "Because you had A and A."  # two items of one name


def test_the_score_may_be_negative_or_nothing() -> None:
    assert sentence(SentenceTemplates(), "history", -10.0, [event("A", 0.05)], None).startswith("No single item")
    assert sentence(SentenceTemplates(), "history", 0.0, [event("A", 0.05)], None) == "Because you had A."
    assert sentence(SentenceTemplates(), "history", 0.0, [event("A", 0.0)], None).startswith("No single item")


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("{items} {0.__class__} {", "{items} {0.__class__} {"),
        ("%s %(a)s $x", "%s %(a)s $x"),
        ("two\nlines\t\x00\x1b[31m", "two lines [31m"),
        ("\u202egnp.exe\u202c", "gnp.exe"),
        ("a\u2028b", "a b"),
        ("日本語 👩‍👩‍👧 e\u0301", "日本語 👩‍👩‍👧 e\u0301"),
        ("x" * 200, "x" * 79 + "…"),
        ("<b>'\"&", "<b>'\"&"),
        ("\ud800", "\ufffd"),
        ("\x00", "id"),
    ],
)
def test_titles_are_data(title: str, shown: str) -> None:
    assert say([event(title, 2.0, "id")]) == f"Because you had {shown}."
    assert plain(title) in (shown, "")


def test_templates_can_be_given() -> None:
    german = SentenceTemplates(
        history="{items} {{gefielen}} dir", words="im Text steht {words}", nothing="Kein einzelner Grund", both=" und "
    )
    found = sentence(german, "history", 1.0, [event("A", 1.0), event("B", 0.5)], [word("rot", 1.0)])
    assert found == "A und B {gefielen} dir; im Text steht 'rot'."
    assert sentence(german, "history", 1.0, [], None) == "Kein einzelner Grund."


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ({"history": "Because"}, r"template history: 'Because' must hold \{items\} once"),
        ({"history": "{items} {items}"}, "once"),
        ({"history": "{items} {words}"}, "no other placeholder"),
        ({"history": "{items.__class__}"}, "no other placeholder"),
        ({"history": "{items!r}"}, "no other placeholder"),
        ({"history": "{items:>9}"}, "no other placeholder"),
        ({"history": "{}"}, "no other placeholder"),
        ({"history": "{items"}, "cannot be read"),
        ({"words": "{items}"}, r"must hold \{words\} once"),
        ({"nothing": "none {items}"}, r"has no placeholder to fill, but holds \{items\}"),
        ({"popularity": ""}, "template popularity: '' is no text"),
        ({"between": 3}, "template between: 3 is no text"),
    ],
)
def test_templates_that_cannot_be_filled_are_refused(templates: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SentenceTemplates(**templates)
