"""A model's scores of its whole catalogue, for histories as they come from data.

Shapes: B users, L places of a history, N items of the catalogue, D width of item vectors.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.models.recommender_model import RecommenderModel

_Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class CatalogueScores:
    """A model with the vectors of its items.

    Args:
        model: in evaluation mode.
        vectors_ND: item vectors, from the model's `encode_catalogue`; those of new items may follow.
        bias_N: logit added to each item's score.
    """

    model: RecommenderModel
    vectors_ND: torch.Tensor
    bias_N: torch.Tensor

    @property
    def max_history(self) -> int:
        """Newest events of a history that are read."""
        return self.model.max_history

    def __call__(
        self,
        histories_BL: _Ints,
        users_B: _Ints | None = None,
        events_BL: _Ints | None = None,
        times_BL: _Ints | None = None,
    ) -> torch.Tensor:
        """Return the scores of all items, shape (B, N).

        Args:
            histories_BL: indexes of items, -1 for padding on the left.
            users_B: indexes of users of whom the model has been told, or None.
            events_BL: kinds of the events, or None.
            times_BL: when they happened, milliseconds since 1970, or None.
        """
        histories = torch.from_numpy(histories_BL).to(self.vectors_ND.device)
        return self.model.scores(
            histories, self.vectors_ND, self.bias_N, users_B=users_B, events_BL=events_BL, times_BL=times_BL
        )


class ProductCatalogueScores(CatalogueScores):
    """Those of a model without a second stage: score = bias + user . item, which can be made a block at a time."""

    def user_vectors(
        self,
        histories_BL: _Ints,
        users_B: _Ints | None = None,
        events_BL: _Ints | None = None,
        times_BL: _Ints | None = None,
    ) -> torch.Tensor:
        """Return the user vectors of that product, shape (B, D); arguments as for the scores."""
        histories = torch.from_numpy(histories_BL).to(self.vectors_ND.device)
        with torch.no_grad():
            users_BD = self.model.newest_user_vectors(
                histories, self.vectors_ND, users_B=users_B, events_BL=events_BL, times_BL=times_BL
            )
            scaled_BD: torch.Tensor = users_BD * self.model.scale()
            return scaled_BD


def scores_with(model: RecommenderModel, vectors_ND: torch.Tensor, bias_N: torch.Tensor) -> CatalogueScores:
    """Return what scores items of which the vectors are at hand; arguments as of `CatalogueScores`."""
    kind = ProductCatalogueScores if model.second_stage is None else CatalogueScores
    return kind(model, vectors_ND, bias_N)


def catalogue_scores(model: RecommenderModel) -> CatalogueScores:
    """Encode the catalogue with the present weights, and return what scores it.

    Args:
        model: put into evaluation mode.
    """
    model.eval()
    return scores_with(model, *model.encode_catalogue())
