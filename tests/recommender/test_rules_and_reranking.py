"""A recommender with rules and re-ranking: in lists, in lists of similar items, for items that come and change."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftrec.cli import main
from peftrec.config import InputError, RecipeError, parse_section
from peftrec.recommender import Recommender
from peftrec.recommender.rule_check import check_rules
from peftrec.retrieval.reranking import Reranking
from peftrec.retrieval.rules import RuleFile
from peftrec.run import train

HISTORY = ["wine0", "wine1", "wine2"]
FIELDS = ('data.item_fields=["category"]',)


@pytest.fixture(scope="module")
def run(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose items have their category as a field."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(make_recipe("training.num_epochs=1", "method.kind=frozen", *FIELDS, output_dir=folder))
    return folder


@pytest.fixture(scope="module")
def popular(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without vectors."""
    folder = tmp_path_factory.mktemp("runs") / "popular"
    train(make_recipe("baseline.kind=popularity", *FIELDS, output_dir=folder))
    return folder


def rules_of(*rules: dict[str, Any], **more: Any) -> RuleFile:
    return parse_section(RuleFile, {"rules": list(rules), **more})


def steps_of(*steps: dict[str, Any], candidates: int = 100) -> Reranking:
    return parse_section(Reranking, {"steps": list(steps), "candidates": candidates})


def ids(found: Any) -> list[str]:
    return [one.item_id for one in found]


NO_WINE = {"kind": "hide_matching", "where": {"category": "wine"}, "name": "no wine"}


