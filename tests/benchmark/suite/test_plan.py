from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest

from peftrec.benchmark.plan import Plan, make_plan
from peftrec.config import RecipeError
from peftrec.recipe import load_recipe

REPOSITORY = Path(__file__).parents[3]
KNN = [f"toy.item_knn.decay-{decay}.seed-0" for decay in (0.2, 0.9)]


def test_trials_then_the_best_with_the_other_seeds(plan: Plan) -> None:
    names = ["toy.popularity.seed-0", *KNN]
    assert [run.name for run in plan.runs({})] == names
    assert [run.stage for run in plan.runs({})] == ["seed", "trial", "trial"]
    assert [run.row.name for run in plan.waiting({})] == ["toy.item_knn"]
    # One trial has not ended.
    assert [run.name for run in plan.runs({KNN[0]: 0.5})] == names
    found = plan.runs({KNN[0]: 0.2, KNN[1]: 0.3})
    assert [run.name for run in found] == [*names, "toy.item_knn.decay-0.9.seed-1"]
    assert found[-1].stage == "seed"
    assert found[-1].overrides[-2:] == ["baseline.decay=0.9", "training.seed=1"]
    # Of equal ones the first; what failed is not chosen; where all failed there is nothing to repeat.
    assert plan.runs({KNN[0]: 0.3, KNN[1]: 0.3})[-1].name == "toy.item_knn.decay-0.2.seed-1"
    assert plan.runs({KNN[0]: None, KNN[1]: 0.1})[-1].name == "toy.item_knn.decay-0.9.seed-1"
    assert len(plan.runs({KNN[0]: None, KNN[1]: None})) == 3
    assert len(plan.waiting({KNN[0]: None, KNN[1]: None})) == 1


