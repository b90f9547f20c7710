"""Squared error of predicted ratings."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import torch

from peftrec.config import Range
from peftrec.losses.loss import LossConfig, LossInputs, check_positions, mean_over_positions
from peftrec.losses.negatives import BatchNegatives


@dataclasses.dataclass(frozen=True, kw_only=True)
class SquaredError(LossConfig):
    """How well the score of the next item is its rating; nothing is learned of items that were not rated.

    loss = mean_p [ (u_p . v_target + b_target + mean_rating - R_p)^2 + l2 (|u_p|^2 + |v_target|^2) ], with R_p the
    rating of the event and u_p the user vector times the scorer's scale. There are no negatives: the only candidates
    are the batch's items. Ratings must differ: of equal ones everything learns the same score. Lists rank by the
    predicted rating, and are evaluated as all lists are.

    Needs `data.ratings: true`. The dot product suits it better than the cosine, whose lengths are fixed.

    Args:
        l2: weight of the squared lengths.
        mean_rating: what scores are counted from, such as the mean of the ratings: the model then learns how far above
            it a rating is.
    Source:
        Koren, Bell and Volinsky (2009), Matrix Factorization Techniques for Recommender Systems, eq. 2, with the mean
        (eq. 4) and the items' biases where the model has them; users are what their history makes of them.
    """

    kind: ClassVar[str] = "squared_error"
    needs_ratings: ClassVar[bool] = True

    l2: Annotated[float, Range(ge=0)] = 0.01
    mean_rating: float = 0.0

    @property
    def source(self) -> BatchNegatives:
        return BatchNegatives()

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        check_positions(inputs)
        assert inputs.ratings_P is not None, "this loss is of ratings"
        items_PD = inputs.candidates_CD[inputs.targets_P]
        scores_P = (inputs.queries_PD * items_PD).sum(1)
        if inputs.bias_C is not None:
            scores_P = scores_P + inputs.bias_C[inputs.targets_P]
        error_P = scores_P + self.mean_rating - inputs.ratings_P
        lengths_P = inputs.queries_PD.square().sum(1) + items_PD.square().sum(1)
        return mean_over_positions(error_P.square() + self.l2 * lengths_P, inputs.weights_P)
