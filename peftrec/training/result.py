"""What training came to."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What training came to.

    Args:
        start: validation metrics before the first step.
        epochs: one row an epoch: loss, validation metrics, seconds.
        best_epoch: the epoch whose weights the model now has; 0 is the start.
        best_metric: its validation metric.
        num_steps: optimiser steps taken in all.
        train_seconds: without loading and without the final evaluation.
        peak_memory_mib: of the process.
    """

    start: dict[str, float]
    epochs: tuple[dict[str, float], ...]
    best_epoch: int
    best_metric: float
    num_steps: int
    train_seconds: float
    peak_memory_mib: float
