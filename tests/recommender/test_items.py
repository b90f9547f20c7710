"""Items of a recommender: filtered, changed, removed and compared, while lists are made of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peftrec.config import InputError, RecipeError
from peftrec.publishing import load_run
from peftrec.recommender import Recommender
from peftrec.retrieval import FieldRule, Filter, best_lists
from peftrec.run import train

HISTORY = ["wine0", "wine1", "wine2"]
SORTS = ("text", "hnsw", "text+ids", "second", "popularity", "content_knn", "ease")
TAKING = SORTS[:4]


@pytest.fixture(scope="module")
def runs(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One finished run of every sort, with fields."""
    root = tmp_path_factory.mktemp("runs")
    sorts = {
        "text": (),
        "hnsw": ("retrieval.index={kind: hnsw, m: 8}",),
        "text+ids": ("encoder.inputs=text+ids", "encoder.id_std=0.5", "encoder.item_bias=true"),
        "second": ("scorer.kind=mlp",),
        "popularity": ("baseline.kind=popularity",),
        "content_knn": ("baseline.kind=content_knn",),
        "ease": ("baseline.kind=ease",),
    }
    for sort, overrides in sorts.items():
        own = ("training.num_epochs=1", "data.item_fields=[category, title]")
        train(make_recipe(*own, *overrides, output_dir=root / sort))
    return {sort: root / sort for sort in sorts}


def load(runs: dict[str, Path], sort: str) -> Recommender:
    return Recommender.from_pretrained(runs[sort], verify=False)


def ids(found: Any) -> list[str]:
    return [entry.item_id for entry in found]


@pytest.mark.parametrize("sort", SORTS)
def test_lists_are_those_of_whole_rows_of_scores(sort: str, runs: dict[str, Path]) -> None:
    """The quick ways, of one user and of many, against the plain one that evaluation takes."""
    recommender, run = load(runs, sort), load_run(runs[sort], verify=False)
    histories = [HISTORY, [], ["tea3"], ["bread0"] * 12, ["tea1", "wine1", "tea1"]]
    for exclude in (True, False):
        asked, popularity = recommender.asked(histories), run.train_counts_N.float()
        items, scores = best_lists(run.scorer, asked, 7, popularity, exclude_history=exclude)
        expected = [[run.catalogue.ids[item] for item in row] for row in items.tolist()]
        together = recommender.recommend_batch(histories, 7, exclude_history=exclude)
        alone = [recommender.recommend(history, 7, exclude_history=exclude) for history in histories]
        assert [ids(found) for found in together] == [ids(found) for found in alone] == expected
        for found, row in zip(alone, scores.tolist(), strict=True):
            assert [entry.score for entry in found] == pytest.approx(row, abs=1e-4)
    assert [found.fallback for found in together] == [False, True, False, False, False]
    assert {entry.source for entry in together[1]} == {"popularity"}
    assert {entry.source for entry in together[0]} == {"model"}
    assert together[1].reason == "nothing is known of the user: these are the most popular items"
    assert together[0].reason is None


@pytest.mark.parametrize("sort", SORTS)
def test_filters_come_before_the_cut(sort: str, runs: dict[str, Path]) -> None:
    recommender = load(runs, sort)
    everything = recommender.recommend(HISTORY, 1000)
    for wanted, passes in (
        ({"fields": {"category": "tea"}}, lambda item: item.startswith("tea")),
        ({"fields": {"category": {"none_of": ["wine", "tea"]}}}, lambda item: not item.startswith(("wine", "tea"))),
        ({"blocked": ["wine3", "wine4", "unheard of"]}, lambda item: item not in ("wine3", "wine4")),
        ({"only": ["tea1", "wine0", "wine5", "unheard of"]}, lambda item: item in ("tea1", "wine5")),
        (Filter(fields={"title": FieldRule(missing=False)}), lambda item: True),
    ):
        expected = [item for item in ids(everything) if passes(item)]
        assert ids(recommender.recommend(HISTORY, 4, filter=wanted)) == expected[:4]
        assert ids(recommender.recommend(HISTORY, 1000, filter=wanted)) == expected
        first, unknown = recommender.recommend_batch([HISTORY, []], 4, filter=wanted)
        assert ids(first) == expected[:4]
        kept = [item for item in ids(recommender.recommend([], 1000)) if passes(item)]
        # Of nobody there is a history to leave out.
        assert [item for item in ids(unknown) if item != "wine0"] == [i for i in kept if i != "wine0"][: len(unknown)]
    for history, fallback in ((HISTORY, False), ([], True)):
        found = recommender.recommend(history, filter={"fields": {"category": "beer"}})
        assert (found, found.reason, found.fallback) == ([], "no item passes the filter", fallback)
    found = recommender.recommend(HISTORY, filter={"only": HISTORY})
    assert (found, found.reason) == ([], "the history has every item that could be recommended")
    with pytest.raises(InputError, match=r"items have no field 'colour'\. Of them there are category, title"):
        recommender.recommend(HISTORY, filter={"fields": {"colour": "red"}})
    with pytest.raises(InputError, match="unknown key 'categories'"):
        recommender.recommend(HISTORY, filter={"categories": ["tea"]})