def test_values_of_another_data_set(suite_path: Path) -> None:
    text = suite_path.read_text(encoding="utf-8")
    recipe = suite_path.with_name("recipe.yaml")
    text = text.replace("methods:\n  item", f"  other: {{label: other, recipe: {recipe}}}\nmethods:\n  item")
    suite_path.write_text(text + "  - {datasets: [other], methods: [item_knn], tuned_on: toy}\n", encoding="utf-8")
    plan = make_plan(suite_path)
    assert "other.item_knn.decay-0.2.seed-0" not in [run.name for run in plan.runs({})]
    found = plan.runs({KNN[0]: 0.4, KNN[1]: 0.3})
    assert [run.name for run in found[-2:]] == ["toy.item_knn.decay-0.2.seed-1", "other.item_knn.decay-0.2.seed-0"]
    suite_path.write_text(text + "  - {datasets: [other], methods: [popularity], tuned_on: other}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"takes the values of other.popularity, which no group tunes"):
        make_plan(suite_path)


def test_the_command_trains_the_recipe(plan: Plan) -> None:
    run = plan.runs({})[-1]
    words = shlex.split(run.command(3))
    assert words[:3] == ["OMP_NUM_THREADS=3", "peftrec", "train"]
    again = load_recipe(words[3], words[4:])
    # Elsewhere: its own folder may be there, and what is made by hand is no run of the suite.
    assert again.output_dir == f"runs/again/toy/{run.name}"
    assert dataclasses.replace(again, output_dir=run.recipe().output_dir) == run.recipe()
    assert run.recipe().output_dir == f"runs/benchmark/toy/{run.name}"


def test_budget_and_recipes_are_checked(suite_path: Path) -> None:
    text = suite_path.read_text(encoding="utf-8")

    def told(old: str, new: str) -> str:
        assert old in text
        suite_path.write_text(text.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(RecipeError) as caught:
            make_plan(suite_path)
        return str(caught.value).removeprefix(f"{suite_path}: ")

    knn = 'set: ["baseline={kind: item_knn}"]\n    axes: {baseline.decay: [0.2, 0.9]}'
    model = 'set: ["method={kind: lora}"]\n    axes: {method.rank: [2, 4, 8]}'
    assert told(knn, model) == "methods.item_knn.axes: have 3 points; trials: 2 is the budget of every method"
    untuned = 'set: ["method={kind: lora}"]'
    assert told(knn, untuned) == "methods.item_knn.axes: are missing; trials: 2 is the budget of every method"
    metric = 'item_knn}", training.metric=hr@10]'
    assert told('item_knn}"]', metric) == (
        "methods.item_knn on toy: training.metric is hr@10, that of popularity is ndcg@10; what judges the rows of a "
        "data set is the same for all"
    )
    assert "on toy: data.sample is {'users': 3, 'seed': 0}, that of popularity is None" in told(
        'item_knn}"]', """item_knn}", 'data.sample={users: 3, seed: 0}']"""
    )
    assert "on toy: evaluation is {" in told('item_knn}"]', 'item_knn}", evaluation.exclude_history=false]')
    assert told("kind: item_knn", "kind: item_kn").startswith("methods.item_knn on toy: ")
    assert "out of range" in told("[0.2, 0.9]", "[0.2, 9.0]")
    assert "a grid needs" in told("[0.2, 0.9]", "{low: 0.2, high: 0.9}")
    assert "there is no such file" in told("recipe.yaml", "nothing.yaml")
    assert "set and axes both have" in told('item_knn}"]', 'item_knn}", baseline.decay=0.5]')
    seed = 'item_knn}", training.seed=3]'
    assert told('item_knn}"]', seed) == (
        "methods.item_knn on toy: set has 'training.seed', which groups set with seeds; leave it out"
    )
    assert "set has 'output_dir', which follows" in told('item_knn}"]', 'item_knn}", output_dir=runs/mine]')
    twice = "methods: [popularity]}\n  - {datasets: [toy], methods: [popularity], seeds: [1]}"
    assert told("methods: [popularity]}", twice) == (
        "groups: toy.popularity stands in two groups; one of them is enough"
    )


def test_rows_that_tables_could_not_tell_apart(suite_path: Path) -> None:
    """A row is a method with a language model: a report would take these for the same run twice."""
    text = suite_path.read_text(encoding="utf-8")
    lora = "lora: {label: LoRA, axes: {method.rank: [2, 4]}, set: ['method={kind: lora}']}"
    backbones = f"backbones:\n  whole: {{}}\n  cut: {{set: [encoder.max_tokens=8]}}\nmethods:\n  {lora}"
    text = text.replace("methods:\n  item_knn", f"{backbones}\n  item_knn", 1)
    group = "  - {{datasets: [toy], backbones: [{}], methods: [{}]}}\n"
    suite_path.write_text(text + group.format("whole, cut", "lora"), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"groups: toy.cut.lora and toy.whole.lora both read .*tiny"):
        make_plan(suite_path)
    both = text + group.format("whole", "lora, popularity") + group.format("cut", "lora")
    suite_path.write_text(both.replace("cut: {set", "cut: {set: [encoder.backbone=other, encoder.max_tokens=8]} #"))
    with pytest.raises(RecipeError, match=r"toy.whole.popularity and toy.popularity both read no text"):
        make_plan(suite_path)


def test_what_is_committed_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    paths = sorted((REPOSITORY / "benchmarks" / "suites").glob("*.yaml"))
    assert [path.stem for path in paths] == ["cpu", "gpu", "smoke"]
    plans = {path.stem: make_plan(path) for path in paths}
    main = ["full", "full_top2", "lora", "lora_top2", "houlsby", "prefix", "side", "frozen"]
    three = [row.method for row in plans["cpu"].rows if row.dataset == "beauty_3000" and row.seeds == (0, 1, 2)]
    assert set(three) >= set(main)
    assert {(row.is_baseline, row.launch is None) for row in plans["gpu"].rows} == {(True, True), (False, False)}
