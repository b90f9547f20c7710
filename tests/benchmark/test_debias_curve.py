"""The script that draws what a penalty costs, with tiny settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "debias_curve.py"


@pytest.fixture(scope="module")
def script(load_script: Callable[[Path], Any]) -> Any:
    return load_script(SCRIPT)


@pytest.mark.slow
def test_a_curve(script: Any, make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(make_recipe("method.kind=frozen", "training.num_epochs=2").to_yaml(), encoding="utf-8")
    output = tmp_path / "curve"
    words = [str(recipe), "groups", "debias.groups.column=category", "--weights", "0,30", "--output", str(output)]
    script.main([*words, "--seeds", "0,1"])
    rows = json.loads((output / "groups.json").read_text())["rows"]
    assert [(row["weight"], row["seed"]) for row in rows] == [(0, 0), (0, 1), (30, 0), (30, 1)]
    assert rows[0]["groups"] > rows[2]["groups"]
    stored = json.loads((output / "groups_0_seed_1" / "metrics.json").read_text())
    assert rows[1]["ndcg@10"] == pytest.approx(stored["test"]["model"]["metrics"]["ndcg@10"])
    table = (output / "groups.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in table] == ["weight", "---", "0", "30"]
    drawing = ElementTree.parse(output / "groups.svg").getroot()
    assert len(drawing.findall("{http://www.w3.org/2000/svg}circle")) == 2
    # What is there is not trained again; another penalty gets files of its own.
    written = (output / "groups_0_seed_0" / "metrics.json").stat().st_mtime_ns
    script.main([str(recipe), "groups", "--output", str(output), "--weights", "0", "debias.groups.column=category"])
    assert (output / "groups_0_seed_0" / "metrics.json").stat().st_mtime_ns == written
    assert len(json.loads((output / "groups.json").read_text())["rows"]) == 1
    script.main([str(recipe), "popularity", "--weights", "0", "--output", str(output)])
    (row,) = json.loads((output / "popularity.json").read_text())["rows"]
    assert "groups" not in row
    assert row["popularity"] > 0
