from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from peftrec.config import InputError
from peftrec.training.pace import Pace, duration
from peftrec.training.progress import TrainingProgress
from peftrec.training.progress_file import PROGRESS, read_progress, write_progress

RECIPE = {"method.kind": "lora", "encoder.backbone": "tiny", "training.metric": "ndcg@10", "training.seed": 0}


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def shown(progress: TrainingProgress, *, terminal: bool) -> io.StringIO:
    """Let a progress print into a text, which is read as a terminal's or not."""
    out = io.StringIO()
    progress.console = Console(file=out, force_terminal=terminal, width=80, highlight=False)
    return out


def content(folder: Path) -> dict[str, Any]:
    found = read_progress(folder)
    assert found is not None
    return found


def test_speed_is_that_of_the_last_minute(clock: Clock) -> None:
    pace = Pace(clock)
    assert pace.positions_a_second is None
    assert pace.seconds_left(10) is None
    for _ in range(100):
        clock.now += 1
        pace.step(1, 50)
    assert pace.positions_a_second == pytest.approx(50)
    assert pace.seconds_left(30) == pytest.approx(30)
    for _ in range(40):  # 80 seconds of slower steps: the quick ones are forgotten
        clock.now += 2
        pace.step(1, 50)
    assert pace.positions_a_second == pytest.approx(25)
    assert pace.seconds_left(30) == pytest.approx(60)


def test_evaluations_take_time_but_do_not_slow_the_steps(clock: Clock) -> None:
    pace = Pace(clock)
    clock.now += 500  # an evaluation before the first step, which does not come again
    pace.pause(recurs=False)
    for _ in range(2):
        for _ in range(5):
            clock.now += 1
            pace.step(1, 10)
        clock.now += 20
        pace.pause(recurs=True)
    assert pace.positions_a_second == pytest.approx(10)
    assert pace.seconds_left(5) == pytest.approx(25)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "0 s"), (45, "45 s"), (59.7, "1 min"), (720, "12 min"), (11_100, "3 h 05 min"), (183_600, "2 d 3 h")],
)
def test_seconds_are_said_as_people_say_them(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_the_file_says_how_far_it_is(clock: Clock, tmp_path: Path) -> None:
    with TrainingProgress(10, enabled=True, folder=tmp_path, recipe=RECIPE, clock=clock) as progress:
        assert content(tmp_path)["state"] == "running"
        progress.start({"hr@10": 0.5, "ndcg@10": 0.1})
        clock.now += 2
        progress.advance(1, loss=3.5, positions=40)
        found = content(tmp_path)
        assert (found["step"], found["num_steps"], found["epoch"], found["loss"]) == (1, 10, 0, 3.5)
        assert found["positions_a_second"] == pytest.approx(20)
        assert found["seconds_left"] == pytest.approx(18)
        assert (found["metric"], found["best_metric"], found["best_epoch"]) == ("ndcg@10", 0.1, 0)
        assert found["pid"] == os.getpid()
        assert found["began"].endswith("+00:00")
        assert found["recipe"] == {name: RECIPE[name] for name in RECIPE if name != "training.seed"}
        progress.epoch({"epoch": 1.0, "loss": 3.0, "train_seconds": 2.0, "ndcg@10": 0.3}, best=True)
        progress.epoch({"epoch": 2.0, "loss": 2.0, "train_seconds": 2.0, "ndcg@10": 0.2}, best=False)
        found = content(tmp_path)
        assert (found["epoch"], found["best_metric"], found["best_epoch"]) == (2, 0.3, 1)
    found = content(tmp_path)
    assert (found["state"], found["reason"], found["seconds_left"]) == ("trained", None, None)


def test_the_file_is_written_once_a_second_at_most(clock: Clock, tmp_path: Path) -> None:
    with TrainingProgress(100, enabled=True, folder=tmp_path, clock=clock) as progress:
        progress.advance(1, loss=1.0)
        assert content(tmp_path)["step"] == 0
        clock.now += 1.1
        progress.advance(1, loss=1.0)
        assert content(tmp_path)["step"] == 2


def test_steps_of_an_earlier_process_do_not_count_for_the_speed(clock: Clock, tmp_path: Path) -> None:
    with TrainingProgress(100, enabled=True, folder=tmp_path, recipe=RECIPE, clock=clock) as progress:
        clock.now += 30
        progress.go_on(80, epoch=4, best_metric=0.25, best_epoch=3)
        clock.now += 2
        progress.advance(1, loss=1.0, positions=10)
        found = content(tmp_path)
    assert (found["step"], found["epoch"], found["best_metric"], found["best_epoch"]) == (81, 4, 0.25, 3)
    assert found["positions_a_second"] == pytest.approx(5)
    assert found["seconds_left"] == pytest.approx(38)


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (KeyboardInterrupt(), "stopped", None),
        (SystemExit(1), "stopped", None),
        (InputError("the loss became nan in step 3\nmore"), "failed", "the loss became nan in step 3"),
        (RuntimeError("out of memory"), "failed", "RuntimeError: out of memory"),
        (RuntimeError(), "failed", "RuntimeError: "),
    ],
)
def test_the_file_says_how_it_ended(tmp_path: Path, error: BaseException, state: str, reason: str | None) -> None:
    with pytest.raises(type(error)), TrainingProgress(10, enabled=True, folder=tmp_path):
        raise error
    assert (content(tmp_path)["state"], content(tmp_path)["reason"]) == (state, reason)


