"""Generalised binary cross-entropy: negatives are few, and the loss knows it."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import torch

from peftrec.config import Range
from peftrec.losses.bce import binary_cross_entropy
from peftrec.losses.contrast import ContrastLoss, Formula
from peftrec.losses.loss import LossInputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gbce(ContrastLoss):
    """Binary cross-entropy whose positive is tempered, so that few negatives do not make the model overconfident.

    loss = mean_p -1 / (|S_p| + 1) [ log sigmoid(s_target)^beta + sum_(n in S_p) log(1 - sigmoid(s_n)) ], where
    beta = alpha (t (1 - 1 / alpha) + 1 / alpha) and alpha = |S_p| / (N - 1), the share of the N items with training
    events that are negatives; see `ContrastLoss` for S_p, and `bce` for the margin. With t = 0, or all items as
    negatives, this is `bce`. Alpha takes negatives for a uniform sample.

    Args:
        calibration: t, from 0 (`bce`) to 1 (probabilities as if all other items were negatives).
    Source:
        Petrov and Macdonald (2023), gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative
        Sampling, its definition of gBCE and of beta(alpha, t); alpha is of each position's own negatives here.
    """

    kind: ClassVar[str] = "gbce"
    learns_margin: ClassVar[bool] = True

    calibration: Annotated[float, Range(ge=0, le=1)] = 0.75

    def formula(self, inputs: LossInputs) -> Formula:
        assert inputs.num_items is not None, "the share of negatives is of all items"
        others = max(1, inputs.num_items - 1)

        def tempered(target_Q1: torch.Tensor, logits_QC: torch.Tensor, weights_QC: torch.Tensor) -> torch.Tensor:
            alpha_Q = (weights_QC.sum(1) / others).clamp(max=1)
            # The definition, multiplied out: it holds for alpha = 0 too.
            beta_Q = 1 - self.calibration * (1 - alpha_Q)
            return binary_cross_entropy(target_Q1, logits_QC, weights_QC, beta_Q)

        return tempered
