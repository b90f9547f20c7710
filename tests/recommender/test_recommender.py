"""What people hold: lists, new items, audiences, and what is said about wrong input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import peftrec
from peftrec.config import InputError
from peftrec.recommender import Recommender
from peftrec.retrieval import describe
from peftrec.run import train


@pytest.fixture(scope="module")
def runs(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One finished run of every sort."""
    root = tmp_path_factory.mktemp("runs")
    sorts = {
        "text": (),
        "text+ids": ("encoder.inputs=text+ids", "encoder.id_std=0.5", "encoder.item_bias=true"),
        "ids": ("encoder.inputs=ids", "encoder.embedding_dim=16", "training.num_epochs=3"),
        "frozen": ("method.kind=frozen",),
        "full": ("method.kind=full", "method.layers=1", "optimizer.learning_rate=1e-3"),
        "popularity": ("baseline.kind=popularity",),
        "content_knn": ("baseline.kind=content_knn",),
    }
    for sort, overrides in sorts.items():
        train(make_recipe("training.num_epochs=1", *overrides, output_dir=root / sort))
    return {sort: root / sort for sort in sorts}


SORTS = ("text", "text+ids", "ids", "frozen", "full", "popularity", "content_knn")
MODELS = SORTS[:5]
HISTORY = ["wine0", "wine1", "wine2"]


@pytest.mark.parametrize("sort", SORTS)
def test_lists_are_the_same_after_loading_again(sort: str, runs: dict[str, Path]) -> None:
    first, again = Recommender.from_pretrained(runs[sort]), peftrec.Recommender.from_pretrained(str(runs[sort]))
    found = first.recommend(HISTORY, k=10)
    assert (
        found
        == again.recommend(HISTORY, k=10)
        == Recommender.from_pretrained(runs[sort], verify=False).recommend(HISTORY)
    )
    assert [entry.rank for entry in found] == list(range(1, 11))
    assert [entry.score for entry in found] == sorted((entry.score for entry in found), reverse=True)
    assert len({entry.item_id for entry in found}) == 10
    assert not {entry.item_id for entry in found} & set(HISTORY)
    titles = dict(zip(first.catalogue.ids, first.catalogue.titles, strict=True))
    assert all(entry.title == titles[entry.item_id] for entry in found)
    assert (len(first), first.recipe.data.kind) == (40, "tables")


@pytest.mark.parametrize("sort", SORTS)
def test_batches_equal_single_lists_and_padding_changes_nothing(sort: str, runs: dict[str, Path]) -> None:
    recommender = Recommender.from_pretrained(runs[sort])
    histories: list[list[str | int]] = [list(HISTORY), [], ["tea3"], ["bread0"] * 12, ["tea1", "wine1", "tea1"]]
    together = recommender.recommend_batch(histories, k=5)
    assert recommender.recommend_batch([]) == []
    for history, found in zip(histories, together, strict=True):
        alone = recommender.recommend(history, k=5)
        assert [entry.item_id for entry in alone] == [entry.item_id for entry in found]
        assert [entry.score for entry in alone] == pytest.approx([entry.score for entry in found], abs=1e-4)


@pytest.mark.parametrize("sort", SORTS)
def test_an_empty_history_gets_what_is_popular(sort: str, runs: dict[str, Path], toy_dataset: Any) -> None:
    counts = dict(zip(toy_dataset.catalogue.ids, toy_dataset.item_counts().tolist(), strict=True))
    found = Recommender.from_pretrained(runs[sort]).recommend([], k=8)
    assert [counts[entry.item_id] for entry in found] == sorted(counts.values(), reverse=True)[:8]


def test_the_history_can_be_kept(runs: dict[str, Path]) -> None:
    recommender = Recommender.from_pretrained(runs["text"])
    everything = recommender.recommend(HISTORY, k=1000, exclude_history=False)
    assert len(everything) == 40
    without = recommender.recommend(HISTORY, k=1000)
    assert len(without) == 37
    assert [e.item_id for e in everything if e.item_id not in HISTORY] == [e.item_id for e in without]
    assert recommender.recommend(list(recommender.catalogue.ids)) == []


def test_what_is_wrong_is_named(runs: dict[str, Path]) -> None:
    recommender = Recommender.from_pretrained(runs["text"])
    with pytest.raises(InputError, match=r"no item has the id 'wine11'\. Did you mean 'wine1'\?"):
        recommender.recommend(["wine0", "wine11"])
    for k in (0, -1):
        with pytest.raises(InputError, match=rf"k is {k}; a list has at least 1"):
            recommender.recommend(HISTORY, k=k)
        with pytest.raises(InputError, match=rf"k is {k}; an audience"):
            recommender.audience("tea9", {"a": HISTORY}, k=k)
    with pytest.raises(InputError, match=r"a history is a list of item ids, got the text 'wine0'"):
        recommender.recommend("wine0")
    with pytest.raises(InputError, match="no item has the id 'nothing'"):
        recommender.audience("nothing", {"a": HISTORY})


