"""What a person sees while training runs."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingProgress:
    """A bar over the optimiser steps and a line for every epoch, on standard error.

    Args:
        num_steps: steps in all.
        enabled: off on all ranks but the first.
    """

    def __init__(self, num_steps: int, *, enabled: bool) -> None:
        self.console = Console(stderr=True, quiet=not enabled, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self._task = self._bar.add_task("training", total=num_steps)

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, steps: int, *, loss: float | None = None) -> None:
        """Move the bar."""
        description = "training" if loss is None else f"training, loss {loss:.4f}"
        self._bar.update(self._task, advance=steps, description=description)

    def start(self, metrics: dict[str, float]) -> None:
        """Print what the model reaches before it has learned anything."""
        self.console.print(f"start    {_listed(metrics)}")

    def epoch(self, row: dict[str, float], *, best: bool) -> None:
        """Print the line of an epoch."""
        shown = {name: value for name, value in row.items() if name not in ("epoch", "loss", "train_seconds")}
        learned = f"epoch {row['epoch']:.0f}  loss {row['loss']:.4f}  {row['train_seconds']:.0f} s"
        self.console.print(f"{learned}  {_listed(shown)}{' *' * best}")


def _listed(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
