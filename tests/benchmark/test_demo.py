"""The demo end to end on toy data, and what it says about its own table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peftrec.benchmark.demo import RECIPES, Row, findings, main
from peftrec.evaluation import Evaluation
from peftrec.metrics import rank_metrics

CHOICES = {
    "popularity": ["baseline.kind=popularity"],
    "content_knn": ["baseline.kind=content_knn"],
    "minilm_frozen": ["method.kind=frozen"],
    "minilm_lora": ["method.layers=2"],
    "minilm_lora_ids": ["method.layers=2", "encoder.inputs=text+ids"],
}


@pytest.fixture
def recipes(make_recipe: Callable[..., Any], tmp_path: Path) -> Path:
    """A folder with the demo's recipes for the toy data on the tiny BERT."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    for name, overrides in CHOICES.items():
        recipe = make_recipe(
            "data.kind=movielens", "data.folder=ml-100k", "training.num_epochs=1", "training.batch_users=16", *overrides
        )
        (folder / f"{name}.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    return folder


def test_the_recipes_of_the_demo_are_there() -> None:
    folder = Path(__file__).parents[2] / "recipes" / "ml100k"
    assert set(RECIPES) == set(CHOICES) <= {path.stem for path in folder.glob("*.yaml")}


def test_prints_the_table_and_recommendations(
    recipes: Path, write_toy: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_toy(tmp_path / "data" / "ml-100k")  # without users.csv, which the demo does not read
    words = ["--root", str(data.parent), "--recipes", str(recipes), "--output", str(tmp_path / "runs")]
    for _ in range(2):  # the second time over the runs of the first
        assert main(words) == 0
        shown = capsys.readouterr().out
    rows = [line for line in shown.splitlines() if line.strip().startswith(tuple(RECIPES.values()))]
    assert all(any(line.strip().startswith(name) for line in rows) for name in RECIPES.values())
    assert "no commercial use" in shown
    assert shown.count("\nuser u") == 3
    assert "told only the last 2" in shown
    assert "Nobody watched 'small red wine'" not in shown
    assert "Nobody watched '" in shown
    assert "paired test over 60 users" in " ".join(shown.split())
    assert {path.name for path in (tmp_path / "runs").iterdir()} == set(RECIPES)


def test_a_missing_recipe_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(tmp_path), "--recipes", str(tmp_path / "none")]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("demo: ")
    assert "popularity.yaml: there is no such file" in shown


def row(name: str, ranks: list[int], trainable: int) -> Row:
    array = np.array(ranks, dtype=np.int64)
    evaluation = Evaluation(
        users=np.arange(len(array)),
        targets=np.zeros(len(array), dtype=np.int64),
        ranks=array,
        per_user=rank_metrics(array, (10,)),
        repeat_target_share=0.0,
        num_items=100,
        exclude_history=True,
    )
    run: Any = None
    return Row(name=name, run=run, evaluation=evaluation, trainable=trainable, stored_bytes=0, seconds=0.0)


def test_findings_say_when_lora_does_not_beat_frozen() -> None:
    good, bad = [1, 2, 3] * 20, [1, 20, 30] * 20
    rows = {
        "popularity": row("popularity", bad, 0),
        "minilm_frozen": row("frozen text", bad, 10),
        "minilm_lora": row("LoRA", good, 20),
    }
    hits, gains, floor = findings(rows)
    assert hits.startswith("LoRA beats frozen text in HR@10: +0.6667")
    assert gains.startswith("LoRA beats frozen text in NDCG@10")
    assert "chance" not in hits
    assert floor == "NOT above popularity in HR@10: frozen text"
    swapped = rows | {
        "minilm_frozen": dataclasses.replace(rows["minilm_lora"], name="frozen text"),
        "minilm_lora": dataclasses.replace(rows["minilm_frozen"], name="LoRA"),
    }
    assert findings(swapped)[0].startswith("LoRA DOES NOT BEAT frozen text in HR@10: -0.6667")


def test_findings_say_when_a_difference_could_be_chance() -> None:
    rows = {
        "popularity": row("popularity", [50] * 6, 0),
        "minilm_frozen": row("frozen text", [1, 20, 20, 1, 1, 1], 10),
        "minilm_lora": row("LoRA", [1, 1, 20, 1, 1, 1], 20),
    }
    assert findings(rows)[0].endswith("could be chance")
    assert findings(rows)[2] == "Every trained row is above popularity."
    rows["minilm_lora"] = row("LoRA", [1, 20, 20, 1, 1, 1], 20)
    assert "LoRA equals frozen text in HR@10" in findings(rows)[0]
