"""What every loss is: a frozen config that maps tensors to a scalar."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossInputs:
    """What a loss sees of one step. Shapes: P positions, B users, C candidates, D width, S items of one user.

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
    """

    queries_PD: torch.Tensor
    candidates_CD: torch.Tensor
    targets_P: torch.Tensor
    bias_C: torch.Tensor | None
    rows_P: torch.Tensor
    seen_BS: torch.Tensor
    past_P: torch.Tensor
    log_q_C: torch.Tensor | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What all losses share.

    `candidates` says which items a step encodes for the loss: all that have training events, or the distinct items of
    the batch. Items without training events are never candidates: they could only be pushed down, and rest on their
    texts instead.

    Args:
        skip_repeats: events of an item that the user has had before are no targets; lists leave such items out.
    """

    kind: ClassVar[str]
    candidates: ClassVar[Literal["catalogue", "batch"]]

    skip_repeats: bool = True

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        """Return the mean over positions, a scalar.

        Raises:
            ValueError: if there is no position.
        """
        raise NotImplementedError
