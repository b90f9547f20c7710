"""What every loss is: a frozen config that maps tensors to a scalar."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from peftrec.losses.negatives import Candidates, NegativesConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossInputs:
    """What a loss sees of one step. Shapes: P positions, B users, C candidates, D width, S items of one user, K picks.

    Args:
        queries_PD: user vectors at the positions that have a next item, times the scorer's scale.
        candidates_CD: item vectors of all candidates, from one state of the encoder.
        targets_P: place of the next item among the candidates.
        bias_C: added to every logit of a candidate, or None.
        rows_P: which user of the batch a position belongs to.
        seen_BS: places among the candidates of all training items of each user in order of time, -1 for padding and for
            those that are no candidates.
        past_P: how many of them lie before the target.
        log_q_C: log of the probability that an item is among the candidates; None where all items are.
        negative_C: which candidates were drawn as negatives; None where all may be.
        picks_PK: places among the candidates of each position's own negatives, -1 for none; None where all candidates
            that may be negatives are.
        ratings_P: how the next item was rated; None where the data have no ratings.
        num_items: items that have training events.
        weights_P: how much each position counts, not all 0; None counts all alike.
    """

    queries_PD: torch.Tensor
    candidates_CD: torch.Tensor
    targets_P: torch.Tensor
    bias_C: torch.Tensor | None
    rows_P: torch.Tensor
    seen_BS: torch.Tensor
    past_P: torch.Tensor
    log_q_C: torch.Tensor | None = None
    negative_C: torch.Tensor | None = None
    picks_PK: torch.Tensor | None = None
    ratings_P: torch.Tensor | None = None
    num_items: int | None = None
    weights_P: torch.Tensor | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What all losses share.

    `candidates` says which items a step encodes for the loss, each once: all that have training events, the distinct
    items of the batch, or those and drawn ones. Items without training events are never candidates: they could only be
    pushed down, and rest on their texts instead.

    `learns_margin` says that every logit has a learned number taken off, the same for all items.

    Args:
        skip_repeats: events of an item that the user has had before are no targets; lists leave such items out.
    """

    kind: ClassVar[str]
    needs_ratings: ClassVar[bool] = False
    learns_margin: ClassVar[bool] = False

    skip_repeats: bool = True

    @property
    def source(self) -> NegativesConfig:
        """Where the candidates of a step come from."""
        raise NotImplementedError

    @property
    def candidates(self) -> Candidates:
        """Which items a step encodes for the loss."""
        return self.source.candidates

    @property
    def num_picks(self) -> int | None:
        """How many negatives are picked for each position for itself; None where positions share them all."""
        return None

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        """Return the mean over positions, a scalar: weighted by `weights_P` where there are weights.

        mean_p x_p = sum_p w_p x_p / sum_p w_p, as if a position stood there w_p times.

        Raises:
            ValueError: if there is no position.
        """
        raise NotImplementedError


def check_positions(inputs: LossInputs) -> None:
    """See that there is something to take the mean of.

    Raises:
        ValueError: if there is no position.
    """
    if len(inputs.queries_PD) == 0:
        raise ValueError("a step without any position that has a next item has no loss")


def mean_over_positions(values_P: torch.Tensor, weights_P: torch.Tensor | None) -> torch.Tensor:
    """Return the mean, weighted where there are weights, a scalar.

    Args:
        values_P: one a position.
        weights_P: not all 0; None counts all alike.
    """
    return values_P.mean() if weights_P is None else (values_P * weights_P).sum() / weights_P.sum()
