"""A small suite of baselines on the toy data, and its runs made in this process instead of others."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import peftrec.benchmark.code_watch
import peftrec.benchmark.runner
from peftrec.benchmark.child import Ended
from peftrec.benchmark.plan import Plan, make_plan
from peftrec.benchmark.runner import Progress, run_suite
from peftrec.benchmark.settings import Settings
from peftrec.cli import main

SUITE = """
trials: 2
datasets:
  toy: {{label: toy data, recipe: {recipe}}}
methods:
  item_knn:
    label: item-kNN
    set: ["baseline={{kind: item_knn}}"]
    axes: {{baseline.decay: [0.2, 0.9]}}
  popularity:
    label: popularity
    set: ["baseline={{kind: popularity}}"]
groups:
  - {{datasets: [toy], methods: [popularity]}}
  - {{datasets: [toy], methods: [item_knn], seeds: [0, 1]}}
"""


@pytest.fixture
def suite_path(make_recipe: Callable[..., Any], tmp_path: Path) -> Path:
    """The suite as a file."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(make_recipe().to_yaml(), encoding="utf-8")
    path = tmp_path / "toy.yaml"
    path.write_text(SUITE.format(recipe=recipe), encoding="utf-8")
    return path


@pytest.fixture
def plan(suite_path: Path) -> Plan:
    """The suite, read."""
    return make_plan(suite_path)


class Children:
    """Stands for the processes: commands run in this one, and `ends` says which of them end otherwise, by name."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.commit = "c" * 40
        self.ends: dict[str, Ended] = {}
        self.before: Callable[[], None] = lambda: None

    def __call__(self, command: Sequence[str], *, log: Path, **_: Any) -> Ended:
        self.before()
        words = list(command[command.index("peftrec") + 1 :])
        self.commands.append(words)
        began = time.monotonic()
        forced = self.ends.get(log.stem)
        if forced is not None:
            return forced
        code = main(words)
        state = "ok" if code == 0 else "failed"
        return Ended(state=state, reason=None, exit_code=code, seconds=time.monotonic() - began)  # type: ignore[arg-type]

    def trained(self) -> list[str]:
        """Return the names of the runs that were trained, in order."""
        folders = [words[-1].removeprefix("output_dir=") for words in self.commands if words[0] == "train"]
        return [Path(folder).name for folder in folders]


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Children:
    """What stands for the processes of runs; the code counts as committed, which while working it need not be."""
    found = Children()
    monkeypatch.setattr(peftrec.benchmark.runner, "run_child", found)
    monkeypatch.setattr("peftrec.publishing.environment._commit", lambda: found.commit)
    monkeypatch.setattr(peftrec.benchmark.code_watch, "is_dirty", lambda: False)
    monkeypatch.setattr(peftrec.benchmark.code_watch, "code_of_commit", lambda _: "a" * 64)
    monkeypatch.setattr(peftrec.benchmark.code_watch, "code_of_files", lambda: "a" * 64)
    return found


@pytest.fixture
def run(plan: Plan, tmp_path: Path) -> Callable[..., Progress]:
    """Runs the suite into folders of the test; what it says is added to `run.lines`."""

    def run(**settings: Any) -> Progress:
        own = {"results": tmp_path / "results", "output": tmp_path / "runs"} | settings
        return run_suite(plan, Settings(**own), lines.append)

    lines: list[str] = []
    run.lines = lines  # type: ignore[attr-defined]
    return run


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """Reads the results that `run` has written, by name."""

    def read() -> dict[str, Any]:
        paths = sorted((tmp_path / "results").glob("*.json"))
        return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}

    return read
