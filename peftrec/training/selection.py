"""Which weights are the best, and when nothing better is to be expected."""

from __future__ import annotations

import math
from collections.abc import Callable

from peftrec.config import InputError
from peftrec.launch import Ranks
from peftrec.models import RecommenderModel
from peftrec.training.checkpoint import Tensors
from peftrec.training.config import TrainingConfig
from peftrec.training.out_of_memory import MemoryGuard
from peftrec.training.state import TrainingState

Evaluate = Callable[[RecommenderModel], dict[str, float]]


class Selection:
    """Keeps the weights that are best in validation, and says when patience has ended.

    Args:
        model: whose trained tensors are kept.
        config: metric, patience and frozen epochs.
        ranks: all processes judge by the metrics of the first.
        memory: says what to lower where an evaluation runs out of it.
    """

    def __init__(self, model: RecommenderModel, config: TrainingConfig, ranks: Ranks, memory: MemoryGuard) -> None:
        self.model, self.config, self.ranks, self.memory = model, config, ranks, memory
        self.best: Tensors = {}

    def judge(self, epoch: int, state: TrainingState, evaluate: Evaluate) -> dict[str, float]:
        """Evaluate, keep the weights if they are the best so far, and see whether to stop.

        Raises:
            InputError: if the metric that counts is missing, or no number.
        """
        self.model.eval()
        with self.memory.told(state.step):
            measured = evaluate(self.model)
        metrics = dict(zip(measured, self.ranks.same(list(measured.values())), strict=True))
        if self.config.metric not in metrics:
            raise InputError(
                f"training.metric: '{self.config.metric}' is not evaluated; there are {', '.join(metrics)}"
            )
        value = metrics[self.config.metric]
        if not math.isfinite(value):
            raise InputError(f"{self.config.metric} became {value} in epoch {epoch}")
        settled = all(method.settled for method in self.model.methods())
        if settled and value > state.best_metric:
            state.best_metric, state.best_epoch, state.waited = value, epoch, 0
            self.best = self.model.trained_state()
        else:
            # Before the adapter has moved, or while it must, there is nothing that stopping early could judge.
            state.waited += settled and epoch > self.config.warmup_frozen_epochs
        return metrics

    def has_ended(self, state: TrainingState) -> bool:
        """Whether patience has ended; it may be another than that of an earlier part of the run."""
        return self.config.patience is not None and state.waited >= self.config.patience
