"""Softmax over the distinct items of a batch and drawn ones, corrected for how likely each is to be there."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import torch

from peftrec.config import Range
from peftrec.losses.cross_entropy import chunked_cross_entropy, less_log_q
from peftrec.losses.loss import LossConfig, LossInputs
from peftrec.losses.negatives import NEGATIVES, DrawnNegatives, NegativesConfig, UniformNegatives


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampledSoftmax(LossConfig):
    """Cross-entropy of the next item among the distinct items of the batch and negatives drawn for it.

    For large catalogues: items that are in few batches are among the candidates more often than in `in_batch_softmax`.

    loss = mean_p [ logsumexp_c(u_p . v_c + b_c - log Q_c) - (u_p . v_target + b_target - log Q_target) ], where Q_c is
    the probability that item c is among the candidates: 1 - (1 - q_c)^n (1 - q'_c)^m for n events of the batch drawn
    with frequencies q and m negatives with q'; mined ones see `HardNegatives`. The target is corrected as every other
    candidate is: the loss is how likely it is to be the next one, given the set. Other training items of the same user
    are left out of the sum.

    Args:
        negatives: what is drawn beside the batch's items.
        log_q: whether the correction is applied; without it what is there often, as popular items are, is pushed down.
        max_logits: logits held at a time (4 bytes each).
    Source:
        Bengio and Senecal (2008), Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic
        Language Model; Yi et al. (2019), Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations,
        eq. 4, with the inclusion probability of distinct candidates in place of the frequency; Yang et al. (2020),
        Mixed Negative Sampling for Learning Two-tower Neural Networks in Recommendations, for the batch's items beside
        uniform ones.
    """

    kind: ClassVar[str] = "sampled_softmax"

    negatives: Annotated[NegativesConfig, NEGATIVES] = dataclasses.field(default_factory=UniformNegatives)
    log_q: bool = True
    max_logits: Annotated[int, Range(ge=1)] = 8_000_000

    def __post_init__(self) -> None:
        if not isinstance(self.negatives, DrawnNegatives):
            other = {"batch": "in_batch_softmax", "catalogue": "full_softmax"}[self.negatives.kind]
            raise ValueError(f"negatives.kind: '{self.negatives.kind}' draws none; that loss is loss.kind={other}")

    @property
    def source(self) -> NegativesConfig:
        return self.negatives

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        bias_C = less_log_q(inputs) if self.log_q else inputs.bias_C
        return chunked_cross_entropy(inputs, bias_C=bias_C, mask_seen="all", max_logits=self.max_logits)
