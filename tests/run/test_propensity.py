"""Runs whose metrics are also estimated by propensity: what is stored, evaluated again, printed and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftrec.cli import main
from peftrec.config import InputError
from peftrec.evaluating import evaluate
from peftrec.run import train


@pytest.fixture(scope="module")
def finished(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run that weighs targets and estimates by propensity, and the lines it reported."""
    folder, lines = tmp_path_factory.mktemp("propensity") / "run", []
    own = ("debias.propensity={power: 0.5, clip: 0.1}", "evaluation.propensity={power: 1, clip: 0.2}")
    train(make_recipe("method.kind=frozen", *own, output_dir=folder), report=lines.append)
    return folder, lines


def test_estimates_stand_beside_every_row(finished: tuple[Path, list[str]]) -> None:
    folder, lines = finished
    stored = json.loads((folder / "metrics.json").read_text())
    assert any(line.startswith("propensities: (n / max n)^0.5, at least 0.1; targets weigh") for line in lines)
    for split in ("valid", "test"):
        again = json.loads(json.dumps(evaluate(folder, split=split)))
        for name in ("model", "popularity", "content_knn"):
            row = stored[split][name]
            assert set(row["snips"]["metrics"]) == set(row["metrics"])
            assert (row["snips"]["power"], row["snips"]["clip"], row["snips"]["few"]) == (1, 0.2, True)
            assert 1 <= row["snips"]["effective_cases"] <= row["num_cases"]
            for metric, (low, high) in row["snips"]["intervals"].items():
                assert low <= row["snips"]["metrics"][metric] <= high
            assert again[name] == row
    # What the most popular items gain, the others lose.
    popular = stored["test"]["popularity"]
    assert popular["snips"]["metrics"]["ndcg@10"] < popular["metrics"]["ndcg@10"]


def test_an_override_asks_for_other_propensities(finished: tuple[Path, list[str]]) -> None:
    found = evaluate(finished[0], overrides=["evaluation.propensity.power=0"])["model"]
    assert found["snips"]["metrics"] == pytest.approx(found["metrics"])
    assert found["snips"]["effective_cases"] == pytest.approx(found["num_cases"])
    assert "snips" not in evaluate(finished[0], overrides=["evaluation.propensity=null"])["model"]


def test_the_table_has_rows_for_them(finished: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(finished[0])]) == 0
    shown = capsys.readouterr().out
    assert all(f"{name}, snips" in shown for name in ("model", "popularity", "content_knn"))
    assert "snips: cases weighed by 1 / propensity ((n / max n)^1, at least 0.2)" in shown
    assert "warning: these estimates rest on" in shown
    assert main(["evaluate", str(finished[0]), "evaluation.propensity=null"]) == 0
    assert "snips" not in capsys.readouterr().out


@pytest.mark.parametrize("section", ["debias", "evaluation"])
def test_columns_are_checked_before_anything_trains(
    section: str, make_recipe: Callable[..., Any], tmp_path: Path
) -> None:
    lines: list[str] = []
    recipe = make_recipe("method.kind=frozen", f"{section}.propensity.column=category", output_dir=tmp_path / "run")
    message = rf"column 'category' \(named by {section}\.propensity\.column\): item '\w+' has '\w+' \(39 more items"
    with pytest.raises(InputError, match=message):
        train(recipe, report=lines.append)
    assert not any(line.startswith("epoch") for line in lines)
    assert not (tmp_path / "run").exists()


def test_a_column_of_propensities(
    make_recipe: Callable[..., Any], tmp_path: Path, write_toy: Callable[[Path], Path]
) -> None:
    root = write_toy(tmp_path / "data")
    lines = (root / "items.csv").read_text().splitlines()
    rows = [f"{line},{0.1 if line.startswith('wine') else 0.8}" for line in lines[1:]]
    (root / "items.csv").write_text("\n".join([lines[0] + ",seen", *rows]) + "\n")
    own = ("debias.propensity={column: seen}", "evaluation.propensity={column: seen, clip: 0.5}")
    recipe = make_recipe("method.kind=frozen", "training.num_epochs=1", *own, data=root, output_dir=tmp_path / "run")
    found = train(recipe)["test"]["model"]["snips"]
    assert (found["power"], found["column"], found["clip"]) == (None, "seen", 0.5)
    assert found["source"] == "column 'seen', at least 0.5"
