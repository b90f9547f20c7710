"""The script that measures re-ranking: what it proposes, and that it measures, draws and tells what it measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peftrec.run import train

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "reranking_curve.py"


@pytest.fixture(scope="module")
def script(load_script: Callable[[Path], Any]) -> Any:
    return load_script(SCRIPT)


def result_of(**losses: list[float]) -> dict[str, Any]:
    rows = [{"step": "none", "strength": 0, "loss": 0.0}]
    for step, told in losses.items():
        rows += [{"step": step, "strength": (at + 1) / 10, "loss": loss} for at, loss in enumerate(told)]
    return {"splits": {"valid": {"rows": rows}, "test": {"rows": []}}}


def test_the_largest_but_one_is_proposed_that_costs_little_everywhere(script: Any) -> None:
    one = result_of(mmr=[0.0, 0.01, 0.02, 0.03, 0.0], cap=[0.0, 0.01, 0.02, 0.02, 0.02], exposure=[0.01, 0.03, 0, 0, 0])
    other = result_of(mmr=[0.0, 0.0, 0.0, 0.0, 0.0], cap=[0.0, 0.0, 0.021, 0.0, 0.0])
    # What lies behind a strength that costs too much does not count; a step that one set lacks is chosen on the other.
    assert script.propose([one, other]) == {"mmr": 0.2, "cap": 0.1, "exposure": 0.1}
    assert script.propose([result_of(mmr=[0.03, 0.0])]) == {}


@pytest.mark.slow
def test_a_run_is_measured_drawn_and_told(
    script: Any, make_recipe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(make_recipe("training.num_epochs=1", "method.kind=frozen", output_dir=tmp_path / "run"))
    monkeypatch.setattr(script, "STRENGTHS", (0.0, 0.5))
    monkeypatch.setattr(script, "DOCUMENT", tmp_path / "page.md")
    monkeypatch.setattr(script, "PLOTS", tmp_path)
    results = tmp_path / "results"
    script.main(
        [
            "--results",
            str(results),
            "measure",
            str(tmp_path / "run"),
            "--name",
            "toy",
            "--what",
            "Toys",
            "--field",
            "category",
        ]
    )
    measured = json.loads((results / "toy.json").read_text(encoding="utf-8"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    for split in ("valid", "test"):
        rows = measured["splits"][split]["rows"]
        none = rows[0]
        # Without a step the lists are those that the run was evaluated by.
        np.testing.assert_allclose(none["ndcg"], metrics[split]["model"]["metrics"]["ndcg@10"], atol=1e-5)
        told = {(row["step"], row["strength"]): row for row in rows}
        for step in ("mmr", "mmr by field", "calibration"):
            still = told[step, 0.0]
            assert {key: still[key] for key in still if key not in ("step", "strength")} == {
                key: none[key] for key in none if key not in ("step", "strength")
            }
        assert told["mmr by field", 0.5]["category_diversity"] > none["category_diversity"]
        assert told["calibration", 0.5]["calibration"] <= none["calibration"]
        assert told["exposure", 0.7]["tail_exposure"] >= 0.7 - 1e-6
    (tmp_path / "page.md").write_text(f"# Page\n\n{script.BEGIN}\nold\n{script.END}\n\nafter\n", encoding="utf-8")
    script.main(["--results", str(results), "draw"])
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "### Toys" in page
    assert "old" not in page
    assert page.endswith("\nafter\n")
    assert (tmp_path / "reranking_toy.png").stat().st_size > 10_000