def test_numbers_are_taken_as_ids(runs: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="no item has the id '3'"):
        Recommender.from_pretrained(runs["text"]).recommend([3])


@pytest.mark.parametrize("sort", SORTS)
def test_audience_ranks_are_those_of_the_lists(sort: str, runs: dict[str, Path]) -> None:
    recommender = Recommender.from_pretrained(runs[sort])
    histories = {
        "a": HISTORY, "b": ["tea0"], "c": ["cheese1", "cheese2"], "d": [], "e": ["tea9", "tea1"], "f": ["bread1"] * 3,
    }  # fmt: skip
    for item in ("tea9", "wine4", "cheese0"):
        expected = {}
        for name, history in histories.items():
            ranks = {entry.item_id: entry.rank for entry in recommender.recommend(history, k=1000)}
            if item in ranks:
                expected[name] = ranks[item]
        found = recommender.audience(item, histories, k=10)
        assert dict(found) == expected
        assert [rank for _, rank in found] == sorted(expected.values())
        assert recommender.audience(item, histories, k=2) == found[:2]
    assert recommender.audience("tea9", {"e": ["tea9"]}) == []
    assert recommender.audience("tea9", {}) == []


@pytest.mark.parametrize("sort", ["text", "text+ids", "frozen", "full"])
def test_new_items_equal_items_of_the_same_text(sort: str, runs: dict[str, Path]) -> None:
    recommender = Recommender.from_pretrained(runs[sort])
    cold = recommender.catalogue.ids.index("wine9")
    text = recommender.catalogue.texts[cold]
    before = recommender.recommend(HISTORY, k=1000)
    recommender.add_items(["new", "other"], [text, "green tea. tea"], ["A new one", "Another"])
    assert len(recommender) == 42
    found = {entry.item_id: entry for entry in recommender.recommend(HISTORY, k=1000)}
    # No training event has the twin, so it rests on its text as well.
    assert found["new"].score == pytest.approx(found["wine9"].score, abs=1e-4)
    assert found["new"].title == "A new one"
    assert [e.item_id for e in before] == [e for e in found if e not in ("new", "other")]
    assert {entry.item_id for entry in recommender.recommend(["new"], k=1000)} == set(recommender.catalogue.ids) - {
        "new"
    }
    audience = recommender.audience("new", {"a": HISTORY, "b": ["tea0"]})
    # With wide random ids kinds are not told apart yet after one epoch.
    assert [user for user, _ in audience] == ["a", "b"] or sort == "text+ids"
    # Nobody has had them, so they are last for those without history.
    assert recommender.recommend([], k=42)[-1].score == 0.0
    with pytest.raises(InputError, match="item 'new' is in the catalogue already"):
        recommender.add_items(["new"], ["x"])
    recommender.add_items([77], ["mint tea. tea"])
    assert recommender.recommend([77], k=1) == recommender.recommend(["77"], k=1)
    with pytest.raises(InputError, match="item '77' is in the catalogue already"):
        recommender.add_items([77], ["x"])


def test_histories_may_be_arrays(runs: dict[str, Path]) -> None:
    recommender = Recommender.from_pretrained(runs["text"])
    assert recommender.recommend(np.array(HISTORY)) == recommender.recommend(HISTORY)
    assert recommender.recommend(np.array([], dtype=str)) == recommender.recommend([])


def test_text_carries_cold_items(runs: dict[str, Path]) -> None:
    """`wine9` has no event; who drinks wine gets it before cold items of other kinds."""
    for sort in ("text", "text+ids"):
        recommender = Recommender.from_pretrained(runs[sort])
        ranks = {entry.item_id: entry.rank for entry in recommender.recommend(HISTORY, k=1000)}
        assert ranks["wine9"] < min(ranks["tea9"], ranks["bread9"], ranks["cheese9"]), sort


def test_items_that_cannot_be_added(runs: dict[str, Path]) -> None:
    recommender = Recommender.from_pretrained(runs["text"])
    for ids, texts, titles, expected in (
        (["wine0"], ["a"], None, "'wine0' is in the catalogue already"),
        (["x", "x"], ["a", "b"], None, "'x' is in the catalogue already"),
        (["x"], [" "], None, "'x' has an empty text"),
        (["x"], ["a", "b"], None, "1 ids, 2 texts and 2 titles"),
        (["x"], ["a"], [], "1 ids, 1 texts and 0 titles"),
    ):
        with pytest.raises(InputError, match=expected):
            recommender.add_items(ids, texts, titles)
    assert len(recommender) == 40
    recommender.add_items([], [])
    for sort, expected in (
        ("ids", "knows ids only"),
        ("popularity", "is a baseline"),
        ("content_knn", "is a baseline"),
    ):
        with pytest.raises(InputError, match=expected):
            Recommender.from_pretrained(runs[sort]).add_items(["x"], ["a"])


def test_rows_for_json(runs: dict[str, Path]) -> None:
    rows = describe(Recommender.from_pretrained(runs["text"]).recommend(HISTORY, k=1))
    assert list(rows[0]) == ["rank", "score", "item_id", "title", "source"]
