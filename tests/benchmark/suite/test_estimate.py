from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftrec.benchmark.estimate import Estimator
from peftrec.benchmark.forecast import forecast
from peftrec.benchmark.plan import Plan, make_plan
from peftrec.benchmark.settings import Settings

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


def test_by_arithmetic(models: Plan, toy_dataset: Any) -> None:
    """6 P tokens an epoch through layers that train, 2 P for the catalogue through the rest, at 40 % of the speed."""
    full, lora, top, frozen = models.runs({})
    estimator = Estimator([], lambda: 1e9)
    lengths = [1.3 * len(text.split()) + 2 for text in toy_dataset.catalogue.texts]
    events = float((toy_dataset.item_counts() * lengths).sum())
    assert estimator.estimate(full).seconds == pytest.approx(6e6 * events * 4 / 0.4e9)
    assert estimator.estimate(lora).seconds == pytest.approx(6e6 * events * 2 / 0.4e9)
    expected = (6e6 / 3 * events * 2 + 2e6 * 2 / 3 * sum(lengths)) / 0.4e9
    assert estimator.estimate(top).seconds == pytest.approx(expected)
    assert estimator.estimate(frozen).seconds == pytest.approx(2e6 * sum(lengths) / 0.4e9)
    memory = [estimator.estimate(run).memory_mib for run in (full, lora)]
    assert None not in memory
    assert memory[0] - memory[1] == pytest.approx(12e6 / 2**20)  # type: ignore[operator]
    # Frozen text keeps no graphs; word embeddings are held in full by all.
    graphs = lora.row.recipe.training.graph_memory_mib
    assert estimator.estimate(frozen).memory_mib == pytest.approx(memory[1] - graphs)  # type: ignore[operator]
    size = dataclasses.replace(frozen.row.size, embeddings=2e6)
    larger = dataclasses.replace(frozen, row=dataclasses.replace(frozen.row, size=size))
    assert estimator.estimate(larger).memory_mib == pytest.approx(memory[1] - graphs + 8e6 / 2**20)  # type: ignore[operator]


def test_data_that_are_not_there(models: Plan) -> None:
    estimator = Estimator([], lambda: 1e9, ["data.root=/nowhere"])
    assert estimator.estimate(models.runs({})[0]).seconds is None


def test_a_forecast_runs_nothing(plan: Plan, children: Any, run: Callable[..., Any], tmp_path: Path) -> None:
    settings = Settings(results=tmp_path / "results", output=tmp_path / "runs")
    found = forecast(plan, settings)
    assert [(one.name, one.state) for one in found.runs] == [
        ("toy.popularity.seed-0", "missing"),
        ("toy.item_knn.decay-0.2.seed-0", "missing"),
        ("toy.item_knn.decay-0.9.seed-0", "missing"),
        ("toy.item_knn.best.seed-1", "missing"),
    ]
    assert (found.num_missing, found.num_unknown, found.seconds, found.troubles) == (4, 4, None, ())
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
