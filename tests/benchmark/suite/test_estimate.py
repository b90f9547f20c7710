from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftrec.benchmark.estimate import Estimator
from peftrec.benchmark.forecast import forecast, machine_flops
from peftrec.benchmark.plan import Plan, make_plan
from peftrec.benchmark.settings import Settings
from peftrec.benchmark.workload import count_data, run_operations

SUITE = """
trials: 1
datasets:
  toy: {{label: toy data, recipe: {recipe}}}
backbones:
  tiny: {{parameters: 1e6, layers: 3}}
methods:
  full: {{label: full, set: ["method={{kind: full}}", training.num_epochs=4]}}
  lora: {{label: LoRA, set: ["method={{kind: lora}}", training.num_epochs=2]}}
  lora_top1: {{label: "LoRA, top layer", set: ["method={{kind: lora, layers: 1}}", training.num_epochs=2]}}
  frozen: {{label: frozen, set: ["method={{kind: frozen}}"]}}
groups:
  - {{datasets: [toy], backbones: [tiny], methods: [full, lora, lora_top1, frozen]}}
"""


@pytest.fixture
def models(make_recipe: Callable[..., Any], tmp_path: Path) -> Plan:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(make_recipe().to_yaml(), encoding="utf-8")
    path = tmp_path / "models.yaml"
    path.write_text(SUITE.format(recipe=recipe), encoding="utf-8")
    return make_plan(path)


def result_of(run: Any, seconds: float, memory: float) -> dict[str, Any]:
    return {
        "run": {"dataset": run.row.dataset, "backbone": run.row.backbone, "method": run.row.method},
        "status": {"state": "ok", "seconds": seconds},
        "recipe": run.recipe().to_dict(),
        "training": {"peak_memory_mib": memory},
    }


def test_from_results(models: Plan) -> None:
    full, lora, top, frozen = models.runs({})
    estimator = Estimator([result_of(full, 80.0, 900.0), result_of(frozen, 5.0, 300.0)], lambda: None)
    own = estimator.estimate(full)
    assert (own.seconds, own.memory_mib, own.basis) == (80.0, 900.0, "other runs of it")
    like = estimator.estimate(lora)  # two epochs in place of four
    assert (like.seconds, like.memory_mib, like.basis) == (40.0, 900.0, "runs that train the same layers")
    unknown = estimator.estimate(top)
    assert (unknown.seconds, unknown.basis) == (None, "arithmetic")
    assert unknown.memory_mib is not None


def test_by_arithmetic(models: Plan) -> None:
    """Ten seconds to start, and what is computed at 40 % of the speed."""
    full, lora, _, frozen = models.runs({})
    estimator = Estimator([], lambda: 1e9)
    for run in models.runs({}):
        operations = run_operations(run.recipe(), run.row.size, count_data(run.recipe(), []))  # type: ignore[arg-type]
        assert operations is not None
        assert estimator.estimate(run).seconds == pytest.approx(10 + operations / 0.4e9)
    memory = [estimator.estimate(run).memory_mib for run in (full, lora)]
    assert None not in memory
    assert memory[0] - memory[1] == pytest.approx(12e6 / 2**20)  # type: ignore[operator]
    # Frozen text keeps no graphs; word embeddings are held in full by all.
    graphs = lora.row.recipe.training.graph_memory_mib
    assert estimator.estimate(frozen).memory_mib == pytest.approx(memory[1] - graphs)  # type: ignore[operator]
    size = dataclasses.replace(frozen.row.size, embeddings=2e6)
    larger = dataclasses.replace(frozen, row=dataclasses.replace(frozen.row, size=size))
    assert estimator.estimate(larger).memory_mib == pytest.approx(memory[1] - graphs + 8e6 / 2**20)  # type: ignore[operator]


