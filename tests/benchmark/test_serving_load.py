"""The script that measures the service: one short scenario, its document, and the table of documents."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftrec.run import train

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serving_load.py"


@pytest.fixture(scope="module")
def script(load_script: Callable[[Path], Any]) -> Any:
    return load_script(SCRIPT)


@pytest.fixture(scope="module")
def measured(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("load")
    train(make_recipe("method={kind: frozen}", output_dir=folder / "run"))
    page = folder / "page.md"
    page.write_text("before\n<!-- load -->\nold\n<!-- load -->\nafter\n", encoding="utf-8")
    short = ["--scenario", "lists_20k", "--seconds", "0.5", "--items", "300"]
    told = ["--results", str(folder / "results"), "--document", str(page)]
    subprocess.run([sys.executable, str(SCRIPT), str(folder / "run"), *short, *told], check=True, timeout=120)
    return folder / "results", page


def test_a_scenario_is_measured(measured: tuple[Path, Path]) -> None:
    document = json.loads((measured[0] / "lists_20k.json").read_text())
    assert (document["requests"], document["items"], document["errors"]) == (25, 300, {})
    assert 0 < document["p50_ms"] <= document["p99_ms"] <= document["max_ms"]
    assert document["environment"]["machine"]["cores"] > 0


def test_the_table_stands_between_the_marks(measured: tuple[Path, Path]) -> None:
    text = measured[1].read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| lists, exact | 300 | 50 | 0.5 |" in text


def test_what_cannot_be_told_is_refused(script: Any, measured: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="must hold the mark"):
        script.write_table(page, measured[0])
    with pytest.raises(SystemExit, match="holds no result of any scenario"):
        script.write_table(measured[1], tmp_path)
    assert page.read_text() == "no marks"
