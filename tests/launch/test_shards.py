"""Two processes find and write what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peftrec.launch import Ranks
from peftrec.run import train

PROBE = Path(__file__).with_name("shard_probe.py")


@pytest.fixture(scope="module")
def run(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(make_recipe("training.num_epochs=1", output_dir=folder))
    return folder


@pytest.fixture(scope="module")
def job(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"run": str(run), "folder": str(tmp_path_factory.mktemp("two"))}


@pytest.fixture(scope="module")
def two(job: dict[str, str]) -> list[dict[str, Any]]:
    """What each of two processes found."""
    folder = Path(job["folder"])
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*words, str(PROBE), str(folder / "job.json")],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [dict(np.load(folder / f"rank{rank}.npz")) for rank in (0, 1)]


@pytest.fixture(scope="module")
def one(job: dict[str, str], load_script: Callable[[Path], Any]) -> dict[str, Any]:
    """What one process alone finds."""
    found: dict[str, Any] = load_script(PROBE).everything(job, Ranks())
    return found


def test_both_processes_have_the_whole_evaluation_of_one(one: dict[str, Any], two: list[dict[str, Any]]) -> None:
    keys = [key for key in one if key.startswith(("products.", "rows."))]
    assert len({key.rpartition(".")[0] for key in keys}) == 8
    for key in keys:
        for found in two:
            np.testing.assert_array_equal(found[key], one[key], err_msg=key)
    assert len(one["rows.whole.ranks"]) == 60
    assert len(one["rows.one.whole.ranks"]) == 1, "one of two processes has no case"


def test_both_processes_have_the_vectors_of_one(one: dict[str, Any], two: list[dict[str, Any]]) -> None:
    for name in ("vectors.lora", "vectors.side"):
        np.testing.assert_array_equal(two[0][name], two[1][name])
        np.testing.assert_allclose(two[0][name], one[name], rtol=0, atol=1e-6 * np.abs(one[name]).max())


def test_where_one_process_finds_nan_both_stop_and_it_names_the_user(two: list[dict[str, Any]]) -> None:
    first, second = (str(found["nan"]) for found in two)
    assert first == "1 of 2 processes failed and say why; this one stops with them"
    assert "scores are NaN or infinite, first for user 'u" in second
