"""Every kind of index under changes, against rows that are scored one by one."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from peftrec.config import InputError, RecipeError, parse_section
from peftrec.retrieval import INDEXES, Allowed, IndexConfig, RetrievalConfig, hnsw_index, index_recall
from peftrec.retrieval.exact_index import ExactConfig
from peftrec.retrieval.growing import GrowingRows
from peftrec.retrieval.hnsw_index import HnswConfig

WIDTH = 8
KINDS = INDEXES.kinds()


def make(kind: str, vectors: torch.Tensor, bias: torch.Tensor | None = None) -> Any:
    config: IndexConfig = INDEXES.load(kind)()
    return config.build(vectors, torch.zeros(len(vectors)) if bias is None else bias)


def unit(generator: torch.Generator, num: int, width: int = WIDTH) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(num, width, generator=generator), dim=1)


def naive(
    vectors: torch.Tensor, bias: torch.Tensor, live: set[int], user: torch.Tensor, k: int, out: set[int]
) -> list[tuple[int, float]]:
    scores = (vectors.double() @ user.double() + bias.double()).tolist()
    rows = [(row, scores[row]) for row in range(len(vectors)) if row in live and row not in out]
    return sorted(rows, key=lambda pair: (-pair[1], pair[0]))[:k]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_after_any_changes_lists_are_those_of_the_live_rows(kind: str, data: st.DataObject) -> None:
    """The graph is made to be used for few rows, to look at all of them, and to take new rows in at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hnsw_index, "_FEW_WAITING", 6)
        patch.setattr(hnsw_index, "_MOVED", 3)
        patch.setattr(hnsw_index, "_FEW", 0.0)
        patch.setattr(hnsw_index, "_MOST_OF_ALL", 100.0)
        generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
        has_bias = data.draw(st.booleans())
        scale = data.draw(st.sampled_from([0.0, 1.0]))  # whether vectors differ in length

        def some(num: int) -> tuple[torch.Tensor, torch.Tensor]:
            vectors = unit(generator, num) * (1 + scale * torch.rand(num, 1, generator=generator))
            return vectors, torch.randn(num, generator=generator) * has_bias

        vectors, bias = some(data.draw(st.integers(20, 60)))
        index, live = make(kind, vectors, bias), set(range(len(vectors)))
        for _ in range(data.draw(st.integers(1, 6))):
            before = index.view
            held = before.search(torch.ones(1, WIDTH), 5)
            deed = data.draw(st.sampled_from(["add", "remove", "update"]))
            gone = sorted(live)[: data.draw(st.integers(0, 12))] if deed != "add" else []
            more, more_bias = some(data.draw(st.integers(1, 9)) if deed == "add" else len(gone) * (deed == "update"))
            if deed == "remove":
                index.remove(np.array(gone, dtype=np.int64))
            elif deed == "add":
                assert index.add(more, more_bias) == range(len(vectors), len(vectors) + len(more))
            else:
                index.update(np.array(gone, dtype=np.int64), more, more_bias)
            index.settle()
            live = live - set(gone) | set(range(len(vectors), len(vectors) + len(more)))
            vectors, bias = torch.cat([vectors, more]), torch.cat([bias, more_bias])
            # Who held the index as it was sees nothing of this.
            again = before.search(torch.ones(1, WIDTH), 5)
            assert again[0].tolist() == held[0].tolist()
            assert torch.allclose(again[1], held[1], atol=1e-5)
        users = torch.randn(data.draw(st.integers(1, 3)), WIDTH, generator=generator)
        k = data.draw(st.integers(1, 5))
        out = data.draw(st.lists(st.integers(0, len(vectors) - 1), max_size=4))
        excluded = np.array([[-1, *out]] * len(users), dtype=np.int64)
        mask = torch.rand(len(vectors), generator=generator) < data.draw(st.sampled_from([0.05, 0.5, 1.0]))
        mask &= torch.tensor([row in live for row in range(len(vectors))])
        for allowed, rows in ((None, live), (Allowed(mask), set(mask.nonzero()[:, 0].tolist()))):
            found, scores = index.view.search(users, k, allowed=allowed, excluded_BL=excluded)
            assert found.shape == scores.shape == (len(users), k)
            for user, items, values in zip(users, found.tolist(), scores.tolist(), strict=True):
                wanted = naive(vectors, bias, rows, user, k, set(out))
                # k of them come back wherever there are so many.
                assert len([item for item in items if item >= 0]) == len(wanted)
                assert set(items) - {-1} <= rows - set(out)
                # So small a graph is walked whole.
                assert values[: len(wanted)] == pytest.approx([score for _, score in wanted], abs=1e-4)
                assert values[len(wanted) :] == [-torch.inf] * (k - len(wanted))
        assert index.describe()["live"] == len(live)
        assert index.describe()["rows"] == len(vectors)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_scores_come_in_the_order_of_their_rows_and_nan_is_refused(kind: str) -> None:
    vectors = torch.nn.functional.normalize(torch.ones(300, WIDTH), dim=1)
    items, scores = make(kind, vectors).view.search(torch.ones(2, WIDTH), 400)
    assert items.shape == (2, 300)
    assert items[0].tolist() == list(range(300))
    assert torch.isfinite(scores).all()
    index = make(kind, vectors)
    with pytest.raises(InputError, match="a score is NaN"):
        index.view.search(torch.full((1, WIDTH), torch.nan), 3)
    with pytest.raises(ValueError, match="k must be at least 1"):
        index.view.search(torch.ones(1, WIDTH), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_that_leaves_few_or_none(kind: str) -> None:
    generator = torch.Generator().manual_seed(1)
    vectors = unit(generator, 2000)
    index, users = make(kind, vectors), torch.randn(3, WIDTH, generator=generator)
    for rows in ([], [7], [3, 500, 1999], list(range(0, 2000, 3)), list(range(1500, 2000))):
        mask = torch.zeros(2000, dtype=torch.bool)
        mask[rows] = True
        items, _ = index.view.search(users, 10, allowed=Allowed(mask), excluded_BL=np.array([[7], [-1], [3]]))
        for out, found in zip((7, None, 3), items.tolist(), strict=True):
            there = [item for item in found if item >= 0]
            assert len(there) == min(10, len(set(rows) - {out}))
            assert set(there) <= set(rows) - {out}


@pytest.mark.parametrize("kind", KINDS)
def test_one_user_and_many_get_the_same_lists(kind: str) -> None:
    generator = torch.Generator().manual_seed(2)
    index = make(kind, unit(generator, 1500), torch.randn(1500, generator=generator))
    index.remove(np.arange(0, 1500, 7))
    users = torch.randn(70, WIDTH, generator=generator)
    histories = np.tile(np.array([[-1, 5, 6, 8]]), (70, 1))
    together = index.view.search(users, 10, excluded_BL=histories)
    for row in range(70):
        alone = index.view.search(users[row : row + 1], 10, excluded_BL=histories[:1])
        assert alone[0].tolist() == together[0][row : row + 1].tolist()
        assert torch.allclose(alone[1], together[1][row : row + 1], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_searches_see_whole_states_while_rows_come_and_go(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is replaced by one on the other side, again and again: a list has one of the two, never both or none."""
    monkeypatch.setattr(hnsw_index, "_FEW_WAITING", 10)
    generator = torch.Generator().manual_seed(3)
    rest = unit(generator, 500) * 0.1
    index = make(kind, torch.cat([rest, torch.ones(1, WIDTH)]))
    failures: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            items, scores = index.view.search(torch.ones(1, WIDTH), 2)
            if items[0, 0] < 500 or items[0, 1] >= 500 or not 7.9 < float(scores[0, 0]) < 8.1:
                failures.append(f"{items.tolist()} {scores.tolist()}")

    threads = [threading.Thread(target=read) for _ in range(3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    for thread in threads:
        thread.start()
    last = 500
    for _ in range(120):
        (last,) = index.update(np.array([last]), torch.ones(1, WIDTH), torch.zeros(1))
        index.settle()
    stop.set()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert failures == []


def test_the_graph_finds_nearly_all_and_takes_rows_in(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(4)
    centres = unit(generator, 40, 16)
    vectors = torch.nn.functional.normalize(
        centres.repeat(100, 1) + 0.3 * torch.randn(4000, 16, generator=generator) / 4, dim=1
    )
    users = torch.nn.functional.normalize(centres + 0.3 * torch.randn(40, 16, generator=generator) / 4, dim=1)
    index, exact = make("hnsw", vectors[:3000]), ExactConfig().build(vectors, torch.zeros(4000))
    index.add(vectors[3000:], torch.zeros(1000))
    assert index.describe()["rows_in_graph"] == 3000
    assert index_recall(index.view, exact.view, users, 10) > 0.97
    index.settle()
    assert index.describe()["rows_in_graph"] == 3032
    monkeypatch.setattr(hnsw_index, "_MANY_WAITING", 500)
    index.settle()
    assert index.describe()["rows_in_graph"] == 4000
    assert index_recall(index.view, exact.view, users, 10) > 0.97
    # A graph that looks at next to nothing finds less: the measure can tell.
    poor = HnswConfig(m=2, ef_construction=1, ef_search=1).build(vectors, torch.zeros(4000))
    assert index_recall(poor.view, exact.view, users, 10) < 0.9


@pytest.mark.parametrize(("length", "bias", "taken"), [(1.0, 0.0, True), (1.0, 5.0, False), (9.0, 0.0, False)])
def test_rows_that_the_graph_cannot_compare_stay_beside_it(
    length: float, bias: float, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hnsw_index, "_FEW_WAITING", 0)
    generator = torch.Generator().manual_seed(5)
    index = make("hnsw", unit(generator, 300))
    (row, _) = index.add(length * unit(generator, 2), torch.full((2,), bias))
    index.settle()
    assert index.describe()["rows_in_graph"] == (302 if taken else 300)
    assert index.view.search(index.view.vectors_ND[row : row + 1], 3)[0][0, 0] == row


def test_rows_that_were_handed_out_never_change() -> None:
    rows = GrowingRows(torch.arange(3))
    first = rows.rows
    rows.append(torch.arange(3, 5))
    second = rows.rows
    rows.append(torch.arange(5, 7))
    # There was room: nothing moved.
    assert rows.rows.data_ptr() == second.data_ptr()
    rows.replace(torch.tensor([0]), torch.tensor([9]))
    assert (first.tolist(), second.tolist()) == ([0, 1, 2], [0, 1, 2, 3, 4])
    assert rows.rows.tolist() == [9, 1, 2, 3, 4, 5, 6]
    assert len(rows) == 7


def test_one_row_more_copies_nothing() -> None:
    index = make("exact", torch.zeros(10_000, 4))
    index.add(torch.ones(1, 4), torch.zeros(1))
    place = index.view.vectors_ND.data_ptr()
    for _ in range(1000):
        index.add(torch.ones(1, 4), torch.zeros(1))
    assert index.view.vectors_ND.data_ptr() == place


def test_without_faiss_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"hnsw needs faiss; pip install 'peftrec\[index\]'"):
        make("hnsw", torch.ones(3, WIDTH))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"index": {"kind": "flat"}}, r"index\.kind: unknown kind 'flat' .*One of: exact, hnsw"),
        ({"index": {"kind": "hnsw", "m": 1}}, r"index\.m: 1 is out of range; it must be >= 2 and <= 256"),
        ({"index": {"kind": "exact", "m": 8}}, r"index\.m: unknown key"),
        ({"sources": {"models": 1.0}}, r"sources\.models: is no source; there are model, content, popularity"),
        ({"sources": {"model": -1.0}}, r"sources\.model: -1\.0 is out of range"),
        ({"sources": {"model": 0.0}}, "sources: none has a weight above 0"),
        ({"fusion": "mean"}, "fusion"),
        ({"candidates": 0}, "candidates: 0 is out of range"),
    ],
)
def test_sections_that_are_wrong(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecipeError, match=expected):
        parse_section(RetrievalConfig, values, path="retrieval")


def test_a_section_that_is_right() -> None:
    config = parse_section(RetrievalConfig, {"index": {"kind": "hnsw", "m": 16}, "sources": {"model": 1, "content": 0}})
    assert config.index == HnswConfig(m=16)
    assert config.counted == {"model": 1.0}


@pytest.mark.parametrize("is_filtered", [False, True])
def test_who_held_the_graph_loses_no_place_to_rows_that_came_into_it(is_filtered: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hnsw_index, "_FEW_WAITING", 4)
        patch.setattr(hnsw_index, "_FEW", 0.0)
        patch.setattr(hnsw_index, "_MOST_OF_ALL", 100.0)
        generator = torch.Generator().manual_seed(0)
        user = unit(generator, 1)
        index = make("hnsw", unit(generator, 40))
        before = index.view
        allowed = Allowed(torch.arange(40) % 2 == 0) if is_filtered else None
        held = before.search(user, 8, allowed=allowed)
        index.add(user.repeat(40, 1), torch.zeros(40))  # nearer than all before
        index.settle()
        assert len(index._graph) > 48
        again = before.search(user, 8, allowed=allowed)
        assert again[0].tolist() == held[0].tolist()
        assert again[1].tolist() == held[1].tolist()
