"""Draws the negatives of a batch: by frequency, and from what the model itself scores high.

Shapes: B users, Q users in a chunk, L places, N items of the catalogue, K items of one user.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.data import UserBatch
from peftrec.losses import DrawnNegatives, HardNegatives, log_missed_probability
from peftrec.models import RecommenderModel
from peftrec.training.candidates import Drawn

_MAX_SCORES = 8_000_000


class NegativeSampler:
    """Draws negatives as their source says; what is drawn depends on the generator and the model alone.

    Args:
        source: from the loss.
        model: scores items where hard negatives are mined.
        item_counts_N: training events of every item; those without any are never drawn.
    """

    def __init__(self, source: DrawnNegatives, model: RecommenderModel, item_counts_N: NDArray[np.int64]) -> None:
        self.source = source
        frequencies_N = source.frequencies(item_counts_N)
        self._running_N = np.cumsum(frequencies_N)
        self._log_missed_N = log_missed_probability(torch.from_numpy(frequencies_N), source.num).numpy()
        self._miner = _HardMiner(source, model, item_counts_N > 0) if isinstance(source, HardNegatives) else None

    def draw(self, batch: UserBatch, number: int, random: np.random.Generator) -> Drawn:
        """Return the negatives of a batch.

        Args:
            batch: users of the step.
            number: of the batch in its epoch, from 1.
            random: of this batch.
        """
        # Scaled, so that the last of the sums, which is 1 only nearly, is never passed.
        points = random.random(self.source.num) * self._running_N[-1]
        items, log_missed_N = np.searchsorted(self._running_N, points, side="right"), self._log_missed_N
        if self._miner is not None:
            mined, missed_N = self._miner.mine(batch, number, random)
            items, log_missed_N = np.concatenate([items, mined]), log_missed_N + missed_N
        return Drawn(np.unique(items), log_missed_N)

    def tables(self) -> dict[str, torch.Tensor]:
        """Return the table that hard negatives are mined from until it is made anew; nothing where there is none."""
        table = None if self._miner is None else self._miner.table
        return {} if table is None else {"vectors": table[0].contiguous(), "bias": table[1].contiguous()}

    def load_tables(self, tables: dict[str, torch.Tensor]) -> None:
        """Mine from what `tables` returned."""
        if self._miner is not None and tables:
            device = self._miner.model.device
            self._miner.table = (tables["vectors"].to(device), tables["bias"].to(device))


class _HardMiner:
    """Mines what a table of the catalogue scores high for the users of a batch; see `HardNegatives`."""

    def __init__(self, source: HardNegatives, model: RecommenderModel, trained_N: NDArray[np.bool_]) -> None:
        self.source, self.model = source, model
        self._untrained_N = torch.from_numpy(~trained_N)
        self._depth = min(source.depth, int(trained_N.sum()))
        self.table: tuple[torch.Tensor, torch.Tensor] | None = None

    def mine(
        self, batch: UserBatch, number: int, random: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the items mined for a batch, and the log-probability of every item not to be mined for it."""
        interval = self.source.refresh_batches
        if self.table is None or number == 1 or (interval is not None and (number - 1) % interval == 0):
            self.table = self.model.encode_catalogue()
        items_BK, valid_BK = self._highest(batch)
        # The lowest of random keys; those of what is no item are above all others.
        order_BK = np.argsort(np.where(valid_BK, random.random(valid_BK.shape), 2.0), axis=1)[:, : self.source.per_user]
        mined_BK, found_BK = (np.take_along_axis(array, order_BK, axis=1) for array in (items_BK, valid_BK))
        share_B1 = np.minimum(1.0, self.source.per_user / np.maximum(1, valid_BK.sum(axis=1, keepdims=True)))
        missed_BK = log_missed_probability(torch.from_numpy(np.broadcast_to(share_B1, valid_BK.shape).copy()), 1)
        log_missed_N = np.bincount(items_BK[valid_BK], missed_BK.numpy()[valid_BK], len(self._untrained_N))
        return mined_BK[found_BK], log_missed_N.astype(np.float64)

    def _highest(self, batch: UserBatch) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the items of the highest scores of each user, and which of them are any: those not seen."""
        assert self.table is not None
        vectors_ND, bias_N = self.table
        device = self.model.device
        chunk = max(1, _MAX_SCORES // len(bias_N))
        items, valid = [], []
        was_training = self.model.training
        self.model.eval()  # no dropout, which would draw from the stream of training too
        for start in range(0, len(batch), chunk):
            part = slice(start, start + chunk)
            scores_QN = self.model.scores(
                torch.from_numpy(batch.inputs[part]).to(device),
                vectors_ND,
                bias_N,
                users_B=batch.users[part],
                events_BL=None if batch.events is None else batch.events[part],
                times_BL=None if batch.times is None else batch.times[part],
            )
            scores_QN[:, self._untrained_N.to(device)] = -torch.inf
            rows, seen = _seen(batch, part)
            scores_QN[torch.from_numpy(rows).to(device), torch.from_numpy(seen).to(device)] = -torch.inf
            highest_QK = scores_QN.topk(self._depth)
            items.append(highest_QK.indices.cpu().numpy())
            valid.append(torch.isfinite(highest_QK.values).cpu().numpy())
        self.model.train(was_training)
        return np.concatenate(items), np.concatenate(valid)


def _seen(batch: UserBatch, part: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows, counted from the first of the part, and the training items of their users."""
    offsets = batch.seen_offsets[part.start : part.stop + 1]
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return rows, batch.seen_items[offsets[0] : offsets[-1]]
