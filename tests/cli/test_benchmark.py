from __future__ import annotations

import re
import signal
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
    assert re.search(r"2 runs, 2 to be made: 2\d s with one run at a time; at most \d\.\d GiB each", shown)
    assert main([*words, "--dry-run", "data.root=/nowhere"]) == 0
    assert "2 runs, 2 to be made, in a time that nothing tells" in capsys.readouterr().out
    assert main(words) == 1
    shown, said = capsys.readouterr()
    assert f"1 runs done, 1 failed; results in {tmp_path / 'results'}" in shown
    assert "toy.item_knn.seed-0: failed: no neighbours" in shown
    assert "toy.popularity.seed-0: begins" in said
    assert main([*words, "--only", "*popularity*"]) == 0
    assert main([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "2 runs, 0 to be made" in shown
    # Rows that were renamed leave results behind.
    stray = tmp_path / "results" / "toy.knn.seed-0.json"
    text = stray.with_name("toy.item_knn.seed-0.json").read_text(encoding="utf-8")
    stray.write_text(text.replace("toy.item_knn", "toy.knn"), encoding="utf-8")
    assert main(words) == 1
    told = "1 results are of no run of this suite, and reported all the same: toy.knn.seed-0"
    assert told in capsys.readouterr().out
    assert main([*words, "--dry-run"]) == 0
    assert told in capsys.readouterr().out
    assert main([*words, "--only", "*lora*"]) == 2
    assert "only: '*lora*' matches no run of the suite" in capsys.readouterr().err
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


@pytest.mark.parametrize("mode", [[], ["--cost"]])
def test_signals(words: list[str], monkeypatch: pytest.MonkeyPatch, mode: list[str]) -> None:
    """SIGTERM stops a suite. An ignored SIGINT stays ignored here, but not in trainings, which are stopped by it."""
    seen = []

    def look(*_: Any, **__: Any) -> Any:
        seen.extend(map(signal.getsignal, (signal.SIGTERM, signal.SIGINT)))
        raise KeyboardInterrupt

    monkeypatch.setattr("peftrec.benchmark.runner.SuiteRunner.run", look)
    monkeypatch.setattr("peftrec.benchmark.suite_cost.measure_suite", look)
    before = {sign: signal.getsignal(sign) for sign in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert main([*words, *mode]) == 130
        assert signal.getsignal(signal.SIGTERM) is before[signal.SIGTERM]
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before[signal.SIGINT])
    assert seen[0] is signal.default_int_handler
    assert callable(seen[1])