@pytest.mark.parametrize("sort", ["run", "popular"])
def test_what_rules_hide_is_in_no_list_and_k_items_come_back(sort: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(sort)
    plain = Recommender.from_pretrained(folder)
    ruled = Recommender.from_pretrained(folder, rules=rules_of(NO_WINE))
    for history, k in ((HISTORY, 5), (HISTORY, 30), ([], 10), (["tea0"], 200)):
        everything = plain.recommend(history, k=40)
        wanted = [one for one in everything if not one.item_id.startswith("wine")]
        found = ruled.recommend(history, k=k)
        assert ids(found) == ids(wanted[:k])
        assert [one.score for one in found] == pytest.approx([one.score for one in wanted[:k]], abs=1e-5)
        assert [one.rank for one in found] == list(range(1, len(found) + 1))
        hidden = [one.item_id for one in everything[:k] if one.item_id.startswith("wine")]
        assert [(one.item_id, one.rule, one.reason) for one in found.suppressed] == [
            (name, "no wine", "its category is 'wine'") for name in hidden
        ]
        assert found.fallback == (not history)
        assert [one.source for one in found] == [one.source for one in wanted[:k]]
    assert ruled.rules is not None
    assert ruled.rules.counts["no wine"] > 0
    assert plain.rules is None
    assert plain.recommend(HISTORY).suppressed == ()


def test_a_batch_is_as_one_by_one_with_ages(run: Path) -> None:
    adult = {"kind": "minimum_age", "field": "category", "values": ["wine"], "age": 18}
    ruled = Recommender.from_pretrained(
        run,
        rules=rules_of(adult, {"kind": "at_most", "field": "category", "most": 3}),
        reranking=steps_of(
            {"kind": "mmr", "diversity": 0.3}, {"kind": "calibration", "field": "category", "strength": 0.3}
        ),
    )
    histories = [HISTORY, ["tea0", "bread1"], [], HISTORY]
    ages = [30, 12, None, None]
    batch = ruled.recommend_batch(histories, 9, ages=ages)
    for history, age, found in zip(histories, ages, batch, strict=True):
        alone = ruled.recommend(history, 9, age=age)
        assert ids(alone) == ids(found)
        assert alone.suppressed == found.suppressed
        assert len(found) == 9
        shown = Counter(ruled.item(name).fields["category"] for name in ids(found))
        assert max(shown.values()) <= 3
        assert (shown["wine"] > 0) <= (age == 30)
    assert any(name.startswith("wine") for name in ids(batch[0]))
    with pytest.raises(InputError, match="4 histories and 1 ages"):
        ruled.recommend_batch(histories, ages=[3])


def test_rules_hold_for_similar_items(run: Path) -> None:
    plain = Recommender.from_pretrained(run)
    ruled = Recommender.from_pretrained(
        run, rules=rules_of(NO_WINE, {"kind": "at_most", "field": "category", "most": 2})
    )
    assert any(name.startswith("wine") for name in ids(plain.similar("wine0", 10)))
    found = ruled.similar("wine0", 6)
    assert len(found) == 6
    shown = Counter(ruled.item(name).fields["category"] for name in ids(found))
    assert "wine" not in shown
    assert max(shown.values()) == 2
    assert found.suppressed


def test_items_that_come_and_change_are_judged_before_they_are_shown(run: Path) -> None:
    words = {"kind": "hide_text", "pattern": "forbidden", "name": "words"}
    ruled = Recommender.from_pretrained(run, rules=rules_of(words, NO_WINE))

    def shown() -> set[str]:
        return set(ids(ruled.recommend(["tea0"], k=100)))

    ruled.add_items(
        ["a", "b", "c"],
        ["mint tea", "forbidden tea", "iced tea"],
        fields=[{"category": "tea"}, {}, {"category": "wine"}],
    )
    assert shown() & {"a", "b", "c"} == {"a"}
    ruled.update_items(["b"], texts=["herb tea"], titles=["herb tea"])
    assert shown() & {"a", "b", "c"} == {"a", "b"}
    ruled.update_items(["a"], titles=["Forbidden"])
    ruled.update_items(["c"], fields=[{"category": None}])
    assert shown() & {"a", "b", "c"} == {"b", "c"}
    ruled.remove_items(["c"])
    ruled.add_items(["c"], ["small forbidden bread"])
    assert shown() & {"a", "b", "c"} == {"b"}
    found = ruled.recommend(["tea0"], k=100)
    assert {one.item_id for one in found.suppressed} >= {"a", "c"}
    assert not {one.item_id for one in found.suppressed} & set(ids(found))


def test_rules_may_leave_nothing(run: Path) -> None:
    ruled = Recommender.from_pretrained(run, rules=rules_of(NO_WINE))
    found = ruled.recommend(["tea0"], filter={"fields": {"category": "wine"}})
    assert ids(found) == []
    assert found.reason == "rules leave nothing of what could be recommended"
    assert found.suppressed
    assert ruled.recommend(["tea0"], filter={"only": []}).reason == "no item passes the filter"


def test_reranking_changes_the_order_of_the_same_scores(run: Path) -> None:
    plain = Recommender.from_pretrained(run)
    scores = {one.item_id: one.score for one in plain.recommend(HISTORY, k=40)}
    diverse = steps_of({"kind": "mmr", "diversity": 0.9, "field": "category"})
    found = plain.recommend(HISTORY, k=8, reranking=diverse)
    assert len({plain.item(name).fields["category"] for name in ids(found)[:4]}) == 4
    assert len({plain.item(name).fields["category"] for name in ids(plain.recommend(HISTORY, k=4))}) < 4
    assert ids(found)[0] == ids(plain.recommend(HISTORY, k=1))[0]
    assert [one.score for one in found] == pytest.approx([scores[name] for name in ids(found)], abs=1e-5)
    assert ids(plain.recommend(HISTORY, k=8)) == ids(plain.recommend(HISTORY, k=8, reranking=steps_of()))
    filtered = plain.recommend(HISTORY, k=8, reranking=diverse, filter={"fields": {"category": {"none_of": ["tea"]}}})
    assert not any(name.startswith("tea") for name in ids(filtered))
    assert len(filtered) == 8


def test_a_new_item_is_fresh(run: Path) -> None:
    recommender = Recommender.from_pretrained(
        run, reranking=steps_of({"kind": "freshness", "strength": 0.9, "half_life_days": 1.0})
    )
    before = time.time()
    recommender.add_items(["new"], ["small red wine"], fields=[{"category": "wine"}])
    assert recommender._stock.view.added[-1] >= before
    assert ids(recommender.recommend(["tea0"], k=5))[0] == "new"
    recommender.update_items(["tea1"], texts=["tea"])
    assert ids(recommender.recommend(["tea0"], k=5))[0] == "new", "an item of the training is not new for being changed"


def test_the_recipe_may_name_steps(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    steps = "retrieval.reranking.steps=[{kind: cap, field: category, most: 1}]"
    folder = tmp_path / "run"
    train(make_recipe("baseline.kind=popularity", *FIELDS, steps, output_dir=folder))
    recommender = Recommender.from_pretrained(folder)
    found = ids(recommender.recommend([], k=4))
    assert len({recommender.item(name).fields["category"] for name in found}) == 4


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"kind": "cap", "field": "categry", "most": 1},
         r"reranking.steps\[0\].field: items have no field 'categry'. Did you mean 'category'"),
        ({"kind": "mmr", "diversity": 0.1}, r"reranking.steps\[0\]: this run has no vectors of items"),
    ],
)  # fmt: skip
def test_steps_that_do_not_fit_are_refused(popular: Path, step: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recommender.from_pretrained(popular, reranking=steps_of(step))
    with pytest.raises(InputError, match=message):
        Recommender.from_pretrained(popular).recommend([], reranking=steps_of(step))


def test_a_file_of_rules_is_checked_and_named(
    popular: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, log = tmp_path / "rules.yaml", tmp_path / "log.jsonl"
    path.write_text(
        f"""
rules:
  - {{kind: hide_text, pattern: 'blue|goat', name: words}}
  - {{kind: minimum_age, field: category, values: [wine], age: 18, name: drinks}}
  - {{kind: at_most, field: category, most: 2}}
audit: {{file: '{log}'}}
""",
        encoding="utf-8",
    )
    num_items, found = check_rules(path, popular)
    told = {one.rule: one for one in found}
    assert num_items == 40
    assert (told["drinks"].hides, told["drinks"].minimum_age) == (10, 18)
    assert told["at_most 3"].hides is None
    assert told["words"].hides
    assert told["words"].examples[0][2].startswith("its title has '")
    assert not log.exists()
    assert main(["rules", "check", str(path), str(popular)]) == 0
    printed = capsys.readouterr().out
    assert "drinks (minimum_age): hides 10 (25.0%) from who is not known to be 18 or older" in printed
    assert main(["rules", "check", str(path), str(popular), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == 40

    ruled = Recommender.from_pretrained(popular, rules=path)
    found_list = ruled.recommend([], k=8, user="anna")
    assert len(found_list) == 6, "two of each of three categories"
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == len(found_list.suppressed) == sum(ruled.rules.counts.values())
    assert all("user" not in line for line in lines)

    path.write_text("rules: [{kind: at_most, field: brand, most: 1}]", encoding="utf-8")
    assert main(["rules", "check", str(path), str(popular)]) == 1
    assert f"{path}, rule 1 ('at_most 1'): items have no field 'brand'" in capsys.readouterr().err
    path.write_text("rules: [{kind: at_most, field: brand, most: none}]", encoding="utf-8")
    assert main(["rules", "check", str(path), str(popular)]) == 2
    assert f"{path}: rules[0].most" in capsys.readouterr().err
    with pytest.raises(RecipeError, match=r"rules\[0\].most"):
        Recommender.from_pretrained(popular, rules=path)
    path.write_text("rules: [{kind: at_most, field: category, most: 1}]", encoding="utf-8")
    assert main(["rules", "check", str(path), str(tmp_path)]) == 1
    assert "is no run folder" in capsys.readouterr().err