def test_numbers_that_json_lacks_are_null(tmp_path: Path, clock: Clock) -> None:
    with TrainingProgress(10, enabled=True, folder=tmp_path, recipe=RECIPE, clock=clock) as progress:
        clock.now += 2
        progress.start({"ndcg@10": -math.inf})
        progress.advance(1, loss=math.nan, positions=1)
        progress.epoch({"epoch": 1.0, "loss": math.nan, "train_seconds": 1.0}, best=False)
    text = (tmp_path / PROGRESS).read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (found["loss"], found["best_metric"]) == (None, None)


def test_other_ranks_write_and_print_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress(10, enabled=False, folder=tmp_path) as progress:
        progress.epoch({"epoch": 1.0, "loss": 1.0, "train_seconds": 1.0}, best=True)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_pipe_gets_a_line_each_half_minute(clock: Clock) -> None:
    progress = TrainingProgress(200, enabled=True, recipe=RECIPE, clock=clock)
    out = shown(progress, terminal=False)
    progress.start({"ndcg@10": 0.125})
    for _ in range(100):
        clock.now += 1
        progress.advance(1, loss=2.5, positions=1500)
    lines = out.getvalue().splitlines()
    assert lines[0] == "start    ndcg@10 0.1250"
    assert len(lines) == 1 + 3
    assert lines[1] == "step 30 of 200 (15%)  loss 2.5000  1,500 positions/s  ndcg@10 0.1250  3 min left"


def test_a_terminal_gets_a_bar_that_says_the_same(clock: Clock) -> None:
    progress = TrainingProgress(200, enabled=True, recipe=RECIPE, clock=clock)
    out = shown(progress, terminal=True)
    progress.start({"ndcg@10": 0.125})
    for _ in range(60):
        clock.now += 1
        progress.advance(1, loss=2.5, positions=1500)
    assert len(out.getvalue().splitlines()) == 1, "no lines beside the bar"
    (task,) = progress._bar.tasks
    assert task.description == "loss 2.5000  1,500 positions/s  ndcg@10 0.1250"
    assert task.fields["left"] == "2 min left"
    assert (task.completed, task.total) == (60, 200)


def test_a_disk_that_is_full_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    progress = TrainingProgress(10, enabled=True, folder=tmp_path, clock=clock)
    out = shown(progress, terminal=False)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("peftrec.training.progress.write_progress", full)
    with progress:
        clock.now += 5
        progress.advance(1, loss=1.0)
    assert out.getvalue().count("No space left on device") == 1


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no mapping": lambda _: [1, 2],
    "another program's": lambda _: {"done": 3},
    "a state that is none": lambda found: found | {"state": "sleeping"},
    "a step as text": lambda found: found | {"step": "3"},
    "a step that is a truth value": lambda found: found | {"step": True},
    "no process": lambda found: {name: found[name] for name in found if name != "pid"},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_file_that_is_damaged_or_foreign_is_named(damage: Callable[[dict[str, Any]], Any], tmp_path: Path) -> None:
    assert read_progress(tmp_path) is None
    with TrainingProgress(10, enabled=True, folder=tmp_path):
        pass
    damaged = damage(content(tmp_path))
    (tmp_path / PROGRESS).write_text(json.dumps(damaged), encoding="utf-8")
    with pytest.raises(InputError, match=r"private/progress\.json: "):
        read_progress(tmp_path)


def test_half_a_file_is_named(tmp_path: Path) -> None:
    write_progress(tmp_path, {"state": "running"})
    whole = (tmp_path / PROGRESS).read_text(encoding="utf-8")
    (tmp_path / PROGRESS).write_text(whole[:10], encoding="utf-8")
    with pytest.raises(InputError, match="is damaged"):
        read_progress(tmp_path)


WRITER = """
import sys
from pathlib import Path
from peftrec.training.progress import TrainingProgress
with TrainingProgress(10**9, enabled=True, folder=Path(sys.argv[1]), recipe={"encoder.backbone": "x" * 100_000}) as it:
    print("ready", flush=True)
    while True:
        it.epoch({"epoch": 1.0, "loss": 1.0, "train_seconds": 1.0}, best=False)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    for number in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        until = time.monotonic() + 0.3 + 0.0137 * number
        while time.monotonic() < until:
            assert content(tmp_path)["pid"] == writer.pid
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        found = content(tmp_path)
        assert (found["state"], found["pid"]) == ("running", writer.pid)
        assert len(found["recipe"]["encoder.backbone"]) == 100_000
