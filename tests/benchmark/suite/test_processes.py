"""Suites with real processes: one that is killed, a stop, and a command that gives the same metrics again."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SUITE = """
trials: 2
datasets:
  toy: {{label: toy data, recipe: {recipe}}}
methods:
  lora:
    label: LoRA
    set: ["method={{kind: lora, rank: 2}}", training.num_epochs={epochs}]
    axes: {{optimizer.learning_rate: [1e-3, 3e-3]}}
  popularity:
    label: popularity
    set: ["baseline={{kind: popularity}}"]
groups:
  - {{datasets: [toy], methods: [lora]}}
  - {{datasets: [toy], methods: [popularity]}}
"""
FIRST = "toy.lora.learning_rate-0.001.seed-0"

pytestmark = pytest.mark.slow


@pytest.fixture
def write_suite(make_recipe: Callable[..., Any], tmp_path: Path) -> Callable[[int], Path]:
    """Writes a suite whose LoRA trains for so many epochs."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(make_recipe().to_yaml(), encoding="utf-8")

    def write(epochs: int) -> Path:
        path = tmp_path / "toy.yaml"
        path.write_text(SUITE.format(recipe=recipe, epochs=epochs), encoding="utf-8")
        return path

    return write


def start(suite: Path, tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    folders = ["--results", str(tmp_path / "results"), "--output", str(tmp_path / "runs"), "--allow-mixed"]
    return subprocess.Popen(
        [sys.executable, "-m", "peftrec", "benchmark", str(suite), *folders, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def training_of(name: str, tmp_path: Path) -> int:
    """Wait until a run has a checkpoint, and return the number of its process."""
    checkpoints = tmp_path / "runs" / f"{name}.partial" / "private" / "checkpoints"
    for _ in range(1200):
        if any(checkpoints.glob("step-*/checkpoint.json")):
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    words = (folder / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"train" in words and f"output_dir={tmp_path / 'runs' / name}".encode() in words:
                    return int(folder.name)
        time.sleep(0.1)
    pytest.fail(f"{name} made no checkpoint")


def results(tmp_path: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in (tmp_path / "results").glob("*.json")}


def test_a_killed_run_is_recorded_and_goes_on_when_asked(write_suite: Callable[[int], Path], tmp_path: Path) -> None:
    suite = write_suite(400)
    runner = start(suite, tmp_path)
    os.kill(training_of(FIRST, tmp_path), signal.SIGKILL)
    # The rest goes on.
    training_of("toy.lora.learning_rate-0.003.seed-0", tmp_path)
    found = results(tmp_path)
    assert list(found) == [FIRST]
    assert found[FIRST]["status"]["state"] == "killed"
    assert found[FIRST]["status"]["exit_code"] == -signal.SIGKILL
    runner.send_signal(signal.SIGTERM)
    _, said = runner.communicate(timeout=120)
    assert runner.returncode == 130, said
    assert "its checkpoint stays" in said
    assert list(results(tmp_path)) == [FIRST]
    assert not list((tmp_path / "results").glob("*.partial"))
    again = start(suite, tmp_path, "--retry-failed", "--only", FIRST)
    training_of(FIRST, tmp_path)
    time.sleep(1)
    again.send_signal(signal.SIGINT)
    _, said = again.communicate(timeout=120)
    assert f"{FIRST}: goes on" in said


def test_the_command_of_a_result_gives_it_again(write_suite: Callable[[int], Path], tmp_path: Path) -> None:
    _, said = (runner := start(write_suite(2), tmp_path)).communicate(timeout=300)
    assert runner.returncode == 0, said
    found = results(tmp_path)
    assert len(found) == 3
    content = found[FIRST]
    words = shlex.split(content["run"]["command"])
    assert words[:2] == ["OMP_NUM_THREADS=1", "peftrec"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "peftrec", *words[2:]], cwd=tmp_path, env=environment, check=True)
    folder = next(word for word in words if word.startswith("output_dir=")).removeprefix("output_dir=")
    metrics = json.loads((tmp_path / folder / "metrics.json").read_text(encoding="utf-8"))
    for split in ("valid", "test"):
        for metric, value in metrics[split]["model"]["metrics"].items():
            assert content[split]["metrics"][metric] == pytest.approx(value, abs=1e-6)


def test_two_runners_share_a_suite(write_suite: Callable[[int], Path], tmp_path: Path) -> None:
    suite = write_suite(2)
    both = [start(suite, tmp_path), start(suite, tmp_path)]
    said = [runner.communicate(timeout=300)[1] for runner in both]
    assert len(results(tmp_path)) == 3, said
    begun = [line for lines in said for line in lines.splitlines() if line.endswith(": begins")]
    assert len(begun) == len(set(begun)) == 3, said
