from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from peftrec.cli import main


@pytest.fixture
def words(write_recipe: Callable[..., Path], tmp_path: Path) -> list[str]:
    """A command that tunes item_knn on a grid of two values."""
    recipe = write_recipe(tmp_path, "baseline.kind=item_knn")
    space = tmp_path / "space.yaml"
    space.write_text("baseline.decay: [2e-1, 9e-1]\n", encoding="utf-8")
    return ["tune", str(recipe), str(space), "--output", str(tmp_path / "study"), "--sampler", "grid"]


def test_the_table_has_the_best_trial_first(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "baseline.num_neighbours=20"]) == 0
    shown = capsys.readouterr()
    record = json.loads((tmp_path / "study" / "trials.json").read_text(encoding="utf-8"))
    rows = [line.split() for line in shown.out.splitlines() if "baseline.decay=" in line]
    order = sorted(record["trials"], key=lambda trial: -trial["value"])
    assert [(row[0], row[1]) for row in rows] == [(str(trial["number"]), f"{trial['value']:.4f}") for trial in order]
    assert "WARNING: baseline.decay" in shown.out
    assert "best.yaml: ready to train" in shown.err
    assert main(["validate", str(tmp_path / "study" / "best.yaml")]) == 0
    assert "num_neighbours: 20" in (tmp_path / "study" / "best.yaml").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main([*words, "baseline.num_neighbours=20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == record
    assert main([*words, "baseline.num_neighbours=30"]) == 1
    assert "recipe baseline.num_neighbours (then 20, now 30)" in capsys.readouterr().err


def test_what_is_wrong_is_told_before_anything_is_written(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "baseline.decay=0.5"]) == 2
    assert "baseline.decay: is searched over, but 'baseline.decay=0.5' sets it" in capsys.readouterr().err
    (tmp_path / "space.yaml").write_text("baseline.decay: {low: 0.1, high: 0.9}\n", encoding="utf-8")
    assert main(words) == 2
    assert "a grid needs a list of values" in capsys.readouterr().err
    assert main([*words[:2], str(tmp_path / "none.yaml"), *words[3:]]) == 2
    assert "none.yaml: there is no such file" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "--seed", "-1"])
    assert not (tmp_path / "study").exists()


def test_without_optuna(words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    assert main(words) == 1
    assert "pip install 'peftrec[tune]'" in capsys.readouterr().err
