"""Softmax over the distinct items of a batch, corrected for how likely each is to be there."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import torch

from peftrec.config import Range
from peftrec.losses.cross_entropy import chunked_cross_entropy, less_log_q
from peftrec.losses.loss import LossConfig, LossInputs
from peftrec.losses.negatives import BatchNegatives


@dataclasses.dataclass(frozen=True, kw_only=True)
class InBatchSoftmax(LossConfig):
    """Cross-entropy of the next item among the distinct items of the batch.

    For catalogues too large to encode in each step.

    loss = mean_p [ logsumexp_c(u_p . v_c + b_c - log Q_c) - (u_p . v_target + b_target - log Q_target) ], where Q_c is
    the probability that item c is among the candidates: 1 - (1 - q_c)^n for n events drawn with frequencies q. The
    target is corrected as every other candidate is. Other training items of the same user are left out of the sum.

    Args:
        log_q: whether the correction is applied; without it popular items are pushed down.
        max_logits: logits held at a time (4 bytes each).
    Source:
        Yi et al. (2019), Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations, eq. 4; the
        inclusion probability of distinct candidates in place of the frequency.
    """

    kind: ClassVar[str] = "in_batch_softmax"

    log_q: bool = True
    max_logits: Annotated[int, Range(ge=1)] = 8_000_000

    @property
    def source(self) -> BatchNegatives:
        return BatchNegatives()

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        bias_C = less_log_q(inputs) if self.log_q else inputs.bias_C
        return chunked_cross_entropy(inputs, bias_C=bias_C, mask_seen="all", max_logits=self.max_logits)
