"""From Parquet files to training windows: time and memory grow with the interactions, no faster."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "data_scale.py"


def measure(*sizes: int, kind: str = "tables") -> list[dict[str, float]]:
    command = [sys.executable, str(SCRIPT), "--kind", kind, "--sizes", *map(str, sizes)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_the_script_measures_what_it_says() -> None:
    (row,) = measure(2000)
    assert row["interactions"] == 2000
    assert 0 < row["peak_memory_gib"] < 2
    assert row["cpu_seconds"] > 0


@pytest.mark.slow
def test_five_million_interactions() -> None:
    # Processor time of all threads, so that other work on the machine does not count: 60 s on two cores.
    small, large = measure(1_250_000, 5_000_000)
    assert large["interactions"] == 5_000_000
    assert large["cpu_seconds"] < 120
    assert large["peak_memory_gib"] < 4
    assert large["cpu_seconds"] < 1.5 * 4 * small["cpu_seconds"]
    assert large["peak_memory_gib"] < 1.5 * 4 * small["peak_memory_gib"]
