"""Whole runs on every split: trained, evaluated again from the folder, compared user by user."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftrec import evaluate, train
from peftrec.comparing import compare
from peftrec.data import load_dataset

QUICK = ("training.num_epochs=1", "method.layers=1")
SPLITS = {
    "ratio": ("data.split.kind=ratio", "data.split.test_fraction=0.3"),
    "user_holdout": ("data.split.kind=user_holdout", "data.split.targets=all"),
    "cold_items": ("data.split.kind=cold_items", "encoder.inputs=text+ids"),
    "new_users": (
        "data.split.kind=global_time",
        "data.split.new_users=keep",
        "data.split.targets=all",
        "data.sessions.gap_minutes=20",
    ),
}


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_from_tables_to_a_comparison(name: str, make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    overrides = SPLITS[name]
    recipe = make_recipe(*overrides, *QUICK, output_dir=tmp_path / "run")
    dataset = load_dataset(recipe.data)
    lines: list[str] = []
    metrics = train(recipe, report=lines.append)
    for split in ("valid", "test"):
        found = metrics[split]
        assert found["leaks"] == dataset.split.leaks
        assert found["model"]["num_cases"] == len(getattr(dataset.split, split))
        assert found["model"]["num_users"] == len(set(getattr(dataset.split, split).users.tolist()))
    assert dataset.split.leaks in lines
    assert dataset.split.leaks in (tmp_path / "run" / "README.md").read_text()
    again = evaluate(tmp_path / "run")
    assert again["same_data"]
    assert again["model"] == metrics["test"]["model"]
    train(make_recipe(*overrides, "baseline.kind=popularity", output_dir=tmp_path / "popularity"))
    tests = [row.test for row in compare(tmp_path / "run", tmp_path / "popularity").tests]
    assert {test.num_users for test in tests} == {metrics["test"]["model"]["num_users"]}
    assert tests[0].first == pytest.approx(metrics["test"]["model"]["metrics"][tests[0].metric])


def test_popularity_knows_nothing_of_items_that_never_train(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    overrides = ("data.split.kind=cold_items", "baseline.kind=popularity", "evaluation.exclude_history=false")
    metrics = train(make_recipe(*overrides, output_dir=tmp_path / "run"))
    assert metrics["test"]["model"]["metrics"]["hr@10"] == 0.0
    # Texts do: a kind of items has one word in common.
    assert metrics["test"]["content_knn"]["metrics"]["hr@10"] > 0.2


def test_ratings_are_learned_where_items_are_held_out(
    make_recipe: Callable[..., Any], write_toy: Callable[[Path], Path], tmp_path: Path
) -> None:
    root = write_toy(tmp_path / "data")
    header, *rows = (root / "interactions.csv").read_text().splitlines()
    rated = [f"{row},{1 + place % 5}" for place, row in enumerate(rows)]
    (root / "interactions.csv").write_text("\n".join([f"{header},rating", *rated]) + "\n")
    overrides = ("data.split.kind=cold_items", "data.ratings=true", "loss={kind: squared_error, mean_rating: 3.0}")
    metrics = train(make_recipe(*overrides, *QUICK, data=root, output_dir=tmp_path / "run"))
    assert metrics["test"]["model"]["num_cases"] > 0
    assert evaluate(tmp_path / "run")["same_data"]


def test_weights_decide_what_is_asked(
    make_recipe: Callable[..., Any], write_toy: Callable[[Path], Path], tmp_path: Path
) -> None:
    root = write_toy(tmp_path / "data")
    header, *rows = (root / "interactions.csv").read_text().splitlines()
    kinds = ("view", "purchase", "hover")
    weighed = [f"{row},{kinds[place % 3]}" for place, row in enumerate(rows)]
    (root / "interactions.csv").write_text("\n".join([f"{header},event", *weighed]) + "\n")
    overrides = ("data.event_weights={view: 0.2, purchase: 1.0, hover: 0}", "data.split.kind=ratio")
    everything = train(make_recipe(*overrides, *QUICK, data=root, output_dir=tmp_path / "all"))
    purchases = make_recipe(
        *overrides, *QUICK, "data.min_target_weight=1", data=root, output_dir=tmp_path / "purchases"
    )
    metrics = train(purchases)
    assert metrics["test"]["model"]["num_cases"] < everything["test"]["model"]["num_cases"]
    steps = {row["step"]: row for row in metrics["cleaning"]["rows"]}
    assert steps["events of weight 0"]["removed"] == len(rows) // 3
    assert steps["weights"]["removed"] == sum(row.endswith("view") for row in weighed)
    assert evaluate(tmp_path / "purchases")["model"] == metrics["test"]["model"]
    stored = json.loads((tmp_path / "all" / "metrics.json").read_text())
    assert stored["data_sha256"] != metrics["data_sha256"]
