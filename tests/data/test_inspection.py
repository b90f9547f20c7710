"""What an inspection counts, by hand; and its page, which must show odd data harmlessly."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftrec.data import CleaningConfig, Dataset, Inspection, SessionConfig, inspect_dataset, inspection_page
from peftrec.data.cold_item_split import ColdItems
from peftrec.data.distribution import distribution
from peftrec.data.split import GlobalTime

if TYPE_CHECKING:
    from .conftest import Workspace

HEADER = "user_id,item_id,timestamp\n"


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=200))
def test_bins_hold_every_value(values: list[int]) -> None:
    found = distribution("length", np.array(values))
    assert sum(found.counts) == len(values) == found.number
    assert len(found.edges) == len(found.counts) + 1 <= 38
    assert all(low < high for low, high in zip(found.edges[:-1], found.edges[1:], strict=True))
    assert found.edges[0] <= min(values)
    assert found.edges[-1] > max(values)
    ordered = sorted(values)
    assert found.percentiles[0] == ordered[0]
    assert found.percentiles[50] == ordered[(len(values) - 1) // 2]
    assert found.percentiles[100] == ordered[-1]


def test_small_ranges_have_a_bin_a_number() -> None:
    found = distribution("length", np.array([2, 2, 3, 5]))
    assert (found.edges, found.counts, found.mean) == ((2, 3, 4, 5, 6), (2, 1, 0, 1), 3.0)
    assert distribution("length", np.array([7])).counts == (1,)


class TestNumbers:
    def inspect(self, workspace: Workspace, **values: Any) -> Inspection:
        # Users a and b train on items b, c, d; the test period asks for e, which nobody has touched before.
        workspace.write(
            "interactions.csv",
            HEADER + "a,b,1700000000\na,b,1700000000\na,c,1700000100\na,d,1700000300\na,e,1700000700\n"
            "b,b,1700000050\nb,b,1700000200\nb,c,1700000500\nb,e,1700000800\nb,0012,1700000900\n",
        )
        workspace.write(
            "items.csv",
            "item_id,title,category\n0012,Red,x\nb,The cat and the dog,x\nc,Red,y\nd,Red,x\nd,Red,z\ne,Blue Sky,x\n",
        )
        split = GlobalTime(valid_fraction=2 / 9, test_fraction=3 / 9)
        return inspect_dataset(workspace.load(split=split), **values)

    def test_counts(self, workspace: Workspace) -> None:
        found = self.inspect(workspace)
        assert (found.users, found.items, found.events, found.pairs) == (2, 5, 9, 8)
        assert found.density == 0.8
        assert (found.duplicate_rows, found.duplicate_item_ids) == (1, 1)
        assert found.items_without_events == 0
        assert (found.context_events, found.taken_out, found.event_kinds) == (0, 0, ())
        assert found.popularity.percentiles[100] == 3
        # Items b, c, e, d, 0012 have 3, 2, 2, 1, 1 of 9 events.
        assert found.curve == ((0, 0), (0.2, 3 / 9), (0.4, 5 / 9), (0.6, 7 / 9), (0.8, 8 / 9), (1, 1))
        assert found.top_shares == {"1%": 0.0, "10%": 0.0, "50%": 5 / 9}

    def test_parts(self, workspace: Workspace) -> None:
        found = self.inspect(workspace)
        train, valid, test = found.parts
        # Cuts at the 5th and the 7th event: 300 s and 700 s.
        assert (train.users, train.targets, train.items, train.cold_items) == (2, 4, 2, 3)
        assert (valid.users, valid.targets, valid.cold_targets, valid.repeats) == (2, 2, 1, 0)
        assert (test.users, test.targets, test.items) == (2, 2, 1)
        assert (test.cold_targets, test.cold_items, test.repeats, test.untrained_users) == (2, 1, 0, 0)
        assert found.leaks == "Nothing later than a test event is trained on."
        assert [each.name for each in found.sequences] == [
            "events a user", "training events a user", "history of a test case",
        ]  # fmt: skip
        assert found.sequences[0].percentiles[0] == 4

    def test_times(self, workspace: Workspace) -> None:
        times = self.inspect(workspace).times
        assert times is not None
        assert (times.first_day, times.last_day) == ("2023-11-14", "2023-11-14")
        assert (sum(times.train), sum(times.other)) == (4, 5)
        assert len(times.train) == len(times.edges) - 1

    def test_texts_in_words_and_in_tokens(self, workspace: Workspace) -> None:
        texts = self.inspect(workspace).texts
        assert (texts.unit, texts.num_cut) == ("words", None)
        assert texts.lengths.percentiles[100] == 5
        assert texts.characters.percentiles[100] == 19
        assert (texts.same_title, texts.same_text, texts.frequent_title) == (3, 3, ("Red", 3))
        assert texts.languages == {"Latin script, language unclear": 4, "English": 1}
        texts = self.inspect(workspace, token_lengths=np.array([3, 9, 3, 3, 4]), max_tokens=4).texts
        assert (texts.unit, texts.num_cut, texts.lengths.percentiles[100]) == ("tokens", 1, 9)

    def test_repeats_are_targets_in_their_history(self, workspace: Workspace) -> None:
        workspace.write("interactions.csv", HEADER + "a,b,1\na,c,2\na,d,3\na,b,4\nb,b,1\nb,c,2\nb,c,3\nb,d,4\n")
        found = inspect_dataset(workspace.load())
        assert [part.repeats for part in found.parts] == [0, 1, 1]
        assert "leaks across users in time" in found.leaks

    def test_order_without_times(self, workspace: Workspace) -> None:
        assert inspect_dataset(workspace.load(timestamps="order")).times is None

    def test_plain_values(self, workspace: Workspace) -> None:
        plain = json.loads(json.dumps(self.inspect(workspace).to_dict()))
        assert (plain["density"], plain["events"]) == (0.8, 9)
        assert plain["sparsity"] == pytest.approx(0.2)
        assert plain["parts"][2]["cold_targets"] == 2
        assert plain["cleaning"]["rows"][0]["step"] == "read"


class TestKindsOfEvents:
    ROWS = (
        "u,b,view,1\nu,c,cart,2\nu,d,hover,3\nu,e,buy,4\nu,nowhere,hover,5\nu,nowhere,buy,6\nu,b,buy,7\n"
        "v,b,view,1\nv,c, buy ,2\nv,c, buy ,2\nv,d,1,3\nv,e,1.0,4\n"
    )
    WEIGHTS: ClassVar[dict[str, float]] = {"view": 0.1, "cart": 0.5, "buy": 1.0, "hover": 0.0, "1.0": 0.2, "wish": 2}

    def inspect(self, workspace: Workspace, **values: Any) -> Inspection:
        workspace.write("interactions.csv", "user_id,item_id,event,timestamp\n" + self.ROWS)
        return inspect_dataset(workspace.load(**values))

    def test_weights_alone(self, workspace: Workspace) -> None:
        found = self.inspect(workspace, event_weights=self.WEIGHTS)
        assert [(kind.value, kind.weight, kind.read, kind.kept) for kind in found.event_kinds] == [
            ("view", 0.1, 2, 2), ("cart", 0.5, 1, 1), ("buy", 1.0, 5, 3), ("hover", 0.0, 2, 0), ("1.0", 0.2, 2, 2),
            ("wish", 2.0, 0, 0),
        ]  # fmt: skip
        assert sum(kind.read for kind in found.event_kinds) == found.cleaning.remaining("read")
        assert sum(kind.kept for kind in found.event_kinds) == found.events == found.cleaning.remaining("kept")
        plain = json.loads(json.dumps(found.to_dict()))
        assert plain["event_kinds"][3] == {"value": "hover", "word": None, "weight": 0.0, "read": 2, "kept": 0}
        texts = read(inspection_page(found, "r.yaml")).texts
        place = texts.index("hover")
        assert texts[place : place + 4] == ["hover", "0", "2", "0"]

    def test_words_and_weights_of_the_same_values(self, workspace: Workspace) -> None:
        words = {"buy": "took", "view": "saw", "cart": "saw", "hover": "met", "1": "rated"}
        found = self.inspect(workspace, event_weights=self.WEIGHTS, event_words=words)
        assert [(kind.value, kind.word, kind.weight) for kind in found.event_kinds] == [
            ("view", "saw", 0.1), ("cart", "saw", 0.5), ("buy", "took", 1.0), ("hover", "met", 0.0),
            ("1.0", "rated", 0.2), ("wish", None, 2.0),
        ]  # fmt: skip
        found = self.inspect(workspace, event_words=words)
        assert [(kind.value, kind.word, kind.weight, kind.kept) for kind in found.event_kinds] == [
            ("buy", "took", None, 3), ("view", "saw", None, 2), ("cart", "saw", None, 1), ("hover", "met", None, 1),
            ("1", "rated", None, 2),
        ]  # fmt: skip

    def test_a_split_that_takes_events_out(self, workspace: Workspace) -> None:
        split = ColdItems(valid_fraction=0.25, test_fraction=0.25)
        found = self.inspect(workspace, event_weights=self.WEIGHTS, split=split)
        assert found.taken_out > 0
        assert sum(kind.kept for kind in found.event_kinds) == found.events + found.taken_out


class _Reader(HTMLParser):
    """Collects tags and attributes, and checks that tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "onload")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


