"""Which items a step encodes, how likely each was to be among them, and which of them are negatives.

Shapes: B users, L places, C candidates, N items of the catalogue, K picks.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.data import UserBatch
from peftrec.losses import LossConfig, log_complement, log_missed_probability


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """Negatives drawn for a batch.

    Args:
        items: distinct, ascending.
        log_missed_N: log of the probability that none of the draws finds an item, for every item.
    """

    items: NDArray[np.int64]
    log_missed_N: NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """The candidates of a step.

    Args:
        items: each once, ascending.
        log_q_C: log-probability that an item is among them; None where all items are.
        negative_C: which of them were drawn as negatives; None where all may be.
        picks_BLK: places among them of each position's own negatives; None where positions share all.
    """

    items: NDArray[np.int64]
    log_q_C: torch.Tensor | None = None
    negative_C: torch.Tensor | None = None
    picks_BLK: torch.Tensor | None = None

    def rows(self, start: int, stop: int) -> Candidates:
        """Return the same candidates for some rows of the batch."""
        return self if self.picks_BLK is None else dataclasses.replace(self, picks_BLK=self.picks_BLK[start:stop])


def find_candidates(
    batch: UserBatch,
    loss: LossConfig,
    item_counts_N: NDArray[np.int64],
    drawn: Drawn | None = None,
    random: np.random.Generator | None = None,
) -> Candidates:
    """Find all items with training events, or the distinct ones of the batch, or those and the drawn ones.

    Args:
        batch: users of the step.
        loss: says which candidates it needs.
        item_counts_N: training events of every item.
        drawn: negatives, where the loss has some drawn.
        random: of this batch; read only where positions have negatives of their own.
    """
    if loss.candidates == "catalogue":
        found = Candidates(np.flatnonzero(item_counts_N))
    else:
        assert (drawn is not None) == (loss.candidates == "sampled"), "negatives are drawn where the loss asks for them"
        events = np.concatenate([batch.inputs[batch.inputs >= 0], batch.targets[batch.targets >= 0]])
        items = np.unique(events if drawn is None else np.concatenate([events, drawn.items]))
        frequencies = torch.from_numpy(item_counts_N[items] / item_counts_N.sum())
        log_missed = log_missed_probability(frequencies, _num_events(batch))
        negative_C = None
        if drawn is not None:
            log_missed = log_missed + torch.from_numpy(drawn.log_missed_N[items])
            negative_C = torch.from_numpy(np.isin(items, drawn.items))
        found = Candidates(items, log_complement(log_missed).float(), negative_C)
    if loss.num_picks is None:
        return found
    assert random is not None, "negatives of single positions are picked at random"
    return dataclasses.replace(found, picks_BLK=_pick(found, (*batch.targets.shape, loss.num_picks), random))


def _pick(found: Candidates, shape: tuple[int, ...], random: np.random.Generator) -> torch.Tensor:
    """Pick places among the negatives, uniformly and with replacement; -1 where there are none."""
    places = np.arange(len(found.items))
    if found.negative_C is not None:
        places = np.flatnonzero(found.negative_C.numpy())
    if not len(places):
        return torch.full(shape, -1)
    return torch.from_numpy(places[random.integers(len(places), size=shape)])


def _num_events(batch: UserBatch) -> int:
    """Count the distinct events of a batch: inputs and targets are the same ones, a place apart; windows overlap."""
    past_BL = batch.past_events()
    users_BL = np.broadcast_to(batch.users[:, None], past_BL.shape)
    inputs_BL, targets_BL = batch.inputs >= 0, batch.targets >= 0
    users = np.concatenate([users_BL[inputs_BL], users_BL[targets_BL]])
    places = np.concatenate([past_BL[inputs_BL] - 1, past_BL[targets_BL]])
    return len(np.unique(users * (places.max() + 1) + places))
