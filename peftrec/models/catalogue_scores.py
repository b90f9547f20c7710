"""A model's scores of its whole catalogue, for histories as they come from data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.models.recommender_model import RecommenderModel

_Ints = NDArray[np.int64]


def catalogue_scores(
    model: RecommenderModel,
) -> Callable[[_Ints, _Ints, _Ints | None, _Ints | None], torch.Tensor]:
    """Encode the catalogue with the present weights, and return what scores it.

    Args:
        model: put into evaluation mode.
    Returns:
        A function from histories (B, L) as indexes of items, indexes of their users (B,), kinds and times of the events
        (B, L) or None, to scores (B, N).
    """
    model.eval()
    vectors_ND, bias_N = model.encode_catalogue()

    def scores(histories_BL: _Ints, users_B: _Ints, events_BL: _Ints | None, times_BL: _Ints | None) -> torch.Tensor:
        histories = torch.from_numpy(histories_BL).to(model.device)
        return model.scores(histories, vectors_ND, bias_N, users_B=users_B, events_BL=events_BL, times_BL=times_BL)

    return scores
