"""Searches: only validation is seen, a stopped one goes on, failures are noted, the best can be trained."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import peftrec.fitting
from peftrec.cli import main
from peftrec.config import InputError, RecipeError
from peftrec.fitting import Validated, validate
from peftrec.recipe import Recipe, load_recipe
from peftrec.run import train
from peftrec.tuning import Study, read_space, tune
from peftrec.tuning import search as searching

RATES = {"optimizer.head_learning_rate": [1e-5, 1e-2, 3e-2]}


@pytest.fixture
def recipe(make_recipe: Callable[..., Any], tmp_path: Path) -> Recipe:
    made: Recipe = make_recipe("training.num_epochs=1", "method.kind=frozen", output_dir=tmp_path / "run")
    return made


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """In place of training: the value is the head's rate, told epoch by epoch."""
    tried: list[float] = []

    def pretend(recipe: Recipe, dataset: Any, *, on_epoch: Any) -> Validated:
        rate = recipe.optimizer.head_learning_rate
        assert rate is not None
        tried.append(rate)
        if rate == 3e-2:
            raise InputError("the loss became nan in epoch 1")
        for epoch in range(4):
            on_epoch(epoch, rate * epoch)
        return Validated(rate * 3, (0.0, rate, 2 * rate, 3 * rate), 1.0)

    monkeypatch.setattr(searching, "validate", pretend)
    return tried


def test_the_best_recipe_trains_to_what_the_search_saw(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = peftrec.fitting.measure

    def measured(scores: Any, recipe: Any, dataset: Any, split: str) -> Any:
        seen.append(split)
        return real(scores, recipe, dataset, split)

    monkeypatch.setattr(peftrec.fitting, "measure", measured)
    found = tune(recipe, read_space({"optimizer.head_learning_rate": [1e-5, 1e-2]}, recipe), tmp_path, sampler="grid")
    assert set(seen) == {"valid"}
    assert [trial.values["optimizer.head_learning_rate"] for trial in found.trials] == [1e-5, 1e-2]
    assert found.best.value == max(trial.value or 0 for trial in found.trials)
    metrics = train(load_recipe(found.recipe))
    assert metrics["valid"]["model"]["metrics"]["ndcg@10"] == pytest.approx(found.best.value, abs=1e-9)
    text = found.recipe.read_text()
    assert text.startswith(f"# Trial {found.best.number} of 2 (2 complete), the best by validation: ndcg@10 ")


def test_validation_is_that_of_training(recipe: Recipe) -> None:
    from peftrec.data import load_dataset

    found = validate(recipe, load_dataset(recipe.data))
    metrics = train(recipe)
    assert found.value == pytest.approx(metrics["training"]["best_metric"], abs=1e-12)
    assert len(found.epochs) == 2


def test_failures_are_noted_and_do_not_stop_it(recipe: Recipe, tmp_path: Path, quick: list[float]) -> None:
    found = tune(recipe, read_space(RATES, recipe), tmp_path, sampler="grid")
    assert quick == [1e-5, 1e-2, 3e-2]
    stored = json.loads((tmp_path / "trials.json").read_text())
    assert [trial["state"] for trial in stored["trials"]] == ["complete", "complete", "failed"]
    assert stored["trials"][2]["reason"] == "InputError: the loss became nan in epoch 1"
    assert stored["trials"][1]["epochs"] == pytest.approx([0.0, 1e-2, 2e-2, 3e-2])
    assert (stored["metric"], stored["split"]) == ("ndcg@10", "valid")
    assert found.best.values == {"optimizer.head_learning_rate": 1e-2}
    assert found.edges == ()


def test_where_all_fail_the_reasons_are_told(recipe: Recipe, tmp_path: Path, quick: list[float]) -> None:
    with pytest.raises(InputError, match=r"no trial ended well: InputError: the loss became nan in epoch 1"):
        tune(recipe, read_space({"optimizer.head_learning_rate": [3e-2]}, recipe), tmp_path, sampler="grid")
    assert not (tmp_path / "best.yaml").exists()


def test_a_search_goes_on_where_it_stopped(recipe: Recipe, tmp_path: Path, quick: list[float]) -> None:
    space = read_space({"optimizer.head_learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}}, recipe)
    first = tune(recipe, space, tmp_path, num_trials=3)
    assert len(quick) == 3
    again = tune(recipe, space, tmp_path, num_trials=3)
    assert len(quick) == 3
    assert again.best == first.best
    more = tune(recipe, space, tmp_path, num_trials=5)
    assert len(quick) == len(set(quick)) == 5
    assert [trial.values for trial in more.trials[:3]] == [trial.values for trial in first.trials]


def test_the_same_seed_draws_the_same(recipe: Recipe, tmp_path: Path, quick: list[float]) -> None:
    space = read_space({"optimizer.head_learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}}, recipe)
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        tune(recipe, space, tmp_path / folder, num_trials=2, seed=seed)
    assert quick[:2] == quick[2:4] != quick[4:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("recipe", r"begun with other settings: training\.num_epochs \(then 1, now 2\)"),
        ("space", r"begun with other settings: space "),
        ("data", r"begun with other settings: data_sha256 "),
        ("sampler", r"begun with other settings: sampler \(then 'grid', now 'tpe'\)"),
    ],
)
def test_other_settings_are_refused(
    recipe: Recipe, tmp_path: Path, quick: list[float], change: str, message: str
) -> None:
    space = read_space(RATES, recipe)
    tune(recipe, space, tmp_path, sampler="grid")
    sampler: Any = "grid"
    if change == "recipe":
        recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, num_epochs=2))
    elif change == "space":
        space = read_space({"optimizer.head_learning_rate": [1e-5, 1e-3]}, recipe)
    elif change == "sampler":
        sampler = "tpe"
    else:
        root = Path(recipe.data.root)
        other = tmp_path / "data"
        other.mkdir()
        for path in root.iterdir():
            if path.is_file():
                text = path.read_text()
                (other / path.name).write_text(
                    text[: text.rindex("\n", 0, -1) + 1] if "interactions" in path.name else text
                )
        recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, root=str(other)))
    with pytest.raises(RecipeError, match=message):
        tune(recipe, space, tmp_path, sampler=sampler)


