"""What RecTools defines alike has equal values; the script that compares, and the comparison itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "benchmarks" / "rectools_agreement.py"


@pytest.fixture(scope="module")
def script(load_script: Callable[[Path], Any]) -> Any:
    return load_script(SCRIPT)


def test_what_is_compared_has_hits_ties_and_gaps(script: ModuleType) -> None:
    data = script.make_data(0, 50)
    for key, values in script.make_data(0, 50).items():
        np.testing.assert_array_equal(values, data[key])
    assert (data["lists"] == -1).any()
    counts = np.bincount(data["event_items"], minlength=script.NUM_ITEMS)
    assert (counts == 0).any(), "no item is unheard of"
    assert len(np.unique(counts)) < script.NUM_ITEMS, "no items are equally popular"
    pairs = np.stack([data["event_users"], data["event_items"]])
    assert np.unique(pairs, axis=1).shape[1] < pairs.shape[1], "no event is there twice"
    found = script.ours(data)
    for name in ("hr", "serendipity", "map"):
        assert 0 < found[f"{name}@5"].mean() < 1


def test_a_difference_is_seen(script: ModuleType) -> None:
    ours = {"a": np.array([0.5, np.nan]), "b": np.array([1.0, 2.0])}
    rows = script.compare(ours, {"a": np.array([0.5, 0.0]), "b": np.array([1.0, 2.1])})
    assert rows[0]["difference"] == 0
    assert rows[1]["difference"] == pytest.approx(0.1)
    with pytest.raises(ValueError, match="only one of both has b"):
        script.compare(ours, {"a": np.array([0.5, 0.0])})


@pytest.mark.slow
def test_rectools_agrees(script: ModuleType, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, SCRIPT, "--seed", "1", "--users", "120", "--json", tmp_path / "rows.json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == script.CANNOT_INSTALL:
        pytest.skip(f"the package index is not reachable, or lacks {script.REQUIREMENT}: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert len(rows) == 33
    assert all(row["difference"] <= script.TOLERANCE for row in rows)
