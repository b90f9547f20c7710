"""Binary cross-entropy of the next item against negatives."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch.nn import functional as F

from peftrec.losses.contrast import ContrastLoss, Formula
from peftrec.losses.loss import LossInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bce(ContrastLoss):
    """Each logit says by itself whether an item comes next: yes for the target, no for each negative.

    loss = mean_p -1 / (|S_p| + 1) [ log sigmoid(s_target) + sum_(n in S_p) log(1 - sigmoid(s_n)) ]; see `ContrastLoss`
    for S_p. All logits have a learned margin taken off (logit = scale * (u . v - margin) + b): without it, dot products
    that are all positive, as cosines of texts mostly are, would say yes to everything. It starts where the loss of the
    first batch is least.

    Source:
        Kang and McAuley (2018), Self-Attentive Sequential Recommendation, sec. III-F, with one negative a position
        (half of theirs, a sum over both); the mean over several negatives as in Petrov and Macdonald (2023);
        the margin as in Zhai et al. (2023), Sigmoid Loss for Language Image Pre-Training.
    """

    kind: ClassVar[str] = "bce"
    learns_margin: ClassVar[bool] = True

    def formula(self, inputs: LossInputs) -> Formula:
        del inputs
        return binary_cross_entropy


def binary_cross_entropy(
    target_Q1: torch.Tensor,
    logits_QC: torch.Tensor,
    weights_QC: torch.Tensor,
    exponent_Q: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """Return -[ log sigmoid(s_target)^exponent + sum_n w_n log(1 - sigmoid(s_n)) ] / (1 + sum of w), shape (Q,).

    Args:
        target_Q1: logits of the targets.
        logits_QC: logits of all candidates.
        weights_QC: how often each is a negative.
        exponent_Q: of the targets' probabilities.
    """
    # log(1 - sigmoid(s)) = -softplus(s): nothing overflows.
    positive_Q = F.softplus(-target_Q1[:, 0]) * exponent_Q
    negative_Q = (F.softplus(logits_QC) * weights_QC).sum(1)
    return (positive_Q + negative_Q) / (weights_QC.sum(1) + 1)
