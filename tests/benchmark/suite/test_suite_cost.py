from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import peftrec.benchmark.suite_cost
from peftrec.benchmark.child import Ended
from peftrec.benchmark.plan import Plan, make_plan
from peftrec.benchmark.result_folder import ResultFolder
from peftrec.benchmark.runner import run_suite
from peftrec.benchmark.settings import Settings
from peftrec.benchmark.suite_cost import measure_suite

SPREAD = {"min": 1.0, "median": 2.0, "max": 3.0, "values": [1.0, 2.0, 3.0]}
COST = {
    "environment": {"measured_by": "m" * 64}, "other_work": 0.01,
    "num_steps": 3, "step_seconds": SPREAD, "steps_per_epoch": 4,
    "tokens_a_step": 10.0, "positions_a_step": 20.0, "flops_a_step": 1e6, "prepare_seconds": 0.0,
    "memory_mib": {"baseline": 1.0, "weights": 1.0, "training": 1.0, "kind": "rss"},
    "catalogue_seconds": {"unmerged": SPREAD, "merged": None},
    "query_seconds": {"list": SPREAD, "new_item_unmerged": SPREAD, "new_item_merged": None},
}  # fmt: skip


@pytest.fixture
def frozen(suite_path: Path, children: Any, tmp_path: Path) -> tuple[Plan, Settings]:
    """A suite of a baseline and a model with results: two trials of frozen text and a repeat."""
    text = suite_path.read_text(encoding="utf-8")
    text = text.replace("baseline={kind: item_knn}", "method={kind: frozen}").replace("item_knn", "frozen")
    text = text.replace("baseline.decay: [0.2, 0.9]", "optimizer.head_learning_rate: [1e-3, 1e-2]")
    suite_path.write_text(text, encoding="utf-8")
    plan = make_plan(suite_path)
    settings = Settings(results=tmp_path / "results", output=tmp_path / "runs", places=())
    assert len(run_suite(plan, settings, lambda _: None).done) == 4
    return plan, settings


def test_once_a_row_and_written_into_its_first_result(
    frozen: tuple[Plan, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, settings = frozen
    monkeypatch.setattr(peftrec.benchmark.suite_cost, "measuring_code", lambda: "m" * 64)
    places = ("data.root=/the/cache/of/data", "encoder.cache.folder=/elsewhere")
    settings = dataclasses.replace(settings, places=places)
    commands: list[list[str]] = []
    ends: list[Ended] = [Ended(state="failed", reason="the machine is busy", exit_code=1, seconds=1.0)]

    def run_child(command: Sequence[str], **_: Any) -> Ended:
        commands.append(list(command))
        if ends:
            return ends.pop()
        Path(command[-1]).write_text(json.dumps(COST), encoding="utf-8")
        return Ended(state="ok", reason=None, exit_code=0, seconds=1.0)

    monkeypatch.setattr(peftrec.benchmark.suite_cost, "run_child", run_child)
    before = ResultFolder(settings.results).read()
    num_measured, troubles = measure_suite(plan, settings, lambda _: None)
    assert num_measured == 0
    (name,) = troubles
    assert troubles[name] == "the machine is busy"
    assert ResultFolder(settings.results).read() == before
    assert measure_suite(plan, settings, lambda _: None) == (1, {})
    assert measure_suite(plan, settings, lambda _: None) == (0, {})  # it is there
    assert len(commands) == 2
    monkeypatch.setattr(peftrec.benchmark.suite_cost, "measuring_code", lambda: "n" * 64)
    assert measure_suite(plan, settings, lambda _: None) == (1, {})  # by another way of measuring
    assert len(commands) == 3
    (settings.results / "notes.json").write_text("{", encoding="utf-8")
    _, troubles = measure_suite(plan, settings, lambda _: None)
    assert list(troubles) == ["notes"]
    after = ResultFolder(settings.results).read()
    assert {key for key in after if after[key].get("cost")} == {name}
    assert {**after[name], "cost": None} == {**before[name], "cost": None}
    best = max((key for key in before if "seed-0" in key and "frozen" in key), key=_valid(before))
    assert name == best
    assert after[name]["cost"]["environment"] == {"measured_by": "m" * 64, "code": "a" * 64, "dirty": False}
    words = commands[0][commands[0].index("peftrec.benchmark.cost") + 1 :]
    assert words[0].endswith("recipe.yaml")
    assert "method={kind: frozen}" in words
    assert "data.root=/the/cache/of/data" in words
    assert not [word for word in words if word.startswith("encoder.cache")]


def test_costs_of_other_code_are_refused(frozen: tuple[Plan, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    plan, settings = frozen

    def run_child(command: Sequence[str], **_: Any) -> Ended:
        Path(command[-1]).write_text(json.dumps(COST), encoding="utf-8")
        return Ended(state="ok", reason=None, exit_code=0, seconds=1.0)

    monkeypatch.setattr(peftrec.benchmark.suite_cost, "run_child", run_child)
    monkeypatch.setattr("peftrec.benchmark.code_watch.code_of_files", lambda: "b" * 64)
    num_measured, troubles = measure_suite(plan, settings, lambda _: None)
    assert num_measured == 0
    assert next(iter(troubles.values())).startswith(f"its result is of other code (commit {'c' * 40})")
    monkeypatch.setattr("peftrec.benchmark.code_watch.is_dirty", lambda: True)
    _, troubles = measure_suite(plan, settings, lambda _: None)
    assert next(iter(troubles.values())).startswith("the code differs from its commit")
    mixed = dataclasses.replace(settings, allow_mixed=True)
    assert measure_suite(plan, mixed, lambda _: None) == (1, {})
    (cost,) = filter(None, (content.get("cost") for content in ResultFolder(settings.results).read().values()))
    assert cost["environment"] == {"measured_by": "m" * 64, "code": "b" * 64, "dirty": True}


def _valid(results: Any) -> Callable[[str], float]:
    return lambda name: float(results[name]["valid"]["metrics"]["ndcg@10"])
