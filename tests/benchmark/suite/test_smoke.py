"""The committed suites: that of minutes run and reported, and that for GPUs listed where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peftrec.benchmark.forecast import forecast
from peftrec.benchmark.plan import make_plan
from peftrec.benchmark.settings import Settings
from peftrec.cli import main

REPOSITORY = Path(__file__).parents[3]
SUITES = Path("benchmarks") / "suites"


@pytest.mark.slow
def test_the_suite_of_minutes(
    shared_data: Path, minilm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    if not (shared_data / "ml-100k").is_dir():
        pytest.skip("MovieLens 100K is not among the data sets")
    monkeypatch.chdir(REPOSITORY)
    words = ["benchmark", str(SUITES / "smoke.yaml"), f"data.root={shared_data}", "--allow-mixed"]
    folders = ["--results", str(tmp_path / "results"), "--output", str(tmp_path / "runs")]
    assert main([*words, *folders, "--jobs", "2"]) == 0
    results = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "results").glob("*.json")]
    assert len(results) == 10
    assert {result["status"]["state"] for result in results} == {"ok"}
    assert all(str(shared_data) not in json.dumps(result) for result in results)
    assert main(["report", str(tmp_path / "results"), "--output", str(tmp_path / "report")]) == 0
    text = (tmp_path / "report" / "REPORT.md").read_text(encoding="utf-8")
    for label in ("full fine-tuning", "LoRA, top 2 layers", "frozen", "popularity", "content\\_knn"):
        assert f"| {label}" in text
    # Nothing is left to do.
    capsys.readouterr()
    assert main([*words, *folders, "--dry-run"]) == 0
    assert "10 runs, 0 to be made" in capsys.readouterr().out


def test_the_suite_for_gpus_is_listed_without_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No backbone is opened: estimated are 7 billion weights in 4 bits, word embeddings, and what graphs may hold."""
    monkeypatch.chdir(REPOSITORY)
    settings = Settings(results=tmp_path / "results", output=tmp_path / "runs", places=("data.root=/nowhere",))
    found = forecast(make_plan(SUITES / "gpu.yaml"), settings)
    assert len(found.runs) == found.num_missing == 21
    assert found.num_unknown == 21
    assert found.memory_mib == pytest.approx(900 + (6.95e9 * 0.56 + 0.62e9 * 4) / 2**20 + 6144)