def test_what_falls_behind_is_stopped(recipe: Recipe, tmp_path: Path, quick: list[float]) -> None:
    space = read_space({"optimizer.head_learning_rate": [5e-3, 6e-3, 7e-3, 8e-3, 1e-5]}, recipe)
    found = tune(recipe, space, tmp_path, sampler="grid", pruner="median")
    assert [trial.state for trial in found.trials] == ["complete"] * 4 + ["pruned"]
    assert len(found.trials[-1].epochs) < 4
    assert found.best.values == {"optimizer.head_learning_rate": 8e-3}


KILLED = """
import os, sys
from peftrec.recipe import load_recipe
from peftrec.tuning import Study, read_space
recipe = load_recipe(sys.argv[1])
space = read_space({"method.rank": [4, 8]}, recipe)
study = Study.open(sys.argv[2], name="tune", recipe=recipe, space=space, sampler="grid", num_trials=2)
print(study.ask().values, flush=True)
os._exit(9)
"""


def test_a_trial_whose_process_was_killed_is_tried_again(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    recipe = make_recipe(output_dir=tmp_path / "run")
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    words = [sys.executable, "-c", KILLED, str(tmp_path / "recipe.yaml"), str(tmp_path / "study")]
    assert subprocess.run(words, capture_output=True, text=True).stdout == "{'method.rank': 4}\n"
    space = read_space({"method.rank": [4, 8]}, recipe)
    study = Study.open(tmp_path / "study", name="tune", recipe=recipe, space=space, sampler="grid", num_trials=2)
    asked = []
    while (trial := study.ask()) is not None:
        asked.append(trial.values["method.rank"])
        study.tell(trial, 0.5)
    assert sorted(asked) == [4, 8]
    told = [(trial.state, trial.reason) for trial in study.trials()]
    assert told[0] == ("failed", "its process was killed")
    assert [state for state, _ in told[1:]] == ["complete", "complete"]


def test_two_that_share_a_study_try_other_points(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    recipe = make_recipe(output_dir=tmp_path / "run")
    space = read_space({"method.rank": [4, 8, 16]}, recipe)
    settings: Any = {"name": "tune", "recipe": recipe, "space": space, "sampler": "grid", "num_trials": 9}
    one, other = (Study.open(tmp_path / "study", **settings) for _ in range(2))
    asked = [one.ask(), other.ask(), one.ask()]
    assert [trial.values["method.rank"] for trial in asked if trial is not None] == [4, 8, 16]
    assert other.ask() is None


def test_a_baseline_from_the_command_line(
    make_recipe: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = make_recipe("baseline.kind=item_knn", output_dir=tmp_path / "run")
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    (tmp_path / "space.yaml").write_text("baseline.shrinkage: [0.0, 10.0, 100.0]\nbaseline.decay: [0.5, 0.8, 1.0]\n")
    words = ["tune", str(tmp_path / "recipe.yaml"), str(tmp_path / "space.yaml"), "--output", str(tmp_path / "tuned")]
    assert main([*words, "--sampler", "grid"]) == 0
    shown = capsys.readouterr().out
    assert "best of 9 trials: ndcg@10 0." in shown
    assert shown.rstrip().endswith(f"peftrec train {tmp_path / 'tuned' / 'best.yaml'}")
    assert main(["validate", str(tmp_path / "tuned" / "best.yaml")]) == 0
    capsys.readouterr()
    assert main([*words, "--sampler", "grid", "baseline.decay=0.9"]) == 2
    assert "baseline.decay: is set on the command line, but" in capsys.readouterr().err
    (tmp_path / "space.yaml").write_text("baseline.shrinkage: {low: 0.0, high: 10.0}\n")
    assert main([*words, "--sampler", "grid"]) == 2
    assert "baseline.shrinkage are ranges; a grid needs lists of values" in capsys.readouterr().err
