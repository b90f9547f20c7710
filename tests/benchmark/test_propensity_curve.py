"""The script that shows what weighing targets by propensity does, with tiny settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "propensity_curve.py"


@pytest.fixture(scope="module")
def script(load_script: Callable[[Path], Any]) -> Any:
    return load_script(SCRIPT)


def test_thirds_are_of_training_events(script: Any) -> None:
    assert script.thirds(np.array([1, 4, 0, 3, 2, 2])).tolist() == [2, 0, 2, 1, 1, 2]
    assert script.thirds(np.array([100, 1, 1])).tolist() == [0, 2, 2]


def test_rows_and_tables(script: Any, make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(make_recipe("method.kind=frozen", "training.num_epochs=1").to_yaml(), encoding="utf-8")
    runs, results = tmp_path / "runs", tmp_path / "results"
    words = [str(recipe), "--powers", "0,1", "--seeds", "0,1", "--name", "toy", "--output", str(runs)]
    script.main([*words, "--results", str(results)])
    found = json.loads((results / "toy.json").read_text())
    first, second = found["powers"]
    assert (first["power"], second["power"]) == (0, 1)
    for seed in (0, 1):
        stored = json.loads((runs / f"toy_1_seed_{seed}" / "metrics.json").read_text())["test"]["model"]
        assert second["measures"]["ndcg@10"]["seeds"][seed] == pytest.approx(stored["metrics"]["ndcg@10"])
    for row in found["powers"]:
        for one in row["measures"].values():
            assert one["mean"] == pytest.approx(np.mean(one["seeds"]))
            assert one["low"] <= one["mean"] <= one["high"]
    assert all(one["difference"] == {"mean": 0, "low": 0, "high": 0} for one in first["measures"].values())
    for one, base in zip(second["measures"].values(), first["measures"].values(), strict=True):
        assert one["difference"]["mean"] == pytest.approx(one["mean"] - base["mean"], abs=1e-12)
    cases = found["cases"]
    assert sum(cases[name]["cases"] for name in script.THIRDS) == cases["ndcg@10"]["cases"] == 60
    assert cases["snips, power 1"]["effective"] < cases["snips, power 0.5"]["effective"] < 60
    means, differences = (results / "toy.md").read_text().split("\n\n")
    assert [line.split("|")[1].strip() for line in means.splitlines()] == ["power", "---", "0", "1"]
    assert [line.split("|")[1].strip() for line in differences.splitlines()] == ["power", "---", "1"]
    # What is there is not trained again.
    written = (runs / "toy_0_seed_0" / "metrics.json").stat().st_mtime_ns
    script.main([*words, "--results", str(tmp_path / "again")])
    assert (runs / "toy_0_seed_0" / "metrics.json").stat().st_mtime_ns == written
    assert (tmp_path / "again" / "toy.json").read_text() == (results / "toy.json").read_text()