@pytest.mark.parametrize("sort", SORTS)
def test_what_is_removed_comes_back_in_no_list(sort: str, runs: dict[str, Path]) -> None:
    recommender = load(runs, sort)
    before = ids(recommender.recommend(HISTORY, 1000))
    popular = ids(recommender.recommend([], 1000))
    gone = [before[0], "wine0", "tea3"]
    recommender.remove_items(gone)
    assert (len(recommender), "wine0" in recommender, recommender.readable("wine0")) == (37, False, True)
    # Who has had one has had it still.
    assert ids(recommender.recommend(HISTORY, 1000)) == [item for item in before if item not in gone]
    assert ids(recommender.recommend([], 1000)) == [item for item in popular if item not in gone]
    assert not set(gone) & set(ids(recommender.recommend(HISTORY, 1000, exclude_history=False)))
    assert not set(gone) & set(ids(recommender.recommend(HISTORY, 9, filter={"only": [*gone, "tea1"]})))
    assert recommender.catalogue.ids == tuple(item for item in load(runs, sort).catalogue.ids if item not in gone)
    ranks = dict(recommender.audience("tea1", {"a": HISTORY}))
    assert ranks["a"] == 1 + ids(recommender.recommend(HISTORY, 1000)).index("tea1")
    for item in ("wine0", "wine00"):
        said = "item 'wine0' has been removed" if item == "wine0" else "no item has the id 'wine00'"
        for deed in (recommender.item, lambda item: recommender.remove_items(["tea1", item]), recommender.similar,
                     lambda item: recommender.update_items([item], titles=["x"]),
                     lambda item: recommender.audience(item, {"a": HISTORY})):  # fmt: skip
            with pytest.raises(InputError, match=said):
                deed(item)
    assert "tea1" in recommender
    with pytest.raises(InputError, match="item 'tea1' is named twice"):
        recommender.remove_items(["tea1", "tea1"])


@pytest.mark.parametrize("sort", TAKING)
def test_what_is_removed_can_come_back_with_another_text(sort: str, runs: dict[str, Path]) -> None:
    recommender = load(runs, sort)
    recommender.remove_items(["wine9"])
    recommender.add_items(["wine9"], ["small green tea. tea"], ["Tea now"], fields=[{"category": "tea"}])
    assert len(recommender) == 40
    item = recommender.item("wine9")
    assert (item.title, item.text, item.fields) == ("Tea now", "small green tea. tea", {"category": "tea"})
    found = recommender.recommend(["wine9"], 40)
    assert len(found) == 39
    assert "wine9" not in ids(found)
    assert ids(recommender.recommend(HISTORY, 1, filter={"only": ["wine9"]})) == ["wine9"]
    assert recommender.recommend([], 40)[-1].score == 0.0


@pytest.mark.parametrize("sort", TAKING)
def test_an_updated_item_scores_with_its_new_text_at_once(sort: str, runs: dict[str, Path]) -> None:
    recommender = load(runs, sort)
    tea = recommender.item("tea9").text
    scores = {entry.item_id: entry.score for entry in recommender.recommend(HISTORY, 40)}
    # Neither has training events: where there are ids, nothing but the text tells them apart.
    recommender.update_items(["wine9"], [tea], fields=[{"category": "tea"}])
    after = recommender.recommend(HISTORY, 40)
    now = {entry.item_id: entry.score for entry in after}
    assert now["wine9"] == pytest.approx(scores["tea9"], abs=1e-4)
    assert now["wine9"] != pytest.approx(scores["wine9"], abs=1e-3)
    others = [item for item in ids(after) if item != "wine9"]
    assert others == [item for item in scores if item != "wine9"]
    assert (len(recommender), len(after)) == (40, 37)
    assert ids(recommender.recommend(HISTORY, filter={"only": ["wine9"], "fields": {"category": "tea"}})) == ["wine9"]
    # What is not said stays.
    assert recommender.item("wine9").title == recommender.item("wine9").fields["title"]
    assert recommender.catalogue.ids[-1] == "wine9"
    recommender.update_items(["wine9"], titles=["Another"])
    assert next(entry for entry in recommender.recommend(HISTORY, 40) if entry.item_id == "wine9").title == "Another"


