"""How far a training has come."""

from __future__ import annotations

import dataclasses
import math
from typing import Any


@dataclasses.dataclass(kw_only=True)
class TrainingState:
    """How far a training has come: all that is neither a tensor nor drawn at random.

    Args:
        epoch: epochs finished.
        steps_in_epoch: optimiser steps made in the one after that; 0 between epochs.
        step: optimiser steps in all.
        encoder_steps: those of the language model.
        loss_sum: of the epoch that is begun, each step's loss times its weight.
        loss_weight: the weights' sum.
        epoch_seconds: of the epoch that is begun.
        seconds: of the epochs that are finished, with their validation.
        start: validation metrics before the first step; empty until they are there.
        epochs: a row for every finished epoch.
        best_epoch: whose weights are the best so far.
        best_metric: their validation metric.
        waited: evaluations since then that count against patience.
        halvings: how often chunks and kept graphs were halved, since memory ran out.
    """

    epoch: int = 0
    steps_in_epoch: int = 0
    step: int = 0
    encoder_steps: int = 0
    loss_sum: float = 0.0
    loss_weight: float = 0.0
    epoch_seconds: float = 0.0
    seconds: float = 0.0
    start: dict[str, float] = dataclasses.field(default_factory=dict)
    epochs: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best_epoch: int = 0
    best_metric: float = -math.inf
    waited: int = 0
    halvings: int = 0

    @property
    def mean_loss(self) -> float:
        """Of the epoch that is begun, over its positions, weighted as the loss weighs them."""
        return self.loss_sum / self.loss_weight if self.loss_weight else 0.0

    def step_done(self, loss: float, weight: float) -> None:
        """Count an optimiser step."""
        self.step += 1
        self.steps_in_epoch += 1
        self.loss_sum += loss * weight
        self.loss_weight += weight

    def end_epoch(self, row: dict[str, float], seconds: float) -> None:
        """Count an epoch, with its row and the seconds that it took."""
        self.epochs.append(row)
        self.epoch += 1
        self.seconds += seconds
        self.steps_in_epoch, self.loss_sum, self.loss_weight, self.epoch_seconds = 0, 0.0, 0.0, 0.0

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainingState:
        """Return what `to_json` gave.

        Raises:
            ValueError: if a key is missing or unknown.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if values.keys() != known:
            raise ValueError(f"has other keys: {', '.join(sorted(values.keys() ^ known))}")
        return cls(**values)
