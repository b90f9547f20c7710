"""Runs of two processes: as one process, and through what goes wrong."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from peftrec.publishing import load_run
from peftrec.run import train
from peftrec.training.checkpoint import read_content
from peftrec.training.checkpoint_folder import CheckpointFolder
from peftrec.training.snapshot import CHECKPOINTS

LAUNCHES = Path(__file__).with_name("launches.py")
OVERRIDES = ("loss.kind=in_batch_softmax", "training.batch_users=16", "training.processes=2")


@pytest.fixture(scope="module")
def launch(load_script: Callable[[Path], Any]) -> Any:
    return load_script(LAUNCHES).Launch


@pytest.fixture
def recipe(make_recipe: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """Write a recipe to a file."""

    def write(*overrides: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(make_recipe(*overrides, output_dir=tmp_path / "run").to_yaml(), encoding="utf-8")
        return path

    return write


def metrics_of(folder: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics


def agree(found: Any, expected: Any, tolerance: float) -> None:
    """See that two results are alike, keys and all."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            agree(found[key], expected[key], tolerance)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            agree(one, other, tolerance)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=tolerance)
    else:
        assert found == expected


ADALORA = "method={kind: adalora, initial_rank: 4, target_rank: 2, final_share: 0.5}"


@pytest.mark.parametrize(
    ("more", "own"),
    [
        pytest.param((), (), marks=pytest.mark.slow, id="whole"),
        pytest.param((), ("training.shard_backbone=true",), id="sharded"),
        pytest.param(
            (ADALORA, "training.num_epochs=8", "training.patience=1", "optimizer.warmup_steps=3"),
            (),
            marks=pytest.mark.slow,
            id="adalora",
        ),
        pytest.param(
            ("loss.kind=full_softmax", "training.num_epochs=4", "training.encoder_interval=2"),
            ("training.shard_backbone=true",),
            marks=pytest.mark.slow,
            id="catalogue",
        ),
    ],
)
def test_two_processes_come_to_what_one_does(
    more: tuple[str, ...],
    own: tuple[str, ...],
    launch: Any,
    recipe: Callable[..., Path],
    make_recipe: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """With dropout 0: the same losses, weights and metrics, and one folder that one process has written."""
    two = launch(recipe(*OVERRIDES, *more, *own), log=tmp_path / "log")
    alone = ("loss.kind=in_batch_softmax", "training.batch_users=32", *more)
    one = train(make_recipe(*alone, output_dir=tmp_path / "one"))
    assert two.wait() == 0, two.said()
    found = metrics_of(tmp_path / "run")
    assert found["training"]["processes"] == 2
    assert len(found["training"]["epochs"]) == len(one["training"]["epochs"])
    assert found["training"]["best_epoch"] == one["training"]["best_epoch"]
    assert two.said().count("saved to") == two.said().count("HR@10") == 1
    for key in ("valid", "test"):
        agree(found[key], json.loads(json.dumps(one[key])), 1e-6)
    for row, expected in zip(found["training"]["epochs"], one["training"]["epochs"], strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    tensors, wanted = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("run", "one"))
    for name, tensor in wanted.items():
        assert torch.allclose(tensors[name], tensor, rtol=0.0, atol=1e-4), name
    assert not list(tmp_path.glob("*.partial"))
    assert load_run(tmp_path / "run").model is not None  # it proves itself: vectors of probes come out again


@pytest.mark.slow
def test_sigterm_to_the_launcher_saves_the_step_and_resume_goes_on(
    launch: Any, recipe: Callable[..., Path], tmp_path: Path
) -> None:
    path = recipe(*OVERRIDES, "training.num_epochs=400")
    stopped = launch(path, log=tmp_path / "log")
    work = tmp_path / "run.partial"
    stopped.wait_for(lambda: (work / "metrics.jsonl").exists())
    stopped.process.send_signal(signal.SIGTERM)
    assert stopped.wait(60) != 0
    step = read_content(CheckpointFolder(work / CHECKPOINTS).paths()[0])["state"].step
    assert f"stopped by SIGTERM after step {step}, which is saved; --resume goes on" in stopped.said()
    epochs = len((work / "metrics.jsonl").read_text().splitlines())
    again = launch(path, f"training.num_epochs={epochs + 2}", "--resume", log=tmp_path / "again")
    # The schedule is that of the number of epochs, so that this is no longer the same run; but it goes on.
    assert again.wait() == 0, again.said()
    assert [row["epoch"] for row in metrics_of(tmp_path / "run")["training"]["epochs"]] == list(range(1, epochs + 3))


LONG = (*OVERRIDES, "training.num_epochs=150", "training.checkpoint_steps=1", "user.dropout=0.2", "method.dropout=0.1")


@pytest.mark.slow
def test_twenty_kills_lose_and_double_no_step(launch: Any, recipe: Callable[..., Path], tmp_path: Path) -> None:
    """kill -9 of one process and of all, at random moments: the run that goes on is the run that was never killed."""
    path = recipe(*LONG)
    whole = launch(path, f"output_dir={tmp_path / 'whole'}", log=tmp_path / "whole.log")
    assert whole.wait() == 0, whole.said()
    work, draw = tmp_path / "run.partial", random.Random(0)
    steps = []
    for number in range(20):
        stored = CheckpointFolder(work / CHECKPOINTS).paths()
        words = ["--resume"] if stored else ["--overwrite"]
        run = launch(path, *words, log=tmp_path / f"{number}.log")
        newest = stored[0].name if stored else ""
        if number % 5:  # one in five is killed before it has begun, or while it reads
            run.wait_for(
                lambda: any(p.name > newest for p in CheckpointFolder(work / CHECKPOINTS).paths())  # noqa: B023
            )
            time.sleep(draw.uniform(0.0, 1.5))
        else:
            time.sleep(draw.uniform(0.0, 8.0))
        workers = run.workers()
        if number % 2 or not workers:
            run.kill()
        else:
            os.kill(draw.choice(workers), signal.SIGKILL)
            assert run.wait(120) != 0
        stored = CheckpointFolder(work / CHECKPOINTS).paths()
        steps.append(read_content(stored[0])["state"].step if stored else 0)
        assert [json.loads(line)["epoch"] for line in _lines(work / "metrics.jsonl")] == list(
            range(1, len(_lines(work / "metrics.jsonl")) + 1)
        )
    assert steps == sorted(steps)
    assert len(set(steps)) > 10, steps  # the kills came between steps that were made
    last = launch(path, "--resume", log=tmp_path / "last.log")
    assert last.wait() == 0, last.said()
    found, expected = metrics_of(tmp_path / "run"), metrics_of(tmp_path / "whole")
    assert found["training"]["num_steps"] == expected["training"]["num_steps"]
    for row, wanted in zip(found["training"]["epochs"], expected["training"]["epochs"], strict=True):
        for key in wanted.keys() - {"train_seconds"}:
            assert row[key] == pytest.approx(wanted[key], abs=1e-6), row["epoch"]
    for key in ("valid", "test"):
        agree(found[key], expected[key], 1e-6)
    tensors, wanted = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("run", "whole"))
    assert max(float((tensors[name] - tensor).abs().max()) for name, tensor in wanted.items()) <= 1e-6


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_hangs_is_named(rank: int, launch: Any, recipe: Callable[..., Path], tmp_path: Path) -> None:
    path = recipe(*OVERRIDES, "training.num_epochs=400", "training.timeout_seconds=5")
    run = launch(path, log=tmp_path / "log")
    run.wait_for(lambda: (tmp_path / "run.partial" / "metrics.jsonl").exists())
    os.kill(run.workers()[rank], signal.SIGSTOP)
    assert run.wait(120) != 0
    assert f"process {rank} of 2 (counted from 0) does not answer process {1 - rank}" in run.said()
    again = launch(path, "training.num_epochs=2", "--resume", log=tmp_path / "again")
    assert again.wait() == 0, again.said()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of less than a megabyte; skipped where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(
    launch: Any, recipe: Callable[..., Path], small_disk: Path, tmp_path: Path
) -> None:
    path = recipe(*OVERRIDES, f"output_dir={small_disk / 'run'}", "training.num_epochs=12", "training.keep_every=1")
    whole = launch(path, f"output_dir={tmp_path / 'whole'}", log=tmp_path / "whole.log")
    assert whole.wait() == 0, whole.said()
    full = launch(path, log=tmp_path / "log")
    assert full.wait() != 0
    assert "cannot be written" in full.said(), full.said()
    kept = CheckpointFolder(small_disk / "run.partial" / CHECKPOINTS).paths()
    assert kept
    assert not list((small_disk / "run.partial" / CHECKPOINTS).glob("*.partial"))
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    again = launch(path, "--resume", log=tmp_path / "again")
    assert again.wait() == 0, again.said()
    agree(metrics_of(small_disk / "run")["test"], metrics_of(tmp_path / "whole")["test"], 1e-6)


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_all(launch: Any, recipe: Callable[..., Path], tmp_path: Path) -> None:
    run = launch(
        recipe(*OVERRIDES, "optimizer.head_learning_rate=1e30", "training.checkpoint_steps=1"), log=tmp_path / "log"
    )
    assert run.wait(120) != 0
    assert "the loss became nan in step 2 (epoch 1, step 2 of it, whose first users are" in run.said(), run.said()
