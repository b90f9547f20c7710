"""The script that tunes baselines, with tiny grids."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from peftrec.run import train

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "baselines.py"


@pytest.fixture(scope="module")
def script(load_script: Callable[[Path], Any]) -> Any:
    return load_script(SCRIPT)


@pytest.fixture
def words(make_recipe: Callable[..., Any], tmp_path: Path) -> list[str]:
    (tmp_path / "toy.yaml").write_text(make_recipe("baseline.kind=content_knn").to_yaml(), encoding="utf-8")
    suite = {
        "datasets": {"toy": {"label": "Toy", "recipe": str(tmp_path / "toy.yaml"), "set": []}},
        "baselines": {
            "popularity": {"fit": {"window": [1.0, 0.2]}},
            "content_knn": {"fit": {"whitening_power": [0.25]}, "first": {"decay": [0.7]}},
            "item_knn": {
                "fit": {"num_neighbours": [1, 20], "shrinkage": [0.0]},
                "first": {"decay": [1.0, 0.5]},
                "history": {"decay": [0.5, 0.2]},
                "instead": {"elsewhere": {"fit": {"num_neighbours": [3]}}},
            },
        },
    }
    (tmp_path / "tuned.yaml").write_text(yaml.safe_dump(suite, sort_keys=False), encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "tuned.md").write_text("before\n<!-- tuned -->\nold\n<!-- /tuned -->\nafter\n")
    places = ["--results", str(tmp_path / "results"), "--docs", str(tmp_path / "docs")]
    return [str(tmp_path / "tuned.yaml"), *places]


def test_the_best_on_validation_is_measured_on_test(
    script: Any, words: list[str], make_recipe: Callable[..., Any], tmp_path: Path
) -> None:
    script.main(words)
    found = json.loads((tmp_path / "results" / "tuned" / "toy.json").read_text())["baselines"]
    assert {kind: one["num_settings"] for kind, one in found.items()} == {
        "popularity": 2, "content_knn": 1, "item_knn": 5,
    }  # fmt: skip
    knn = found["item_knn"]
    assert knn["best"]["valid"]["metrics"]["ndcg@10"] == max(e["valid"]["ndcg@10"] for e in knn["tried"])
    as_set = [entry for entry in knn["tried"] if entry["settings"]["decay"] == 1.0]
    assert len(as_set) == 2
    assert knn["best_as_set"]["valid"]["metrics"]["ndcg@10"] == max(e["valid"]["ndcg@10"] for e in as_set)
    assert knn["best"]["settings"]["num_neighbours"] == 20
    assert "best_as_set" not in found["popularity"]
    # What a run of those settings reaches is what was written.
    settings = ", ".join(f"{key}: {value}" for key, value in knn["best"]["settings"].items())
    run = train(make_recipe(f"baseline={{kind: item_knn, {settings}}}", output_dir=tmp_path / "run"))
    for split in ("valid", "test"):
        assert run[split]["model"] == knn["best"][split]
    page = (tmp_path / "docs" / "tuned.md").read_text()
    assert page.startswith("before\n<!-- tuned -->\n### Toy\n\n| baseline |")
    assert page.endswith("|\n<!-- /tuned -->\nafter\n")
    assert "old" not in page


def test_what_was_not_asked_for_stays(script: Any, words: list[str], tmp_path: Path) -> None:
    script.main([*words, "--baselines", "popularity"])
    path = tmp_path / "results" / "tuned" / "toy.json"
    first = json.loads(path.read_text())["baselines"]
    assert list(first) == ["popularity"]
    script.main([*words, "--baselines", "item_knn"])
    assert json.loads(path.read_text())["baselines"]["popularity"] == first["popularity"]
    written = path.read_text()
    script.main([*words, "--tables"])
    assert path.read_text() == written


def test_names_that_are_not_there_are_refused(script: Any, words: list[str]) -> None:
    with pytest.raises(SystemExit, match="there is no baseline 'ease'; there are popularity, content_knn, item_knn"):
        script.main([*words, "--baselines", "ease"])
    with pytest.raises(SystemExit, match="there is no data set 'beauty'; there are toy"):
        script.main([*words, "--datasets", "beauty"])


def test_the_suite_that_is_there_can_be_read(script: Any) -> None:
    """Every setting of every grid is one that its baseline takes."""
    from peftrec.baselines import BASELINES
    from peftrec.config import parse_section

    suite = yaml.safe_load(SCRIPT.with_suffix(".yaml").read_text(encoding="utf-8"))
    assert set(suite["baselines"]) == set(BASELINES.kinds())
    for kind, plan in suite["baselines"].items():
        for grids in (plan, *(plan | instead for instead in plan.get("instead", {}).values())):
            for fit in script.combinations(grids["fit"]):
                for way in (
                    *script.combinations(grids.get("first", {})),
                    *script.combinations(grids.get("history", {})),
                ):
                    parse_section(BASELINES.load(kind), fit | way, path=kind)
        assert set(plan.get("instead", {})) <= set(suite["datasets"])
