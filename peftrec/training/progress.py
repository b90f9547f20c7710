"""What can be seen while training runs: a bar or lines on standard error, and a file."""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from peftrec.config import InputError
from peftrec.training.pace import Pace, duration
from peftrec.training.progress_file import write_progress

_SECONDS_BETWEEN_WRITES = 1.0
_SECONDS_BETWEEN_LINES = 30.0
# Keys of the recipe that say what is trained; the whole recipe stands in the checkpoint.
_TOLD = ("method.kind", "encoder.inputs", "encoder.backbone", "user.kind", "training.metric")


class TrainingProgress:
    """A bar over the optimiser steps and a line for every epoch, on standard error; a file for those outside.

    Where standard error is no terminal, there is a line about every half minute in place of the bar.

    Args:
        num_steps: steps in all.
        enabled: off on all ranks but the first.
        folder: keeps `private/progress.json` in it; None keeps nothing.
        recipe: flat; its `training.metric` is what is shown and kept as the best.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        num_steps: int,
        *,
        enabled: bool,
        folder: Path | None = None,
        recipe: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = Console(stderr=True, quiet=not enabled, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._bar = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self._task = self._bar.add_task("training", total=num_steps, left="")
        self._folder, self._clock = folder if enabled else None, clock
        told = {name: recipe[name] for name in _TOLD if name in recipe} if recipe else {}
        self._metric: str | None = told.get("training.metric")
        self._validated: float | None = None
        self._pace = Pace(clock)
        self._written = self._printed = clock()
        self._state: dict[str, Any] = {
            "state": "running",
            "step": 0,
            "num_steps": num_steps,
            "epoch": 0,
            "loss": None,
            "positions_a_second": None,
            "seconds_left": None,
            "metric": self._metric,
            "best_metric": None,
            "best_epoch": None,
            "reason": None,
            "pid": os.getpid(),
            "host": platform.node(),
            "began": _now(),
            "recipe": told,
        }

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if error is None:
            self._state["state"] = "trained"
        elif isinstance(error, KeyboardInterrupt | SystemExit):
            self._state["state"] = "stopped"
        else:
            self._state.update(state="failed", reason=_first_line(error))
        self._state["seconds_left"] = None
        self._write()

    def go_on(self, step: int, *, epoch: int, best_metric: float, best_epoch: int) -> None:
        """Take up where a checkpoint ends; steps of an earlier process say nothing about the speed of this one.

        Args:
            step: steps taken.
            epoch: that they end with.
            best_metric: the best validation metric so far.
            best_epoch: its epoch.
        """
        self._state.update(step=step, epoch=epoch, best_metric=best_metric, best_epoch=best_epoch)
        self._bar.update(self._task, completed=step)
        self._pace.pause(recurs=False)
        self._write()

    def advance(self, steps: int, *, loss: float | None = None, positions: int = 0) -> None:
        """Move on.

        Args:
            steps: that were made since; without a loss they were made by an earlier process.
            loss: of the last one.
            positions: that they learned from, those of all processes together.
        """
        self._state["step"] += steps
        if loss is None:
            self._pace.pause(recurs=False)
        else:
            self._pace.step(steps, positions)
            left = self._state["num_steps"] - self._state["step"]
            self._state.update(
                loss=loss,
                positions_a_second=self._pace.positions_a_second,
                seconds_left=self._pace.seconds_left(left),
            )
        self._bar.update(self._task, advance=steps, description=self._told(), left=self._told_left())
        now = self._clock()
        if not self.console.is_terminal and now - self._printed >= _SECONDS_BETWEEN_LINES:
            self._printed = now
            step, num_steps = self._state["step"], self._state["num_steps"]
            share = f"step {step:,} of {num_steps:,} ({step / num_steps:.0%})"
            self._print("  ".join(part for part in (share, self._told(), self._told_left()) if part))
        if now - self._written >= _SECONDS_BETWEEN_WRITES:
            self._write()

    def start(self, metrics: Mapping[str, float], *, best: bool = True) -> None:
        """Print what the model reaches before it has learned anything.

        Args:
            metrics: of validation.
            best: whether these weights may be the ones that are kept.
        """
        self._print(f"start    {_listed(metrics)}")
        self._measured(metrics, 0, best=best)
        self._pace.pause(recurs=False)
        self._write()

    def epoch(self, row: Mapping[str, float], *, best: bool) -> None:
        """Print the line of an epoch.

        Args:
            row: epoch, loss, seconds and, where it was evaluated, validation metrics.
            best: whether its weights are the best so far.
        """
        shown = {name: value for name, value in row.items() if name not in ("epoch", "loss", "train_seconds")}
        learned = f"epoch {row['epoch']:.0f}  loss {row['loss']:.4f}  {row['train_seconds']:.0f} s"
        self._print(f"{learned}  {_listed(shown)}{' *' * best}")
        self._state["epoch"] = int(row["epoch"])
        self._measured(shown, int(row["epoch"]), best=best)
        self._pace.pause(recurs=True)
        self._write()

    def _measured(self, metrics: Mapping[str, float], epoch: int, *, best: bool) -> None:
        if self._metric is None or self._metric not in metrics:
            return
        self._validated = metrics[self._metric]
        if best:
            self._state.update(best_metric=self._validated, best_epoch=epoch)

    def _told(self) -> str:
        """Return loss, speed and the last validation metric, as far as they are known."""
        loss, speed = self._state["loss"], self._state["positions_a_second"]
        parts = [
            "training" if loss is None else f"loss {loss:.4f}",
            "" if speed is None else f"{speed:,.0f} positions/s",
            "" if self._validated is None else f"{self._metric} {self._validated:.4f}",
        ]
        return "  ".join(part for part in parts if part)

    def _told_left(self) -> str:
        seconds = self._state["seconds_left"]
        return "" if seconds is None else f"{duration(seconds)} left"

    def _print(self, line: str) -> None:
        # Lines are not broken where nobody looks at a terminal.
        self.console.print(line, soft_wrap=not self.console.is_terminal)

    def _write(self) -> None:
        if self._folder is None:
            return
        self._written = self._clock()
        try:
            write_progress(self._folder, {**self._state, "updated": _now()})
        except OSError as error:
            # What others may read of a training is no reason to end it.
            self._print(f"warning: how far training is could not be written ({error}); it goes on")
            self._folder = None


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return lines[0] if isinstance(error, InputError) else f"{type(error).__name__}: {lines[0]}"


def _listed(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
