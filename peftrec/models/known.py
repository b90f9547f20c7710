"""What a model may be told of users beside their histories.

Shapes: B users, L places of a history, N items.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray


class Known(TypedDict, total=False):
    """Keywords of `RecommenderModel.scores`.

    Args:
        users_B: indexes of the users, where texts or attributes of theirs are known.
        events_BL: kinds of the events, where texts are read and there are kinds.
        times_BL: when events happened, milliseconds since 1970; read where `needs_times`.
        items_N: which items of the catalogue the item vectors are of, for users' texts; None for all.
    """

    users_B: NDArray[np.int64] | None
    events_BL: NDArray[np.int64] | None
    times_BL: NDArray[np.int64] | None
    items_N: torch.Tensor | None
