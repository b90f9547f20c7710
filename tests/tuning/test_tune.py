"""Tuning, from recipe and space to the best recipe: what is measured, what is written, and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import peftrec.measuring
import peftrec.tuning.search
from peftrec.config import InputError, RecipeError
from peftrec.launch import Ranks
from peftrec.recipe import load_recipe
from peftrec.run import train
from peftrec.tuning import Study, read_space, tune

MakeRecipe = Callable[..., Any]
GRID = {"baseline.decay": [0.2, 0.9]}


@pytest.fixture
def ranked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The cases that are ranked, in order."""
    seen: list[Any] = []
    measured = peftrec.measuring.evaluate_cases

    def evaluate_cases(scores: Any, cases: Any, *rest: Any, **settings: Any) -> Any:
        seen.append(cases)
        return measured(scores, cases, *rest, **settings)

    monkeypatch.setattr(peftrec.measuring, "evaluate_cases", evaluate_cases)
    return seen


def stored(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "trials.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_a_baseline(make_recipe: MakeRecipe, toy_dataset: Any, tmp_path: Path, ranked: list[Any]) -> None:
    recipe, lines = make_recipe("baseline.kind=item_knn"), []
    space, folder = read_space(GRID, recipe), tmp_path / "study"
    record = tune(recipe, space, folder, sampler="grid", dataset=toy_dataset, report=lines.append)
    assert record == stored(folder)
    assert ranked == [toy_dataset.split.valid] * 2
    assert [trial["overrides"] for trial in record["trials"]] == [["baseline.decay=0.2"], ["baseline.decay=0.9"]]
    values = [trial["value"] for trial in record["trials"]]
    assert record["best"] == values.index(max(values))
    # Of two values the best is always at an edge.
    assert [warning.partition(":")[0] for warning in record["warnings"]] == ["baseline.decay"]
    assert f"WARNING: {record['warnings'][0]}" in lines
    text = (folder / "best.yaml").read_text(encoding="utf-8")
    assert f"# Trial:    {record['best']}, validation ndcg@10 {max(values):.6g}" in text
    assert "# Study:    study: best of 2 trials" in text
    assert f"# Warning:  {record['warnings'][0]}" in text
    metrics = train(load_recipe(folder / "best.yaml"))
    assert metrics["valid"]["model"]["metrics"]["ndcg@10"] == max(values)
    assert (folder / "best" / "peftrec.json").is_file()
    ranked.clear()
    assert tune(recipe, space, folder, sampler="grid", dataset=toy_dataset) == record
    assert ranked == []


def test_a_model_is_judged_by_its_best_epoch_of_validation_alone(
    make_recipe: MakeRecipe, toy_dataset: Any, tmp_path: Path, ranked: list[Any]
) -> None:
    recipe = make_recipe()
    space = read_space({"optimizer.head_learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}}, recipe)
    record = tune(recipe, space, tmp_path / "study", num_trials=2, sampler="random", dataset=toy_dataset)
    assert len(ranked) == 2 * 3  # before training, and after each of two epochs
    assert all(cases is toy_dataset.split.valid for cases in ranked)
    for trial in record["trials"]:
        assert [row["epoch"] for row in trial["epochs"]] == [0, 1, 2]
        assert trial["value"] == max(row["value"] for row in trial["epochs"])
    best = max(trial["value"] for trial in record["trials"])
    metrics = train(load_recipe(tmp_path / "study" / "best.yaml"))
    assert metrics["training"]["best_metric"] == pytest.approx(best, abs=1e-9)


def test_a_trial_is_pruned_from_the_epoch_in_which_all_moves(
    make_recipe: MakeRecipe, toy_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Study.report
    # What Optuna is told is kept; this pruner would stop everything at once.
    monkeypatch.setattr(Study, "report", lambda *given: report(*given) or True)
    recipe = make_recipe("training.num_epochs=4", "training.warmup_frozen_epochs=1")
    space = read_space({"optimizer.learning_rate": [0.001]}, recipe)
    with pytest.raises(InputError, match="none of 1 trials ended well: stopped by the pruner after epoch 2"):
        tune(recipe, space, tmp_path / "study", sampler="grid", pruner="median", dataset=toy_dataset)
    (trial,) = stored(tmp_path / "study")["trials"]
    assert (trial["state"], [row["epoch"] for row in trial["epochs"]]) == ("pruned", [0, 1, 2])
    assert not (tmp_path / "study" / "best.yaml").exists()


def test_the_median_stops_the_worse_half(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe()
    study = Study.open(
        tmp_path, name="s", recipe=recipe, space=read_space({"method.rank": [1, 2, 3, 4, 5, 6]}, recipe),
        sampler="grid", pruner="median",
    )  # fmt: skip
    for value in (0.1, 0.2, 0.3, 0.4):
        trial = study.ask()
        assert not study.report(trial, 0, 0.9)  # where all begin, and what says nothing of any
        assert not study.report(trial, 1, value)
        study.tell(trial, value)
    worse = study.ask()
    study.report(worse, 0, 0.9)
    assert study.report(worse, 1, 0.24)
    assert not study.report(study.ask(), 1, 0.26)


def test_trials_that_fail_are_kept_with_their_reasons(
    make_recipe: MakeRecipe, toy_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = iter([MemoryError("17 GB"), InputError("the loss became nan in step 3\nmore"), KeyError("x"), 0.25])

    def run_trial(*_: Any) -> float:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(peftrec.tuning.search, "run_trial", run_trial)
    recipe = make_recipe("baseline.kind=item_knn")
    space = read_space({"baseline.decay": [0.1, 0.2, 0.3, 0.4]}, recipe)
    record = tune(recipe, space, tmp_path / "study", sampler="grid", dataset=toy_dataset)
    assert [trial["reason"] for trial in record["trials"]] == [
        "out of memory (MemoryError: 17 GB)", "the loss became nan in step 3", "KeyError: 'x'", None,
    ]  # fmt: skip
    assert [trial["state"] for trial in record["trials"]] == ["failed"] * 3 + ["complete"]
    assert (record["best"], record["num_ended"]) == (3, 1)


def test_a_loss_that_is_not_finite_fails_the_trial(make_recipe: MakeRecipe, toy_dataset: Any, tmp_path: Path) -> None:
    recipe = make_recipe("training.num_epochs=1", "method.kind=frozen")
    space = read_space({"optimizer.head_learning_rate": [1e38, 1e-3]}, recipe)
    record = tune(recipe, space, tmp_path / "study", sampler="grid", dataset=toy_dataset)
    assert [trial["state"] for trial in record["trials"]] == ["failed", "complete"]
    assert "became" in record["trials"][0]["reason"]


def test_an_interrupted_trial_is_tried_again(
    make_recipe: MakeRecipe, toy_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe("baseline.kind=item_knn")
    space = read_space(GRID, recipe)

    def interrupted(*_: Any) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(peftrec.tuning.search, "run_trial", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune(recipe, space, tmp_path / "study", sampler="grid", dataset=toy_dataset)
    record = tune(recipe, space, tmp_path / "study", sampler="grid", dataset=toy_dataset)
    assert [trial["state"] for trial in record["trials"]] == ["failed", "complete", "complete"]
    assert "interrupted" in record["trials"][0]["reason"]
    assert sorted(trial["values"]["baseline.decay"] for trial in record["trials"][1:]) == [0.2, 0.9]


def test_templates_may_be_searched_over(make_recipe: MakeRecipe, toy_dataset: Any, tmp_path: Path) -> None:
    recipe = make_recipe("baseline.kind=content_knn")
    space = read_space({"data.template": ["{title}", "{category}"]}, recipe)
    record = tune(recipe, space, tmp_path / "study", sampler="grid", dataset=toy_dataset)
    first, second = (trial["value"] for trial in record["trials"])
    assert first != second
    assert record["warnings"] == []


def test_other_files_are_left_alone(make_recipe: MakeRecipe, toy_dataset: Any, tmp_path: Path) -> None:
    recipe = make_recipe("baseline.kind=item_knn")
    space = read_space(GRID, recipe)
    (tmp_path / "thesis.txt").write_text("years of work")
    for folder, message in ((tmp_path, "holds files that are no study"), (tmp_path / "thesis.txt", "is a file")):
        with pytest.raises(RecipeError, match=message):
            tune(recipe, space, folder, sampler="grid", dataset=toy_dataset)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_several_processes_of_one_launch_are_refused(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They would add up the gradients of different trials."""
    recipe = make_recipe("baseline.kind=item_knn")
    monkeypatch.setattr("peftrec.launch.one_process.launched", lambda: Ranks(1, 2))
    with pytest.raises(InputError, match="2 processes were launched"):
        tune(recipe, read_space(GRID, recipe), tmp_path / "study", sampler="grid")
    assert not list(tmp_path.iterdir())
