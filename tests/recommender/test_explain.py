"""`Recommender.explain`: for every sort of run, and for items that have come, changed or gone since."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peftrec.config import InputError
from peftrec.ensembling import ensemble
from peftrec.recommender import Recommender
from peftrec.run import train

HISTORY = ["wine0", "wine1", "wine2", "wine1"]
IDS = ["wine3", "tea9", "wine1", "wine3"]
ATTRIBUTES = "data.item_attributes={category: {kind: categorical}}"


@pytest.fixture(scope="module")
def runs(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("explained")
    sorts = {
        "text+ids": ("encoder.inputs=text+ids", "encoder.id_std=0.5", "encoder.item_bias=true"),
        "attributes": ("encoder.inputs=text+ids", "encoder.id_std=0.5", ATTRIBUTES),
        "ids": ("encoder.inputs=ids", "encoder.embedding_dim=16", "scorer.kind=mlp", "scorer.num_candidates=10"),
        "item_knn": ("baseline.kind=item_knn",),
    }
    for sort, overrides in sorts.items():
        train(make_recipe("training.num_epochs=1", *overrides, output_dir=root / sort))
    ensemble([root / "text+ids", root / "item_knn"], root / "ensemble")
    return {sort: root / sort for sort in (*sorts, "ensemble")}


SORTS = ("text+ids", "attributes", "ids", "item_knn", "ensemble")


@pytest.mark.parametrize("sort", SORTS)
def test_changes_are_those_of_lists_made_again(sort: str, runs: dict[str, Path]) -> None:
    recommender = Recommender.from_pretrained(runs[sort])

    def scores(history: list[str]) -> dict[str, float]:
        return {entry.item_id: entry.score for entry in recommender.recommend(history, 1000, exclude_history=False)}

    whole = scores(HISTORY)
    for item_id, found in zip(IDS, recommender.explain(HISTORY, IDS), strict=True):
        assert (found.item_id, found.basis) == (item_id, "history")
        assert found.score == pytest.approx(whole[item_id], abs=1e-4)
        assert sorted(event.event for event in found.evidence) == [0, 1, 2, 3]
        for event in found.evidence:
            assert event.item_id == HISTORY[event.event]
            shorter = scores(HISTORY[: event.event] + HISTORY[event.event + 1 :])
            assert event.change == pytest.approx(whole[item_id] - shorter[item_id], abs=2e-4)
    assert any(event.change != 0 for event in found.evidence)
    (popular,) = recommender.explain([], ["wine0"])
    assert popular.sentence == "Popular: nothing is known of you yet."
    assert popular.score == next(e.score for e in recommender.recommend([], 1000) if e.item_id == "wine0")


@pytest.mark.parametrize("sort", ["text+ids", "attributes"])
def test_words_are_of_items_as_they_are_now(sort: str, runs: dict[str, Path]) -> None:
    recommender = Recommender.from_pretrained(runs[sort])
    told = None if sort == "text+ids" else [{"category": "wine"}]
    recommender.add_items(["new", "newer"], ["small goat wine", "large soft tea"], attributes=told and [*told, {}])
    recommender.update_items(["wine4"], ["dry sweet oak wine"])
    recommender.update_items(["wine5"], ["red tea"], attributes=told)
    recommender.remove_items(["wine6"])
    recommender.add_items(["wine6"], ["black tea"])
    ids = ["wine3", "new", "newer", "wine4", "wine5", "wine6"]
    texts = ("small goat wine", "large soft tea", "dry sweet oak wine", "red tea", "black tea")
    listed = {entry.item_id: entry.score for entry in recommender.recommend(HISTORY, 1000, exclude_history=False)}
    found = recommender.explain(HISTORY, ids, words=True)
    for one, text in zip(found[1:], texts, strict=True):
        assert [word.text for word in one.words or ()] == text.split()
    for one in found:
        assert one.word_attribution is not None
        assert one.word_attribution.complete
        # What the words are asked about is what made the vector: text, id, attributes and bias.
        assert one.word_attribution.score == pytest.approx(one.score, abs=1e-4) == listed[one.item_id]


def test_what_is_wrong_is_named(runs: dict[str, Path]) -> None:
    recommender = Recommender.from_pretrained(runs["text+ids"])
    for call, message in (
        (lambda: recommender.explain(HISTORY, ["wine33"]), "no item has the id 'wine33'"),
        (lambda: recommender.explain(["wine33"], IDS), "no item has the id 'wine33'"),
        (lambda: recommender.explain("wine0", IDS), "a history is a list"),
        (lambda: recommender.explain(HISTORY, "wine0"), "item_ids is a list of item ids, got the text 'wine0'"),
        (lambda: recommender.explain(HISTORY, IDS, num_evidence=0), "num_evidence is 0"),
        (lambda: recommender.explain(HISTORY, IDS, times=[1, 2, 3, 4]), "this run reads none"),
        (lambda: recommender.explain(HISTORY, IDS, attributes="x"), "reads no users' texts"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    assert recommender.explain(HISTORY, []) == []
    recommender.remove_items(["wine3"])
    with pytest.raises(InputError, match="'wine3' has been removed"):
        recommender.explain(HISTORY, ["wine3"])
    assert len(recommender.explain(["wine3", "wine4"], ["tea0"])[0].evidence) == 2  # histories may hold it still
    for sort, message in (("ids", "reads no texts"), ("item_knn", "a baseline"), ("ensemble", "an ensemble")):
        with pytest.raises(InputError, match=message):
            Recommender.from_pretrained(runs[sort]).explain(HISTORY, IDS, words=True)


def test_items_may_come_while_words_are_looked_for(runs: dict[str, Path]) -> None:
    recommender = Recommender.from_pretrained(runs["text+ids"])
    before = [word.attribution for word in recommender.explain(HISTORY, ["wine3"], words=True)[0].words or ()]
    found: list[list[float]] = []

    def look() -> None:
        for _ in range(4):
            (one,) = recommender.explain(HISTORY, ["wine3"], words=True)
            found.append([word.attribution for word in one.words or ()])

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(10):
        recommender.add_items([f"added{number}"], ["small red wine"])
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for one in found:
        np.testing.assert_allclose(one, before, atol=1e-5)