ODD = "</title><script>alert(1)</script> & \"q\" 'x'"


class TestPage:
    def odd(self, workspace: Workspace) -> Dataset:
        workspace.write(
            "items.csv", "item_id,title\n" + "".join(f'{item},"{ODD}"\n'.replace('"q"', '""q""') for item in "bcde")
        )
        rows = "".join(
            f'u{user},{item},"<b>{("view", "buy")[place % 2]}</b>",{1_700_000_000 + 100_000 * user + place}\n'
            for user in range(12)
            for place, item in enumerate("bcdebc"[user % 3 :])
        )
        workspace.write(
            "interactions.csv", "user_id,item_id,event,timestamp\n" + rows + "u0,<i>no</i>,<b>buy</b>,1700000000\n"
        )
        return workspace.load(
            event_words={"<b>view</b>": "<u>saw</u>", "<b>buy</b>": "took"},
            event_weights={"<b>view</b>": 0.5, "<b>buy</b>": 1},
            min_target_weight=0.8,
            cleaning=CleaningConfig(strip_html=False),
            sessions=SessionConfig(gap_minutes=30),
            split=ColdItems(valid_fraction=0.25, test_fraction=0.25),
        )

    def test_data_are_shown_as_they_are_and_do_nothing(self, workspace: Workspace) -> None:
        found = inspect_dataset(self.odd(workspace))
        page = inspection_page(found, ODD)
        reader = read(page)
        assert not {"script", "b>", "u", "iframe", "img", "link"} & set(reader.tags)
        assert reader.links == []
        assert "http" not in page.replace("http-equiv", "")
        assert f"{ODD}: data" in reader.texts
        assert ODD in reader.texts
        assert {"<u>saw</u>", "<b>view</b>"} <= set(reader.texts)
        assert any("<i>no</i>" in text for text in reader.texts)
        assert "events of held-out items are taken out" in page
        assert "events are context alone and never targets" in page

    def test_every_chart_is_drawn(self, workspace: Workspace) -> None:
        dataset = self.odd(workspace)
        reader = read(inspection_page(inspect_dataset(dataset), "r.yaml"))
        # Three of sequences, popularity with its curve, time, two of texts.
        assert reader.tags.count("svg") == 8
        assert "rect" in reader.tags
        lengths = np.array([3, 5, 70, 90])
        page = inspection_page(inspect_dataset(dataset, token_lengths=lengths, max_tokens=64), "r.yaml")
        assert "cut at 64" in page
        assert "50.0% are longer than 64" in page
        assert "nan" not in page
        assert "bins widen" not in page
        lengths = np.array([3, 5, 7, 90_000])
        page = inspection_page(inspect_dataset(dataset, token_lengths=lengths, max_tokens=64), "r.yaml")
        assert "tokens a text; bins widen to the right" in page
        lengths = np.array([3, 5, 70, 90])
        page = inspection_page(inspect_dataset(dataset, token_lengths=lengths, max_tokens=128), "r.yaml")
        assert "cut at 128" not in page  # no text is so long: the line would lie outside

    def test_numbers_of_the_parts_are_there(self, workspace: Workspace) -> None:
        found = inspect_dataset(self.odd(workspace))
        texts = read(inspection_page(found, "r.yaml")).texts
        assert f"{found.parts[2].cold_targets} (100.0%)" in texts
        assert any("no event of a held-out item is trained on" in text for text in texts)
