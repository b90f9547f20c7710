from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftrec.config import RecipeError
from peftrec.data import Template


def render(template: str, **values: str | None) -> str:
    frame = pl.DataFrame({name: pl.Series([value], dtype=pl.String) for name, value in values.items()})
    return str(Template(template).render(frame)[0])


@pytest.mark.parametrize(
    ("title", "category", "expected"),
    [
        ("Toy Story", "Comedy", "Toy Story. Comedy"),
        ("Toy Story", None, "Toy Story"),
        ("Toy Story", " \t", "Toy Story"),
        (None, "Comedy", "Comedy"),
        ("", "", ""),
        (" Toy Story ", " Comedy ", "Toy Story. Comedy"),
        ("Dr. No.", "Action", "Dr. No. Action"),
        ("What?", "Comedy", "What? Comedy"),
        ("Wait…", "Comedy", "Wait… Comedy"),
        ("Toy, Inc", "Comedy.", "Toy, Inc. Comedy."),
        ("{category}", "{title} {0} {", "{category}. {title} {0} {"),
        ("映画", "喜劇", "映画. 喜劇"),
        ("قصة لعبة", "كوميديا", "قصة لعبة. كوميديا"),
        ("قصة لعبة", None, "قصة لعبة"),
        ("🎬", None, "🎬"),
    ],
)
def test_title_and_category(title: str | None, category: str | None, expected: str) -> None:
    assert render("{title}. {category}", title=title, category=category) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [  # a and b, a alone, b alone
        ("{a} - {b}", ("A - B", "A", "B")),
        ("{a}, {b}.", ("A, B.", "A", "B.")),
        ("{a}\n{b}", ("A\nB", "A", "B")),
        ("{a}: {b}", ("A: B", "A", "B")),
        ("{a} {b}", ("A B", "A", "B")),
        ("{a}{b}", ("AB", "A", "B")),
        ("{a}/{b}", ("A/B", "A", "B")),
        ("{a} | {b} |", ("A | B |", "A", "B |")),
        ("{a}。{b}", ("A。B", "A", "B")),
        ("{a}، {b}", ("A، B", "A", "B")),
        ("Title: {a}. Genre: {b}", ("Title: A. Genre: B", "Title: A", "Genre: B")),
        ("{a} by {b}", ("A by B", "A", "by B")),
        ("{a} kg, {b} left", ("A kg, B left", "A kg", "B left")),
        ("{a} full-length {b}", ("A full-length B", "A", "full-length B")),
        ("{a} ({b})", ("A (B)", "A", "(B)")),
        ("{a} [from {b}, new]", ("A [from B, new]", "A", "[from B, new]")),
        ("({a}) {b}", ("(A) B", "(A)", "B")),
        ("((x) {a}) {b}", ("((x) A) B", "((x) A)", "B")),
        ('"{a}" by {b}.', ('"A" by B.', '"A"', "by B.")),
        ("«{a}» {b}", ("«A» B", "«A»", "B")),
        ("{{{a}}} {b}", ("{A} B", "{A}", "B")),
        ("{a} ({b}", ("A (B", "A", "(B")),
        ("(new) {a}. {b}", ("(new) A. B", "(new) A", "B")),
        ("{a}. {b} or {a}", ("A. B or A", "A or A", "B")),
    ],
)
def test_empty_values_leave_no_separator(template: str, expected: tuple[str, str, str]) -> None:
    assert render(template, a="A", b="B") == expected[0]
    assert render(template, a="A", b="") == expected[1]
    assert render(template, a=None, b="B") == expected[2]
    assert render(template, a=None, b="") == ""


def test_groups_and_middles() -> None:
    template = "{t} ({y}, {c}). {g}"
    assert render(template, t="Toy", y="1995", c="US", g="Comedy") == "Toy (1995, US). Comedy"
    assert render(template, t="Toy", y="", c="US", g="Comedy") == "Toy (US). Comedy"
    assert render(template, t="Toy", y="1995", c="", g="") == "Toy (1995)"
    assert render(template, t="Toy", y="", c="", g="Comedy") == "Toy. Comedy"
    assert render("{a}, {b}, {c}", a="A", b="", c="C") == "A, C"
    assert render("{a} by {b}: {c}", a="A", b="", c="C") == "A: C"


def test_many_rows_at_once() -> None:
    frame = pl.DataFrame({"a": ["A", None, "X"], "b": [None, "B", "Y"], "other": [1, 2, 3]})
    assert Template("{a}. {b}").render(frame).to_list() == ["A", "B", "X. Y"]


_values = st.one_of(st.none(), st.just(""), st.text(alphabet="abcé{}()$\\0م漢", min_size=1, max_size=4))


@settings(max_examples=60, deadline=None)
@given(values=st.lists(_values, min_size=3, max_size=3))
def test_separators_stand_only_between_values(values: list[str | None]) -> None:
    held = [value for value in values if value]
    a, b, c = values
    assert render("{a}. {b} - {c}", a=a, b=b, c=c).replace(" - ", ". ") == ". ".join(held)


def test_fields_and_unknown_columns() -> None:
    template = Template("{title}. {categori} {title}")
    assert template.fields == ("title", "categori")
    with pytest.raises(RecipeError, match="names the column 'categori'") as caught:
        template.check(["item_id", "title", "category"], table="items.csv")
    assert "Did you mean 'category'?" in str(caught.value)
    assert "Columns there: item_id, title, category" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "no column", "{}", "{0}", "{ }", "{a!r}", "{a:>3}", "{a", "a}", "{a[0]}", "{a{b}}", "{{a}}"]
)
def test_malformed_templates_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="template"):
        Template(text)
