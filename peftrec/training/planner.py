"""Plans the batches of an epoch one by one, with the random numbers that each has for itself."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.data import UserBatch
from peftrec.launch import Ranks
from peftrec.losses import DrawnNegatives, LossConfig
from peftrec.models import RecommenderModel
from peftrec.training.negative_sampler import NegativeSampler
from peftrec.training.step import StepPlan, plan_step


class Planner:
    """Makes a plan of each batch; what is drawn for it depends on (seed, epoch, number of the batch) and the model.

    Args:
        model: the recommender.
        loss: config of the loss.
        item_counts: training events of every item, shape (N,).
        seed: the run's.
        target_weights: how much a target of each item counts, shape (N,); None counts all alike.
        ranks: the processes that share each batch; None is one alone.
    """

    def __init__(
        self,
        model: RecommenderModel,
        loss: LossConfig,
        item_counts: NDArray[np.int64],
        seed: int,
        target_weights: NDArray[np.float64] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.model, self.loss, self.item_counts, self.seed = model, loss, item_counts, seed
        self.target_weights = target_weights
        self.ranks = Ranks() if ranks is None else ranks
        self._epoch, self._number = 0, 0
        source = loss.source
        self._sampler = NegativeSampler(source, model, item_counts) if isinstance(source, DrawnNegatives) else None

    def start_epoch(self, epoch: int, *, done: int = 0) -> None:
        """Count the batches of an epoch from 1 again, or go on after the first `done` of them."""
        self._epoch, self._number = epoch, done

    def tables(self) -> dict[str, torch.Tensor]:
        """Return the item vectors that batches of this epoch are still drawn by; most draw by none."""
        return {} if self._sampler is None else self._sampler.tables()

    def load_tables(self, tables: dict[str, torch.Tensor]) -> None:
        """Draw by what `tables` returned."""
        if self._sampler is not None:
            self._sampler.load_tables(tables)

    def plan(self, batch: UserBatch) -> StepPlan:
        """Return the plan of this process's users of the epoch's next batch; its candidates are those of all users."""
        self._number += 1
        return self._plan(batch, self._number, None if self.ranks.alone else self.ranks.rows(len(batch)))

    def whole(self, batch: UserBatch, number: int) -> StepPlan:
        """Return the plan of all users of a batch.

        Args:
            batch: of this epoch.
            number: of the batch in the epoch, from 1.
        """
        return self._plan(batch, number, None)

    def _plan(self, batch: UserBatch, number: int, rows: tuple[int, int] | None) -> StepPlan:
        # The number is not 0, so that this is not the stream of the windows, (seed, epoch).
        random = np.random.default_rng([self.seed, self._epoch, number])
        drawn = None if self._sampler is None else self._sampler.draw(batch, number, random)
        return plan_step(
            batch, self.loss, self.item_counts, self.model.profiles, drawn, random, self.target_weights, rows
        )
