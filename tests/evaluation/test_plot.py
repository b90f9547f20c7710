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
from peftrec.evaluation.report import Plot, Section
from peftrec.evaluation.report_page import plot_files

NAMES = [f"model {number}" for number in range(len(COLOURS))]
SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(standalone(svg))


def shapes(svg: str) -> list[str]:
    """Give each mark's form, wherever it stands and whatever colour it has."""
    forms = []
    for mark in re.findall(r'<circle [^>]*style="fill|<path d="[^"]*Z" style="fill', svg):
        numbers = [float(number) for number in re.findall(r"-?\d+\.\d", mark)]
        forms.append(
            "round" if "circle" in mark else str([round(n - numbers[i % 2], 1) for i, n in enumerate(numbers)])
        )
    return forms


def test_every_series_has_a_mark_of_its_own() -> None:
    forms = shapes(legend(NAMES))
    assert len(forms) == len(COLOURS) == len(set(forms))


def test_bins_draw_a_mark_a_value_and_a_whisker_an_interval() -> None:
    series = {"a": [Interval(0.1, 0.05, 0.2), None, Interval(0.3)], "b": [Interval(0.2), Interval(0.0), Interval(0.1)]}
    svg = intervals_by_bin(["0", "1", "2-3"], series, below="events", beside="ndcg@10")
    root = parsed(svg)
    assert len(shapes(svg)) == 5
    assert len([line for line in root.iter(f"{SVG}line") if line.get("opacity")]) == 1
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert "a, 0: 0.1000 [0.0500, 0.2000]" in titles


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
        for name, edge in (("x", width), ("cx", width), ("x1", width), ("x2", width), ("y1", height), ("y2", height)):
            places = [float(found) for found in re.findall(rf' {name}="([-\d.]+)"', svg)]
            assert all(0 <= place <= edge for place in places), (name, places)


def test_names_of_all_kinds_stay_well_formed() -> None:
    odd = "a\x00\x1b<b>&\"'\u2028]]>"
    svg = intervals_by_row([(odd, odd * 5)], {odd: [Interval(0.5)]}, below=odd)
    for text in (svg, legend([odd]), share_curves({odd: [(0, 0), (1, 1)]}, below=odd, beside=odd)):
        parsed(text)


def test_a_file_is_as_wide_as_its_legend() -> None:
    names = [f"a rather long name of a model, number {number}" for number in range(6)]
    svg = share_curves({name: [(0.0, 0.0), (1.0, 1.0)] for name in names}, below="items", beside="places")
    section = Section("title", (), (Plot("curve", "told", legend(names), svg),))
    root = ElementTree.fromstring(plot_files([section])["curve.svg"])
    width = float(root.get("viewBox", "").split()[2])
    ends = [
        float(text.get("x", "0")) + 6 * len(text.text or "") for text in root.iter(f"{SVG}text") if text.text in names
    ]
    assert max(ends) <= width
