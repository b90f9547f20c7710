from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import peftrec.benchmark.runner
from peftrec.benchmark.child import Ended
from peftrec.cli import main

SUITE = """
trials: 1
datasets:
  toy: {{label: toy data, recipe: {recipe}}}
methods:
  popularity: {{label: popularity, set: ["baseline={{kind: popularity}}"]}}
  item_knn: {{label: item-kNN, set: ["baseline={{kind: item_knn}}"]}}
groups:
  - {{datasets: [toy], methods: [popularity, item_knn]}}
"""


@pytest.fixture
def words(write_recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command that runs a suite, whose item-kNN fails and whose popularity is trained in this process."""

    def run_child(command: list[str], **_: Any) -> Ended:
        if "baseline={kind: item_knn}" in command:
            return Ended(state="failed", reason="no neighbours", exit_code=1, seconds=1.0)
        assert main(command[command.index("peftrec") + 1 :]) == 0
        return Ended(state="ok", reason=None, exit_code=0, seconds=1.0)

    monkeypatch.setattr(peftrec.benchmark.runner, "run_child", run_child)
    path = tmp_path / "toy.yaml"
    path.write_text(SUITE.format(recipe=write_recipe(tmp_path)), encoding="utf-8")
    folders = ["--results", str(tmp_path / "results"), "--output", str(tmp_path / "runs"), "--allow-mixed"]
    return ["benchmark", str(path), *folders]


def test_what_failed_is_told_and_the_exit_code_says_so(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "toy.popularity.seed-0" in shown
    assert "2 runs, 2 to be made: 0 s with one run at a time, and 2 runs whose time nothing tells" in shown
    assert main(words) == 1
    shown, said = capsys.readouterr()
    assert f"1 runs done, 1 failed; results in {tmp_path / 'results'}" in shown
    assert "toy.item_knn.seed-0: failed: no neighbours" in shown
    assert "toy.popularity.seed-0: begins" in said
    assert main([*words, "--only", "*popularity*"]) == 0
    assert main([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "2 runs, 0 to be made" in shown
    # Baselines have no costs to measure.
    assert main([*words, "--cost"]) == 0
    assert "the costs of 0 rows were measured" in capsys.readouterr().out


def test_what_is_wrong_is_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "training.num_epochs=1"]) == 2
    assert "of a suite only data.root and encoder.cache.folder can be overridden" in capsys.readouterr().err
    assert main(["benchmark", "nothing.yaml"]) == 2
    assert "nothing.yaml: there is no such file" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "--jobs", "0"])


def test_costs_that_were_not_measured_are_told(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("peftrec.benchmark.suite_cost.measure_suite", lambda *_: (0, {"toy.lora.seed-0": "busy"}))
    assert main([*words, "--cost"]) == 1
    assert "the costs of 1 runs were not measured" in capsys.readouterr().err
