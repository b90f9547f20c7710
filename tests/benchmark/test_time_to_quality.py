"""The script that draws quality against seconds: its sums by hand, and a run of all of it with tiny settings."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from peftrec.benchmark.speed.agreement import compare_steps
from peftrec.benchmark.speed.padded import PaddedTraining
from peftrec.benchmark.speed.quality_curve import EpochSeconds, QualityRun, rounded, summarise
from peftrec.benchmark.speed.recipe_step import measure_caching, measure_steps
from peftrec.benchmark.speed.setting import PATHS, Setting, make_workload
from peftrec.config import InputError
from peftrec.data import load_dataset
from peftrec.recipe import load_recipe

ROOT = Path(__file__).parents[2]
STEPS = {
    "seconds": {
        name: {"median": s} for name, s in (("frozen", 0.1), ("side", 0.2), ("full", 5.0), ("conventional", 50.0))
    },
    "windows": 25,
    "batch_users": 10,
    "steps_per_epoch": 3,
}


@pytest.fixture(scope="module")
def script(load_script: Callable[[Path], Any]) -> Any:
    return load_script(ROOT / "benchmarks" / "time_to_quality.py")


def run(path: str, name: str, *values: float, warmup: int = 0) -> QualityRun:
    return QualityRun(path=path, name=name, values=values, warmup_epochs=warmup)


class TestEpochSeconds:
    def test_warm_up_takes_the_frozen_step(self) -> None:
        clock = EpochSeconds(STEPS)
        assert clock.of("side", epochs=1, warmup_epochs=2) == pytest.approx(3 * 0.1)
        assert clock.of("side", epochs=5, warmup_epochs=2) == pytest.approx(3 * (2 * 0.1 + 3 * 0.2))

    def test_a_usual_step_counts_by_its_users(self) -> None:
        assert EpochSeconds(STEPS).of("conventional", epochs=2) == pytest.approx(2 * 2.5 * 50)


class TestSummary:
    RUNS = (
        run("frozen", "frozen_a", 0.01, 0.05, 0.05),
        run("side", "slow", 0.02, 0.03, 0.062, warmup=1),
        run("side", "quick", 0.02, 0.060, 0.060, warmup=1),
        run("full", "full_a", 0.03, 0.0595, 0.0600),
        run("full", "full_b", 0.0594, 0.0590, 0.0580),
    )

    def test_the_run_that_is_there_first_counts(self) -> None:
        found = summarise(self.RUNS, STEPS, {"side": 10.0})
        assert found["target_of"] == "full"
        assert found["targets"]["better"] == pytest.approx(0.99 * 0.06)
        side = found["paths"]["side"]
        assert (side["best_run"], side["best_epoch"]) == ("slow", 3)
        reached = side["reached"]["better"]
        assert (reached["run"], reached["epoch"]) == ("quick", 2)
        assert reached["seconds"] == pytest.approx(3 * (0.1 + 0.2))
        # A grid run that is there early serves the usual way as well: the ratio is against its quickest.
        assert found["paths"]["conventional"]["reached"]["better"]["run"] == "full_b"
        assert reached["ratio"] == pytest.approx(2.5 * 50 / 0.9)
        assert reached["ratio_with_caching"] == pytest.approx(2.5 * 50 / 10.9)
        assert found["paths"]["frozen"]["reached"]["better"] is None

    def test_each_path_is_compared_where_it_is_best_itself(self) -> None:
        found = summarise(self.RUNS, STEPS)["paths"]
        assert "own" not in found["conventional"]
        assert (found["frozen"]["own"]["epoch"], found["frozen"]["own_usual_epoch"]) == (2, 1)
        assert found["frozen"]["own"]["ratio"] == pytest.approx(2.5 * 50 / (2 * 3 * 0.1))
        # Full fine-tuning is nowhere as good as the best side network.
        assert (found["side"]["own"]["run"], found["side"]["own_usual_epoch"]) == ("slow", None)
        assert found["side"]["own"]["ratio_at_least"] == pytest.approx(3 * 2.5 * 50 / (3 * (0.1 + 2 * 0.2)))

    def test_where_frozen_is_better_full_need_not_be_there(self) -> None:
        runs = [*self.RUNS, run("frozen", "frozen_b", 0.05, 0.062, 0.061)]
        found = summarise(runs, STEPS)
        assert found["target_of"] == "frozen"
        assert found["paths"]["conventional"]["reached"]["better"] is None
        reached = found["paths"]["side"]["reached"]["better"]
        assert "ratio" not in reached
        assert reached["ratio_at_least"] == pytest.approx(3 * 2.5 * 50 / (3 * (0.1 + 2 * 0.2)))
        assert "ratio" in found["paths"]["side"]["reached"]["full"]

    @pytest.mark.parametrize("missing", ["full", "frozen"])
    def test_the_target_needs_both(self, missing: str) -> None:
        with pytest.raises(InputError, match=f"no run of '{missing}'"):
            summarise([one for one in self.RUNS if one.path != missing], STEPS)


def test_seconds_are_told_with_three_digits() -> None:
    assert [rounded(seconds) for seconds in (0.01234, 1.234, 12.34, 1234.5)] == ["0.0123", "1.23", "12.3", "1,234"]


@pytest.fixture(scope="module")
def suite(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    recipe = folder / "recipe.yaml"
    made = make_recipe("encoder.inputs=text+ids", "training.num_epochs=2", "training.batch_users=16")
    recipe.write_text(made.to_yaml(), encoding="utf-8")
    ways: dict[str, list[str]] = {
        "frozen": ["method={kind: frozen}"],
        "side": ["method={kind: side, width: 4}", "training.warmup_frozen_epochs=1"],
        "full": ["method={kind: full}"],
    }
    runs = {"frozen": ["f"], "side": ["s"], "full": ["u1", "u2"]}
    paths = {
        way: {
            "label": way.upper(),
            "recipe": str(recipe),
            "set": overrides,
            "runs": {name: [f"optimizer.head_learning_rate={1e-3 * n}"] for n, name in enumerate(runs[way], start=1)},
        }
        for way, overrides in ways.items()
    }
    text = yaml.safe_dump({"settings": ["loss.kind=in_batch_softmax"], "paths": paths}, sort_keys=False)
    (folder / "toy.yaml").write_text(text, encoding="utf-8")
    return folder / "toy.yaml"


@pytest.mark.slow
def test_all_of_it(script: Any, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peftrec.run import train

    trained: list[str] = []

    def run_here(words: list[str]) -> None:
        verb, recipe, *overrides = words
        assert verb == "train"
        trained.append(overrides[-1])
        train(load_recipe(recipe, overrides))

    monkeypatch.setattr(script, "run_apart", run_here)
    places = ["--output", str(tmp_path / "runs"), "--results", str(tmp_path / "json"), "--docs", str(tmp_path / "docs")]
    measured = [
        "--measure-steps",
        "--rounds",
        "1",
        "--micro-batches",
        "1,2",
        "--sample-users",
        "2",
        "--gemm-size",
        "64",
    ]
    script.main([str(suite), *places, *measured])
    steps = json.loads((tmp_path / "json" / "toy" / "steps.json").read_text())
    assert set(steps["seconds"]) == {"frozen", "side", "full", "conventional"}
    script.main([str(suite), *places, "--measure-caching", str(tmp_path / "cache")])
    caching = json.loads((tmp_path / "json" / "toy" / "caching.json").read_text())
    assert set(caching["seconds"]) == {"frozen", "side"}
    script.main([str(suite), *places])
    assert [Path(word.partition("=")[2]).name for word in trained] == ["f", "s", "u1", "u2"]
    summary = json.loads((tmp_path / "json" / "toy" / "summary.json").read_text())
    assert set(summary["paths"]) == {"frozen", "side", "full", "conventional"}
    stored = json.loads((tmp_path / "json" / "toy" / "run_s.json").read_text())
    assert stored["done"]
    assert stored["warmup_frozen_epochs"] == 1
    assert len(stored["epochs"]) == 2
    document = (tmp_path / "docs" / "toy.md").read_text()
    assert "| SIDE | `s` |" in document
    assert "| FULL | `u2` | 2, 0 |" in document
    assert document.count("| SIDE | `s` | ") == 4
    # The document comes from the JSON files alone, and what is there is not trained again.
    (tmp_path / "runs").rename(tmp_path / "gone")
    script.main([str(suite), *places, "--tables"])
    assert (tmp_path / "docs" / "toy.md").read_text() == document
    (tmp_path / "gone").rename(tmp_path / "runs")
    # A run that goes on tells its epochs so far.
    going = tmp_path / "runs" / "u2.partial"
    (tmp_path / "runs" / "u2").rename(going)
    lines = (going / "metrics.jsonl").read_text().splitlines()
    (going / "metrics.jsonl").write_text(lines[0] + "\n", encoding="utf-8")
    script.main([str(suite), *places])
    assert len(trained) == 4
    assert "| FULL | `u2` | 1, 0 (unfinished) |" in (tmp_path / "docs" / "toy.md").read_text()


def test_names_of_runs_are_told_apart(script: Any, tmp_path: Path) -> None:
    way = {"label": "x", "recipe": "x.yaml", "runs": {"same": []}}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"paths": {"a": way, "b": way}}), encoding="utf-8")
    with pytest.raises(InputError, match="'same' is there twice"):
        script.read_suite(tmp_path / "x.yaml")


def test_every_run_of_the_suite_is_a_recipe(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    runs = script.read_suite(ROOT / "benchmarks" / "time_to_quality.yaml")
    recipes = {one.name: load_recipe(Path(one.recipe), one.overrides) for one in runs}
    assert {one.path for one in runs} >= {"frozen", "side", "lora_top2", "full"}
    assert all(recipes[one.name].method.kind == one.path.split("_")[0] for one in runs)
    assert len({recipe.data for recipe in recipes.values()}) == 1


class TestMeasuring:
    def test_other_batches_cannot_be_compared(self, make_recipe: Callable[..., Any]) -> None:
        recipes = {
            "full": make_recipe("method.kind=full", "training.batch_users=8"),
            "side": make_recipe("method.kind=side", "training.batch_users=16"),
        }
        with pytest.raises(InputError, match="side: batch_users"):
            measure_steps(
                recipes,
                load_dataset(recipes["full"].data),
                reference="full",
                rounds=1,
                sizes=(1,),
                sample_users=1,
                say=lambda _: None,
            )

    def test_a_cache_that_is_there_is_refused(self, make_recipe: Callable[..., Any], tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is there already"):
            measure_caching({"frozen": make_recipe("method.kind=frozen")}, tmp_path, lambda _: None)

    def test_what_all_need_counts_for_each(self, make_recipe: Callable[..., Any], tmp_path: Path) -> None:
        recipes = {kind: make_recipe(f"method={{kind: {kind}}}") for kind in ("frozen", "side")}
        found = measure_caching(recipes, tmp_path / "cache", lambda _: None)
        assert found["mib"]["side"] > found["mib"]["frozen"] > 0
        assert found["seconds"]["side"] > found["seconds"]["frozen"] > 0


class TestPaddedIds:
    def setting(self, make_recipe: Callable[..., Any], folder: Path) -> Setting:
        path = folder / "recipe.yaml"
        path.write_text(make_recipe("method.kind=lora", "method.rank=4").to_yaml(), encoding="utf-8")
        return Setting(recipe=path, overrides=("encoder.inputs=text+ids",), history=4, rounds=1)

    def test_both_ways_compute_the_same_with_ids(self, make_recipe: Callable[..., Any], tmp_path: Path) -> None:
        setting = self.setting(make_recipe, tmp_path)
        recipe = setting.load()
        work = make_workload(load_dataset(recipe.data), recipe, users=8, number=1, seed=0)
        # Short histories are what rows of padding come from.
        assert any((batch.inputs < 0).any() for batch in work.batches)
        assert compare_steps(setting, work).agrees

    def test_ids_train(self, make_recipe: Callable[..., Any], tmp_path: Path) -> None:
        setting = self.setting(make_recipe, tmp_path)
        recipe = setting.load(*PATHS["full"])
        work = make_workload(load_dataset(recipe.data), recipe, users=8, number=1, seed=0)
        theirs = PaddedTraining("full", recipe, work.dataset)
        before = [parameter.detach().clone() for parameter in theirs.model.id_parameters()]
        theirs.timed_step(work.batches[0], 4)
        assert any((old != new).any() for old, new in zip(before, theirs.model.id_parameters(), strict=True))


def test_quality_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from peftrec.benchmark.speed.drawing import draw_quality

    lines = [
        {"path": path, "best": best, "seconds": [1.0, 2.0], "values": list(np.linspace(0.01, 0.02, 2))}
        for path, best in itertools.product(("frozen", "full"), (True, False))
    ]
    written = draw_quality(
        lines, {"frozen": "frozen text", "full": "full"}, 0.02, 0.005, tmp_path / "plots" / "quality"
    )
    assert [path.suffix for path in written] == [".svg", ".png"]
    assert "frozen text" in written[0].read_text()
    first = written[0].read_bytes()
    draw_quality(lines, {"frozen": "frozen text", "full": "full"}, 0.02, 0.005, tmp_path / "plots" / "quality")
    assert written[0].read_bytes() == first