@pytest.mark.parametrize("sort", ["text", "text+ids"])
def test_the_same_text_gives_the_same_item(sort: str, runs: dict[str, Path]) -> None:
    """Also of an item with a learned part of its own, and with its training events."""
    recommender = load(runs, sort)
    lists = [recommender.recommend(history, 40) for history in (HISTORY, ["wine3"], [])]
    recommender.update_items(["wine3"], [recommender.item("wine3").text])
    for history, before in zip((HISTORY, ["wine3"], []), lists, strict=True):
        after = {entry.item_id: entry.score for entry in recommender.recommend(history, 40)}
        assert after == pytest.approx({entry.item_id: entry.score for entry in before}, abs=1e-4)


@pytest.mark.parametrize("sort", SORTS)
def test_titles_and_fields_change_without_a_model(sort: str, runs: dict[str, Path]) -> None:
    recommender = load(runs, sort)
    recommender.update_items(["wine3", "tea1"], titles=["A", "B"], fields=[{"category": "old"}, {"category": None}])
    assert recommender.item("wine3").title == "A"
    assert recommender.item("tea1").fields.keys() == {"title"}
    assert ids(recommender.recommend(HISTORY, filter={"fields": {"category": "old"}})) == ["wine3"]
    assert ids(recommender.recommend(HISTORY, filter={"fields": {"category": {"missing": True}}})) == ["tea1"]
    assert recommender.catalogue.fields["category"][recommender.catalogue.ids.index("wine3")] == "old"
    for values, expected in (
        ({"fields": [{"category": 3}]}, "item 'wine3', field 'category', beside values that are there, holds"),
        ({"fields": [{"colour": "red"}]}, "item 'wine3', fields: items have no field 'colour'"),
        ({"fields": []}, "1 ids and 0 fields; there must be one of each"),
        ({"titles": ["a", "b"]}, "1 ids and 2 titles"),
        ({"texts": ["a", "b"]}, "1 ids and 2 texts"),
    ):
        with pytest.raises(InputError, match=expected):
            recommender.update_items(["wine3"], **values)  # type: ignore[arg-type]
    if sort not in TAKING:
        with pytest.raises(InputError, match="this run is a baseline; it cannot take in"):
            recommender.update_items(["wine3"], ["a text"])
    else:
        with pytest.raises(InputError, match="item 'wine3' has an empty text"):
            recommender.update_items(["wine3"], [" "])
        with pytest.raises(InputError, match="1 ids and fields of 2 items"):
            recommender.add_items(["x"], ["a"], fields=[{}, {}])
        with pytest.raises(InputError, match="item 'x', fields: items have no field 'colour'"):
            recommender.add_items(["x"], ["a"], fields=[{"colour": "red"}])
    assert len(recommender) == 40


@pytest.mark.parametrize("sort", SORTS)
def test_similar_items_have_the_nearest_vectors(sort: str, runs: dict[str, Path]) -> None:
    recommender, run = load(runs, sort), load_run(runs[sort], verify=False)
    vectors = getattr(run.scorer, "vectors_ND", None)
    if vectors is None:
        with pytest.raises(InputError, match="has no vectors of items"):
            recommender.similar("wine3")
        return
    row = run.catalogue.ids.index("wine3")
    cosines = torch.nn.functional.cosine_similarity(vectors[row], vectors)
    expected = {item: score for item, score in zip(run.catalogue.ids, cosines.tolist(), strict=True) if item != "wine3"}
    found = recommender.similar("wine3", 1000)
    assert {entry.item_id: entry.score for entry in found} == pytest.approx(expected, abs=1e-4)
    assert [entry.score for entry in found] == sorted((entry.score for entry in found), reverse=True)
    assert {entry.source for entry in found} == {"content"}
    teas = recommender.similar("wine3", 3, filter={"fields": {"category": "tea"}})
    assert ids(teas) == [item for item in ids(found) if item.startswith("tea")][:3]
    nothing = recommender.similar("wine3", filter={"only": []})
    assert (nothing, nothing.reason) == ([], "no item passes the filter")
    with pytest.raises(InputError, match="k is 0"):
        recommender.similar("wine3", 0)


def test_the_index_says_what_it_is(runs: dict[str, Path]) -> None:
    told = load(runs, "hnsw").describe_index(5)
    assert (told["kind"], told["m"], told["live"], told["queries"]) == ("hnsw", 8, 40, 40)
    assert 0.9 < told["recall@5"] <= 1
    exact = load(runs, "text")
    exact.remove_items(["wine0"])
    assert exact.describe_index(histories=[HISTORY]) == {
        "kind": "exact", "rows": 40, "live": 39, "recall@10": 1.0, "queries": 1,
    }  # fmt: skip
    with pytest.raises(InputError, match="no index: its scores are no products"):
        load(runs, "ease").describe_index()
    with pytest.raises(InputError, match="k is 0"):
        exact.describe_index(0)


