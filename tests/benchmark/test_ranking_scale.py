"""Ranking and lists over a large catalogue stay within a stated memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "ranking_scale.py"


def measure(items: int, users: int, *words: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(SCRIPT), "--items", str(items), "--users", str(users), *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_the_script_measures_what_it_says() -> None:
    (row,) = measure(60_000, 1000, "--part", "evaluation")
    assert row["seconds"] > 0
    # Whole rows of a batch of 512 users would be 117 MiB, and as much again for which of them stand above a target.
    assert row["peak_memory_mib"] - row["before_mib"] < 100


@pytest.mark.slow
def test_a_million_items() -> None:
    rows = measure(1_000_000, 1000)
    assert [row["part"] for row in rows] == ["evaluation", "lists"]
    for row in rows:
        assert row["peak_memory_mib"] < 1024, "the item vectors are 244"
