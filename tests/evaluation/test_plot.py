"""Plots: well-formed whatever names hold, every series told apart, everything inside the frame."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from peftrec.evaluation.plot import (
    COLOURS,
    Interval,
    intervals_by_bin,
    intervals_by_row,
    legend,
    share_curves,
    standalone,
)
from peftrec.evaluation.report_page import plot_files
from peftrec.evaluation.section import Plot, Section

NAMES = [f"model {number}" for number in range(42)]
SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(standalone(svg))


def marks(root: ElementTree.Element) -> list[tuple[str, str]]:
    """Give form and colour of each mark, wherever it stands."""
    found = []
    for mark in root.iter():
        if mark.get("class") == "series":
            numbers = [float(number) for number in re.findall(r"-?[\d.]+", mark.get("d", ""))]
            form = [round(n - numbers[i % 2], 1) for i, n in enumerate(numbers)]
            found.append((str(form or mark.tag), mark.get("style", "")))
    return found


def test_every_series_has_a_mark_of_its_own() -> None:
    found = marks(parsed(legend(NAMES)))
    assert len(found) == len(set(found)) == len(NAMES)
    # Without colours, too.
    assert len({form for form, _ in found[:7]}) == 7
    assert len({colour for _, colour in found[: len(COLOURS)]}) == len(COLOURS)


def test_bins_draw_a_mark_a_value_and_a_whisker_an_interval() -> None:
    series = {"a": [Interval(0.1, 0.05, 0.2), None, Interval(0.3)], "b": [Interval(0.2), Interval(0.0), Interval(0.1)]}
    svg = intervals_by_bin(["0", "1", "2-3"], series, below="events", beside="ndcg@10")
    root = parsed(svg)
    assert [colour for _, colour in marks(root)] == [f"fill:{COLOURS[number]}" for number in (0, 0, 1, 1, 1)]
    vertical = [line for line in root.iter(f"{SVG}line") if line.get("x1") == line.get("x2") and line.get("style")]
    (whisker,) = vertical
    # The grid's top line is 0.3: the frame is 198 high, from 12 on.
    assert (whisker.get("y1"), whisker.get("y2")) == ("177.0", "78.0")
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert "a, 0: 0.1000 [0.0500, 0.2000]" in titles


def test_rows_draw_a_mark_a_value_and_each_kind_once() -> None:
    rows = [("target", "head"), ("target", "tail"), ("user", "new")]
    series = {"a": [Interval(0.1, 0.0, 0.2), Interval(0.2), None], "b": [Interval(0.5)] * 3}
    root = parsed(intervals_by_row(rows, series, below="ndcg@10"))
    assert len(marks(root)) == 5
    assert [text.text for text in root.iter(f"{SVG}text") if text.get("class") == "kind"] == ["target", "user"]
    heights = [float(mark.get("cy", "0")) for mark in root.iter(f"{SVG}circle")]
    assert heights == sorted(set(heights))


def test_curves_that_lie_on_each_other_show_the_marks_of_all() -> None:
    points = [(number / 100, number / 100) for number in range(101)]
    root = parsed(share_curves({"a": points, "b": points}, below="items", beside="places"))
    assert len(marks(root)) == 4
    rounds = [float(mark.get("cx", "0")) for mark in root.iter(f"{SVG}circle")]
    squares = [mark.get("d", "") for mark in root.iter(f"{SVG}path") if mark.get("class") == "series"]
    lefts = [float(path.removeprefix("M").split()[0]) for path in squares]
    assert len(rounds) == len(lefts) == 2
    assert all(abs(x - left - 3.2) > 7 for x in rounds for left in lefts)


@pytest.mark.parametrize("value", [1e-9, 0.0, 0.02, 1.0, 37.0])
def test_all_is_inside_the_frame(value: float) -> None:
    interval = Interval(value, value / 2, value * 1.5)
    drawn = [
        intervals_by_bin(["0"], {"a": [interval]}, below="events", beside="metric"),
        intervals_by_row([("kind", "name")], {"a": [interval]}, below="metric"),
        share_curves({"a": [(0.0, 0.0), (0.5, 0.9), (1.0, 1.0)]}, below="items", beside="places"),
    ]
    for svg in drawn:
        _, _, width, height = (float(part) for part in parsed(svg).get("viewBox", "").split())
        root = parsed(svg)
        for element in root.iter():
            places = [(float(element.get(name, "0")), "x" in name) for name in ("x", "cx", "x1", "x2", "y", "cy", "y1")]
            corners = re.findall(r"(-?[\d.]+) (-?[\d.]+)", element.get("d", ""))
            places += [(float(number), across) for x, y in corners for number, across in ((x, True), (y, False))]
            assert all(0 <= place <= (width if across else height) for place, across in places), element.attrib


def test_names_of_all_kinds_stay_well_formed() -> None:
    odd = "a\x00\x1b<b>&\"'\u2028]]>"
    svg = intervals_by_row([(odd, odd * 5)], {odd: [Interval(0.5)]}, below=odd)
    for text in (svg, legend([odd]), share_curves({odd: [(0, 0), (1, 1)]}, below=odd, beside=odd)):
        parsed(text)


def test_long_names_stay_inside() -> None:
    """Of the letters of a legend's names, and of those of slices, none is drawn beyond the frame."""
    names = [f"a rather long name of a model, number {number}" for number in range(6)] + ["模型" * 30]
    svg = intervals_by_row([("kind " * 40, "Очень " * 20)], {name: [Interval(0.5)] for name in names}, below="metric")
    section = Section("title", (), (Plot("slices", "told", legend(names), svg),))
    root = ElementTree.fromstring(plot_files([section])["slices.svg"])
    _, _, width, height = (float(part) for part in root.get("viewBox", "").split())
    assert (width, height) == (560, 10 + 6 * 18 + 10 + 4 + float(svg.split('viewBox="0 0 560 ')[1].split('"')[0]))
    for text in root.iter(f"{SVG}text"):
        long = sum(11.5 if letter > "\u3000" else 6.5 for letter in text.text or "")
        start = float(text.get("x", "0")) - {"start": 0, "middle": long / 2, "end": long}[text.get("text-anchor", "")]
        assert start >= 0, text.text
        assert start + long <= width, text.text
    shown = [text.text or "" for text in root.iter(f"{SVG}text")]
    assert [name for name in names[:6] if name in shown] == names[:6]
    assert any(name.startswith("…") and name.endswith("模型") for name in shown)
