"""Bayesian personalised ranking."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch.nn import functional as F

from peftrec.losses.contrast import ContrastLoss, Formula
from peftrec.losses.loss import LossInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bpr(ContrastLoss):
    """The next item should score above each negative: the negative log-likelihood of all these pairs.

    loss = mean_p mean_(n in S_p) [ -log sigmoid(s_target - s_n) ]; see `ContrastLoss` for S_p. A position without
    negatives adds 0.

    Source:
        Rendle et al. (2009), BPR: Bayesian Personalized Ranking from Implicit Feedback, sec. 4.1 (BPR-OPT), with the
        mean over several negatives in place of one, and weight decay (`optimizer.weight_decay`) as its regulariser.
    """

    kind: ClassVar[str] = "bpr"

    def formula(self, inputs: LossInputs) -> Formula:
        del inputs
        return _pairs


def _pairs(target_Q1: torch.Tensor, logits_QC: torch.Tensor, weights_QC: torch.Tensor) -> torch.Tensor:
    total_Q = weights_QC.sum(1).clamp(min=1)
    return (F.softplus(logits_QC - target_Q1) * weights_QC).sum(1) / total_Q