def test_what_reads_no_text(models: Plan, make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    """Baselines by what fitting takes, ids by their table; no size of a backbone is needed."""
    (run, *_) = models.runs({})
    estimator = Estimator([], lambda: 1e9)

    def estimate(*overrides: str) -> Any:
        row = dataclasses.replace(
            run.row, recipe=make_recipe(*overrides), overrides=(*run.row.overrides, *overrides), size=None
        )
        return estimator.estimate(dataclasses.replace(run, row=row))

    knn = estimate("baseline={kind: item_knn}")
    assert knn.basis == "arithmetic"
    recipe = make_recipe("baseline={kind: item_knn}")
    operations = run_operations(recipe, None, count_data(recipe, []))  # type: ignore[arg-type]
    assert operations is not None
    # At the whole speed: `fit_operations` tells the matrix product that takes as long.
    assert knn.seconds == pytest.approx(10 + operations / 1e9, rel=1e-9)
    assert operations > 1e3
    fitted = recipe.baseline
    assert knn.memory_mib == pytest.approx(900 + fitted.fit_bytes(toy_dataset) / 2**20)
    ids = estimate("encoder={inputs: ids, embedding_dim: 64}", "method={kind: frozen}")
    assert ids.seconds > 10
    assert ids.memory_mib == pytest.approx(900 + 40 * 64 * 16 / 2**20)
    texts = estimate()
    assert (texts.seconds, texts.memory_mib, texts.basis) == (None, None, "unknown")


def test_data_that_are_not_there(models: Plan) -> None:
    estimator = Estimator([], lambda: 1e9, ["data.root=/nowhere"])
    assert estimator.estimate(models.runs({})[0]).seconds is None


def test_speed_is_that_of_the_threads_of_a_run(plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And the number of threads is afterwards what it was."""
    before, seen = torch.get_num_threads(), []

    def measure(_: Any) -> float:
        seen.append(torch.get_num_threads())
        return 1e9

    monkeypatch.setattr("peftrec.benchmark.speed.machine.GemmPeak.measure", measure)
    assert machine_flops(before + 1) == 1e9
    forecast(plan, Settings(results=tmp_path / "results", output=tmp_path / "runs", threads=before + 2))
    assert set(seen) == {before + 1, before + 2}
    assert torch.get_num_threads() == before


def test_a_forecast_runs_nothing(plan: Plan, children: Any, run: Callable[..., Any], tmp_path: Path) -> None:
    settings = Settings(results=tmp_path / "results", output=tmp_path / "runs")
    found = forecast(plan, settings)
    assert [(one.name, one.state) for one in found.runs] == [
        ("toy.popularity.seed-0", "missing"),
        ("toy.item_knn.decay-0.2.seed-0", "missing"),
        ("toy.item_knn.decay-0.9.seed-0", "missing"),
        ("toy.item_knn.best.seed-1", "missing"),
    ]
    assert (found.num_missing, found.num_unknown, found.troubles) == (4, 0, ())
    assert found.seconds is not None
    assert found.seconds > 40
    assert found.memory_mib is not None
    assert not children.commands
    assert not (tmp_path / "results").exists()
    run()
    found = forecast(plan, settings)
    assert {one.state for one in found.runs} == {"done"}
    assert (found.num_missing, found.seconds, found.memory_mib) == (0, 0.0, None)
    # One that is of another recipe is not made, and one of no run of the suite is named.
    path = tmp_path / "results" / "toy.popularity.seed-0.json"
    text = path.read_text(encoding="utf-8")
    path.with_name("toy.old.seed-0.json").write_text(text.replace("toy.popularity", "toy.old"), encoding="utf-8")
    path.write_text(text.replace('"window": 1.0', '"window": 0.5'), encoding="utf-8")
    found = forecast(plan, settings)
    assert [one.state for one in found.runs] == ["refused", "done", "done", "done"]
    assert (found.num_missing, found.strangers) == (0, ("toy.old.seed-0",))
    (trouble,) = found.troubles
    assert "toy.popularity.seed-0.json: is of another recipe: baseline.window (0.5, the suite has 1.0)" in trouble