def test_sources_are_fused_and_named(runs: dict[str, Path], make_recipe: Callable[..., Any]) -> None:
    import dataclasses

    from peftrec.retrieval import RetrievalConfig

    def fused(**sources: float) -> Recommender:
        run = load_run(runs["text"], verify=False)
        config = RetrievalConfig(sources=sources, candidates=3)
        return Recommender(dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, retrieval=config)))

    model, content, popular = fused(model=1), fused(content=1), fused(popularity=1)
    assert {entry.source for entry in content.recommend(HISTORY)} == {"content"}
    # By content alone it is what is near to what the user had.
    vectors = torch.nn.functional.normalize(load_run(runs["text"]).vectors_ND, dim=1)  # type: ignore[arg-type]
    places = dict(zip(model.catalogue.ids, vectors, strict=True))
    user = sum(0.7**age * places[item] for age, item in enumerate(reversed(HISTORY)))
    cosines = {item: float(user @ vector / user.norm()) for item, vector in places.items() if item not in HISTORY}  # type: ignore[union-attr,operator]
    found = content.recommend(HISTORY, 40)
    assert {entry.item_id: entry.score for entry in found} == pytest.approx(cosines, abs=1e-4)
    assert ids(popular.recommend(HISTORY, 5)) == [i for i in ids(model.recommend([], 40)) if i not in HISTORY][:5]
    assert ids(popular.recommend(HISTORY, 5, exclude_history=False)) == ids(model.recommend([], 5))
    together = fused(model=1.0, content=0.5, popularity=0.2)
    k, found = 6, together.recommend(HISTORY, 6)
    expected: dict[str, float] = {}
    for weight, one in ((1.0, model), (0.5, content), (0.2, popular)):
        for rank, item in enumerate(ids(one.recommend(HISTORY, 10 * k)), start=1):
            expected[item] = expected.get(item, 0.0) + weight / 1.7 / (60 + rank)
    assert [entry.score for entry in found] == pytest.approx(sorted(expected.values(), reverse=True)[:k])
    assert {entry.item_id: entry.score for entry in found} == pytest.approx({i: expected[i] for i in ids(found)})
    assert {entry.source for entry in together.recommend([])} == {"popularity"}
    assert ids(together.recommend(HISTORY, filter={"only": ["tea1"]})) == ["tea1"]
    assert together.recommend_batch([HISTORY, ["tea1"]], 6)[0] == found
    with pytest.raises(RecipeError, match=r"retrieval\.sources\.content: compares items by vectors of their texts"):
        make_recipe("encoder.inputs=ids", "encoder.embedding_dim=16", "retrieval.sources={model: 1.0, content: 0.1}")
    with pytest.raises(RecipeError, match=r"retrieval\.sources\.content"):
        make_recipe("baseline.kind=popularity", "retrieval.sources={content: 1.0}")


@pytest.mark.parametrize("sort", ["text", "hnsw"])
def test_lists_are_whole_while_items_come_and_go(sort: str, runs: dict[str, Path]) -> None:
    recommender = load(runs, sort)
    text, failures, stop = recommender.item("wine9").text, [], threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                found = recommender.recommend([*HISTORY, "new"], 45)
                # Either is in the catalogue all the time, one of the two in the history.
                if len(found) != 37 or "new" in ids(found) or len(set(ids(found))) != 37:
                    failures.append(str(ids(found)))
                if len(recommender.recommend(HISTORY, 2, filter={"only": ["new", "wine4"]})) != 2:
                    failures.append("filter")
            except InputError as error:
                failures.append(str(error))

    recommender.add_items(["new"], [text])
    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(15):
        recommender.update_items(["new"], [f"small {('red', 'green')[turn % 2]} wine"], fields=[{"category": "tea"}])
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_how_lists_are_made_decides_nothing_that_is_trained(runs: dict[str, Path]) -> None:
    from peftrec.publishing.arm import read_arm
    from peftrec.training.same_recipe import check_same_settings, flatten

    stored, now = (flatten(load_run(runs[sort], verify=False).recipe.to_dict()) for sort in ("text", "hnsw"))
    assert stored["retrieval.index.kind"] != now["retrieval.index.kind"]
    check_same_settings(Path("checkpoint"), stored, now | {"output_dir": "", "data.item_fields": "()"})
    old = {key: value for key, value in stored.items() if not key.startswith("retrieval.")}
    check_same_settings(Path("checkpoint"), old, now)
    with pytest.raises(InputError, match="are both of seed 0"):
        read_arm([runs["text"], runs["hnsw"]])


def test_ids_of_numpy_are_ids(runs: dict[str, Path]) -> None:
    recommender = load(runs, "text")
    recommender.add_items([7], ["small red wine"])
    assert 7 in recommender
    assert "7" in recommender
    assert object() not in recommender
    assert ids(recommender.recommend(np.array([7]), 1)) == ids(recommender.recommend(["7"], 1))  # type: ignore[arg-type]
